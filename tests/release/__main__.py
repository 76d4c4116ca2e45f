"""Builds the wheel and the sdist, and tries each one in an environment of its own.

python -m tests.release [--output dist]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

import django_pooled_pg
from testproject.embedded import database_url
from tests.support.processes import ROOT

SMOKE = Path(__file__).with_name("smoke.py")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.release", description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="default: dist")
    output = parser.parse_args().output
    version = django_pooled_pg.__version__
    check_changelog(version)
    run(sys.executable, "-m", "build", "--outdir", str(output), str(ROOT))
    wheel = output / f"django_pooled_pg-{version}-py3-none-any.whl"
    sdist = output / f"django_pooled_pg-{version}.tar.gz"
    check_files(wheel, sdist)
    url = database_url("release")
    for artefact in (wheel, sdist):
        try_out(artefact, version, url)
        print(f"{artefact.name}: installs and works", flush=True)


def check_changelog(version: str) -> None:
    """The changelog tells of this version, or of what comes next."""
    heading = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    if heading is None or heading[1].split(" ")[0] not in ("Unreleased", version):
        sys.exit(f"CHANGELOG.md doesn't begin with 'Unreleased' or {version}")


def check_files(wheel: Path, sdist: Path) -> None:
    """The wheel has the package's files, all of them; the sdist has what `make test` needs, too."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    package = {name for name in tracked if name.startswith("django_pooled_pg/")}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    compare(wheel, packed, package)
    with tarfile.open(sdist) as archive:
        packed = {member.name.split("/", 1)[1] for member in archive if member.isfile()}
    compare(sdist, packed, {*tracked, "PKG-INFO"} - {".ci/run"})


def compare(artefact: Path, packed: set[str], expected: set[str]) -> None:
    if packed != expected:
        sys.exit(
            f"{artefact.name}: missing {sorted(expected - packed)}; "
            f"unexpected {sorted(packed - expected)}"
        )


def try_out(artefact: Path, version: str, url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(Path(folder, "venv"), with_pip=True)
        python = str(Path(folder, "venv", "bin", "python"))
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(*pip, f"{artefact}", "psycopg[binary]")
        # Nothing of this environment and of this folder gets there.
        run(python, "-I", str(SMOKE), version, url, cwd=folder, env={"TMPDIR": folder})


def run(*command: str, cwd: str | None = None, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
