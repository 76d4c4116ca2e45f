"""The site's addresses."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("pools/", include("django_pooled_pg.monitoring.urls")),
    path("", include("testproject.library.urls")),
]
