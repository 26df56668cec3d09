"""The Debian package, in a Debian that boots: only where `make package-test` asks for it."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
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
    built = tmp_path_factory.mktemp("newer") / "relayd_next.deb"
    repack(unpacked, built, lambda version: f"{version}+next")
    return built


@pytest.fixture(scope="session")
def releases(
    unpacked: Path, package: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The package and two later ones, by the names of docs/operate.md; 0.3.0 adds a migration."""
    folder = tmp_path_factory.mktemp("releases")
    _, version, architecture = package.stem.split("_")
    ours, _, debian = version.partition("+")
    made = {package.name: package}
    for later, note in (("0.2.0", False), ("0.3.0", True)):
        built = folder / f"relayd_{later}+{debian}_{architecture}.deb"
        repack(unpacked, built, partial(re.sub, re.escape(ours), later), note=note)
        made[built.name] = built
    return made


def repack(
    unpacked: Path, built: Path, rename: Callable[[str], str], *, note: bool = False
) -> None:
    """Builds a package anew, as another version.

    Args:
        unpacked: its files.
        built: the new one.
        rename: the new version for the old one.
        note: whether it brings one more migration.
    """
    tree = built.with_suffix(".tree")
    shutil.copytree(unpacked, tree, symlinks=True)
    control = tree / "DEBIAN" / "control"
    text = re.sub(r"(?m)(?<=^Version: ).*", lambda found: rename(found[0]), control.read_text())
    control.write_text(text, encoding="utf-8")
    (source,) = tree.glob("usr/lib/relayd/lib/python3.*/site-packages/relayd/__init__.py")
    text = source.read_text()
    source.write_text(re.sub('(?<=__version__ = ")[^"]*', lambda found: rename(found[0]), text))
    for schema in source.parent.glob("_schema/*") if note else ():
        number = len(list(schema.glob("*.rollback.sql"))) + 1
        (schema / f"{number:04}.notes.sql").write_text("CREATE TABLE notes (id INTEGER);")
        (schema / f"{number:04}.notes.rollback.sql").write_text("DROP TABLE notes;")
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(built)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    shutil.rmtree(tree)


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
    # the pages say `apt install`, which asks before it changes more than what was named
    (root / "etc/apt/apt.conf.d/90yes").write_text('APT::Get::Assume-Yes "true";\n')
    container = Container(root)
    container.boot()
    try:
        yield container
    finally:
        container.power_off()
