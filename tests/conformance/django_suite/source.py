"""Gets tests that only come with source distributions, above all Django's, and what they import."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import django

# Of what Django's tests/requirements/py3.txt names: tblib carries tracebacks from one process to
# the other; without the rest, tests are skipped. Left out is what needs a compiler, a browser or
# another server, or takes part in hardly a test.
PACKAGES = {
    "aiosmtpd",
    "argon2-cffi",
    "bcrypt",
    "docutils",
    "jinja2",
    "numpy",
    "Pillow",
    "PyYAML",
    "tblib",
    "tzdata",
}


class NotHad(SystemExit):
    """pip said no."""


def source(cache: Path) -> Path:
    """Return the unpacked source of the Django that is installed; get it if need be."""
    return unpacked(cache, "django", django.__version__)


def unpacked(cache: Path, package: str, version: str) -> Path:
    """Return the unpacked source distribution of a package; raises `NotHad`."""
    folder = cache / f"{package}-{version}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Beside it, and moved when it is whole.
        with tempfile.TemporaryDirectory(dir=cache) as half:
            options = ["--no-deps", f"--no-binary={package}", f"--dest={half}"]
            _pip("download", *options, f"{package}=={version}")
            (archive,) = Path(half).glob("*.tar.gz")
            with tarfile.open(archive) as tar:
                # Python 3.11.4 and newer has it.
                checked = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                tar.extractall(half, **checked)
            (unpacked,) = (path for path in Path(half).iterdir() if path.is_dir())
            unpacked.rename(folder)
    return folder


def packages(cache: Path, source: Path, *, all_of_them: bool) -> Path:
    """Return a folder with what Django's tests import: tblib, or all that we let them have."""
    version = "{}.{}".format(*sys.version_info)
    name = f"packages-{django.__version__}-py{version}{'-all' if all_of_them else ''}"
    listed = (source / "tests/requirements/py3.txt").read_text()
    wanted = PACKAGES if all_of_them else {"tblib"}
    return installed(cache / name, requirements(listed, wanted))


def installed(folder: Path, requirements: list[str], *options: str) -> Path:
    """Return the folder, in which these packages are; raises `NotHad`.

    Beside what is installed, so that nothing in this environment changes.
    """
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent) as half:
            _pip("install", f"--target={half}/packages", *options, *requirements)
            shutil.move(f"{half}/packages", folder)
    return folder


def requirements(listed: str, wanted: set[str]) -> list[str]:
    """Return the lines of a requirements file that are about packages of these names."""
    found = [line.strip() for line in listed.splitlines()]
    return [line for line in found if re.split(r"[\s;<>=!~\[]", line)[0] in wanted]


def _pip(command: str, *arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", command]
    done = subprocess.run([*pip, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise NotHad(f"pip {command} {' '.join(arguments)} failed:\n{done.stderr}")
