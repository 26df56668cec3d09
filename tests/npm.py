"""Packages of npm that tests need: fetched once, in one version, into build/npm of the checkout."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path(__file__).resolve().parents[1] / "build" / "npm"
TRUSTED = "/etc/ssl/certs/ca-certificates.crt"
"""Whom this machine trusts; Node asks its own list otherwise."""


def npm_package(name: str, version: str) -> Path:
    """The folder of a package, which is fetched if it is not there.

    Args:
        name: such as `axe-core`, with its scope if it has one.
        version: exactly this one.
    """
    wanted = f"{name}@{version}"
    folder = CACHE / wanted.removeprefix("@").replace("/", "+")
    package = folder / "node_modules" / name
    if not (package / "package.json").exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.fail("npm is missing; make test installs it")
        folder.mkdir(parents=True, exist_ok=True)
        quiet = ("--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=5")
        command = [npm, "install", "--prefix", str(folder), *quiet, wanted]
        trusting = {"NODE_EXTRA_CA_CERTS": TRUSTED, **os.environ}
        subprocess.run(command, check=True, capture_output=True, timeout=400, env=trusting)
    return package
