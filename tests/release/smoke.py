"""What somebody who has just installed the package does; runs in an environment with nothing else.

    python -I smoke.py VERSION DATABASE_URL

In the working folder it starts a Django project with the engine, checks and migrates it, asks for
pages, and looks at the pools with the commands.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

SETTINGS = """
DATABASES = {{"default": {{"ENGINE": "django_pooled_pg", **{database!r}}}}}
INSTALLED_APPS += ["django_pooled_pg"]
MIDDLEWARE += ["django_pooled_pg.middleware.PoolExhaustedMiddleware"]
ALLOWED_HOSTS = ["testserver"]
"""

URLS = """
from django.urls import include
urlpatterns += [path("pools/", include("django_pooled_pg.monitoring.urls"))]
"""

VISIT = """
import json, sys
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
client = Client()
client.force_login(User.objects.get_or_create(username="staff", is_staff=True)[0])
for path in ("/pools/", "/pools/metrics", "/admin/"):
    response = client.get(path)
    assert response.status_code == 200, (path, response.status_code)
page = client.get("/pools/").content.decode()
assert "default" in page
call_command("poolstats", json=True)
"""


def main(version: str, url: str) -> None:
    import django_pooled_pg

    package = Path(django_pooled_pg.__file__).parent
    assert package.is_relative_to(sys.prefix), package
    assert django_pooled_pg.__version__ == version == importlib.metadata.version("django-pooled-pg")
    assert (package / "py.typed").exists()

    parts = urlsplit(url)
    database = {
        "NAME": parts.path.removeprefix("/"),
        "USER": parts.username,
        "PASSWORD": parts.password or "",
        "HOST": parts.hostname,
        "PORT": str(parts.port or ""),
    }
    run("-m", "django", "startproject", "site_of_smoke", ".")
    append("site_of_smoke/settings.py", SETTINGS.format(database=database))
    append("site_of_smoke/urls.py", URLS)
    checked = run("manage.py", "check", "--database", "default", "--fail-level", "WARNING")
    assert "no issues" in checked, checked
    run("manage.py", "migrate", "--verbosity", "0")
    [process] = json.loads(run("manage.py", "shell", "--verbosity", "0", "-c", VISIT))["processes"]
    [pool] = process["pools"]
    assert pool["borrows"] > 4, pool
    assert pool["connects"] == 1, pool
    assert "No live process" in run("manage.py", "poolstats")


def append(file: str, text: str) -> None:
    with Path(file).open("a") as opened:
        opened.write(text)


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], env=dict(os.environ), capture_output=True, text=True
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
