from __future__ import annotations

from asgiref.sync import sync_to_async
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path

from shop import payments
from shop.models import Order


def query_then_charge(request: HttpRequest) -> HttpResponse:
    Order.objects.count()
    payments.charge()
    Order.objects.count()
    return HttpResponse("ok")


def charge_then_query(request: HttpRequest) -> HttpResponse:
    payments.charge()
    return HttpResponse(str(Order.objects.count()))


@transaction.atomic
def charge_in_transaction(request: HttpRequest) -> HttpResponse:
    Order.objects.create(text="one")
    payments.charge()
    return HttpResponse("ok")


def two_transactions(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        Order.objects.create(text="one")
        Order.objects.count()
    payments.charge()
    with transaction.atomic():
        Order.objects.create(text="two")
        with transaction.atomic():
            Order.objects.count()
    return HttpResponse("ok")


def set_parameter(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SET work_mem = '5MB'")
    return HttpResponse("ok")


async def asynchronous(request: HttpRequest) -> HttpResponse:
    await Order.objects.acount()
    await sync_to_async(payments.charge, thread_sensitive=False)()
    return HttpResponse("ok")


urlpatterns = [
    path(view.__name__, view)
    for view in (
        query_then_charge,
        charge_then_query,
        charge_in_transaction,
        two_transactions,
        set_parameter,
        asynchronous,
    )
]
