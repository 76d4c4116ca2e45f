"""The addresses of the dashboard, metrics and readiness, for
`include("django_pooled_pg.monitoring.urls")`.

The page links to the others relatively, so the prefix must end with a slash.
"""

from __future__ import annotations

from django.urls import path

from . import readiness
from .dashboard import views

app_name = "pooled_pg"

urlpatterns = [
    path("", views.page, name="dashboard"),
    path("metrics", views.metrics, name="metrics"),
    path("ready", readiness.ready, name="ready"),
    path("dashboard.js", views.asset, {"name": "dashboard.js"}, name="script"),
    path("dashboard.css", views.asset, {"name": "dashboard.css"}, name="style"),
]
