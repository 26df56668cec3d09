"""Packages of npm that tests need: fetched once, in one version, into build/npm of the checkout."""

import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path(__file__).resolve().parents[1] / "build" / "npm"


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
        alone = ("--no-save", "--ignore-scripts", "--no-audit", "--no-fund")
        patience = (
            "--fetch-retries=5",
            "--fetch-timeout=30000",
        )  # ms; one that hangs is made again
        command = [npm, "install", "--prefix", str(folder), *alone, *patience, wanted]
        subprocess.run(command, check=True, capture_output=True, timeout=400)
    return package
