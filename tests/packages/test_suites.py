"""Other packages' own tests with our engine: none fails that passes with Django's own.

suites/suites.toml says which, and what is known to fail. Their source distributions come from pip's
package index; without one, these tests are skipped.
"""

from __future__ import annotations

import json
import sys
import tomllib
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import django
import pytest
from packaging.requirements import Requirement

from testproject.embedded import database_url
from tests.conformance.django_suite import server
from tests.conformance.django_suite.comparison import examine
from tests.conformance.django_suite.running import Suite
from tests.conformance.django_suite.source import NotHad, installed, unpacked

HERE = Path(__file__).parent / "suites"
RECORDER = Path(server.__file__).parent
CACHE = Path(sys.prefix, "suites")
SUITES = tomllib.loads((HERE / "suites.toml").read_text())["suite"]


def refuses(source: Path) -> str | None:
    """Return what of a package's requirements doesn't go with the Django that is here."""
    info = HeaderParser().parsestr((source / "PKG-INFO").read_text())
    for each in map(Requirement, info.get_all("Requires-Dist", [])):
        if each.name.lower() == "django" and not each.specifier.contains(
            django.__version__, prereleases=True
        ):
            return str(each)
    return None


def suite_of(description: dict[str, Any]) -> Suite:
    """Get what the suite needs; skips the test where that can't be had."""
    package, version = description["package"], description["version"]
    try:
        source = unpacked(CACHE, package, version)
        # Without what these need in turn: Django would be among it.
        needs = [f"{package}=={version}", *description.get("needs", [])]
        packages = installed(CACHE / f"{package}-{version}-packages", needs, "--no-deps")
    except NotHad as error:
        pytest.skip(str(error))
    if refused := refuses(source):
        pytest.skip(f"{package} {version} requires {refused}")
    folder, work = source / description.get("folder", "."), CACHE / "runs"
    work.mkdir(exist_ok=True)
    return Suite(
        command=["-m", "django", "test", "--settings=overlay", "--noinput"],
        folder=folder,
        path=[folder, packages, HERE, RECORDER],
        work=work,
        environment={
            "SUITE_SETTINGS": description["settings"],
            **description.get("environment", {}),
        },
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("return_at", ["request", "transaction"])
@pytest.mark.parametrize("package", [each["package"] for each in SUITES])
def test_a_suite_has_no_failure_that_is_ours_alone(
    package: str, return_at: server.ReturnAt, django_db_blocker: Any
) -> None:
    (description,) = (each for each in SUITES if each["package"] == package)
    suite = suite_of(description)
    url = database_url("postgres")

    def run(engine: str, databases: dict[str, Any]) -> Any:
        name = f"suite_{package}_{return_at}".replace("-", "_")
        databases = {"default": {**databases["default"], "NAME": name}}
        return lambda again, labels: suite.run(f"{package}-{return_at}-{again}", databases, labels)

    verdict = examine(
        run("ours", server.ours(url, return_at, server.PLAIN)),
        run("stock", server.stock(url, server.PLAIN)),
        description["tests"],
        {each["id"]: each["reason"] for each in description.get("known", [])},
    )
    for test, why in verdict.excused.items():
        print(f"{test}: {why}")
    assert verdict.errors == {}, json.dumps(verdict.errors, indent=1)
    assert verdict.passed > 50
