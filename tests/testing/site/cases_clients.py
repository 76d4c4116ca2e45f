"""Clients that people use: each is noticed, the real one and what tests put in its place."""

from __future__ import annotations

import asyncio
import http.client
import ssl
import threading
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import boto3
import httpx
import pytest
import requests
import responses
import respx
import urllib3
from botocore.stub import Stubber
from django.db import transaction
from shop import payments
from shop.models import Order

from django_pooled_pg import no_connection_while_calling

pytestmark = pytest.mark.django_db


def by_requests():
    requests.get(payments.url)


def by_httpx():
    httpx.get(payments.url)


def by_httpx_async():
    async def get():
        async with httpx.AsyncClient() as client:
            await client.get(payments.url)

    asyncio.run(get())


def by_urllib3():
    with urllib3.PoolManager() as pool:
        pool.request("GET", payments.url)


def by_aiohttp():
    async def get():
        async with aiohttp.ClientSession() as session, session.get(payments.url) as response:
            await response.read()

    asyncio.run(get())


def s3():
    return boto3.client(
        "s3",
        endpoint_url=payments.url,
        region_name="eu-west-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )


def by_boto3():
    s3().get_object(Bucket="books", Key="one")


def by_a_mocked_boto3():
    client = s3()
    with Stubber(client) as stubber:
        stubber.add_response("get_object", {})
        client.get_object(Bucket="books", Key="one")


@responses.activate
def by_a_mocked_requests():
    responses.get("https://api.example.com/")
    requests.get("https://api.example.com/")


@respx.mock
def by_a_mocked_httpx():
    respx.get("https://api.example.com/")
    httpx.get("https://api.example.com/")


calls = pytest.mark.parametrize(
    "call",
    [
        by_requests,
        by_httpx,
        by_httpx_async,
        by_urllib3,
        by_aiohttp,
        by_boto3,
        by_a_mocked_boto3,
        by_a_mocked_requests,
        by_a_mocked_httpx,
    ],
    ids=lambda call: call.__name__,
)


@calls
def test_with_a_connection_fails(call):
    with no_connection_while_calling(), transaction.atomic():
        Order.objects.count()
        call()


@calls
def test_without_one(call):
    with no_connection_while_calling():
        Order.objects.count()
        call()


def test_tls_of_a_connection_that_was_kept_alive_fails():
    """It goes past the methods of sockets."""
    support = Path(__file__).parents[2] / "support" / "tls"
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(support / "server.crt", support / "server.key")
    trusting = ssl._create_unverified_context()
    server = payments.Server(("127.0.0.1", 0), payments.Handler)
    server.socket = served.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with ExitStack() as stack:
        stack.callback(thread.join)
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        client = http.client.HTTPSConnection(*server.server_address, context=trusting)
        stack.callback(client.close)
        payments.ask(client)
        with no_connection_while_calling(), transaction.atomic():
            payments.ask(client)
