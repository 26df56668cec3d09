"""The Debian package, in a Debian that boots: only where `make package-test` asks for it."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.package.container import Container, make_root

ASKED_FOR = os.environ.get("PACKAGE_TO_TEST", "")
collect_ignore_glob = [] if ASKED_FOR else ["test_*.py"]


@pytest.fixture(scope="session")
def package() -> Path:
    """The .deb."""
    return Path(ASKED_FOR).resolve()


@pytest.fixture(scope="session")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its files, and its control files in DEBIAN/."""
    folder = tmp_path_factory.mktemp("unpacked") / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True)
    return folder


@pytest.fixture(scope="session")
def newer(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package as a newer version: to upgrade to."""
    folder = tmp_path_factory.mktemp("newer")
    tree = folder / "tree"
    shutil.copytree(unpacked, tree, symlinks=True)
    control = tree / "DEBIAN" / "control"
    control.write_text(
        re.sub(r"(?m)^Version: (.*)$", r"Version: \1+next", control.read_text()), encoding="utf-8"
    )
    (source,) = tree.glob("usr/lib/relayd/lib/python3.*/site-packages/relayd/__init__.py")
    source.write_text(re.sub(r'(__version__ = ".*)"', r'\1+next"', source.read_text()))
    built = folder / "relayd_next.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(built)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return built


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Debian with what the package needs and is used with, but without the package."""
    folder = tmp_path_factory.mktemp("debian")
    try:
        yield make_root(folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def debian(root: Path, package: Path, newer: Path) -> Iterator[Container]:
    """That Debian, booted; the packages lie in /root."""
    shutil.copy(package, root / "root" / "relayd.deb")
    shutil.copy(newer, root / "root" / "relayd_next.deb")
    container = Container(root)
    container.boot()
    try:
        yield container
    finally:
        container.power_off()
