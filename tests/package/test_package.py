"""The content of the package, without installing it."""

import fnmatch
import re
import subprocess
from pathlib import Path

import pytest

from relayd import __version__

pytestmark = pytest.mark.every_debian
ROOT = Path(__file__).resolve().parents[2]


def libraries(unpacked: Path) -> Path:
    """The folder of the distributions."""
    (found,) = unpacked.glob("usr/lib/relayd/lib/python3.*/site-packages")
    return found


def test_lintian_reports_nothing(package: Path) -> None:
    """No error and no warning; each override has its reason in a comment above it."""
    ran = subprocess.run(
        ["lintian", "--pedantic", "--allow-root", "--fail-on=error,warning", package],
        check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    lines = (ROOT / "debian" / "relayd.lintian-overrides").read_text().splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        assert line.startswith("#") or before.startswith("#"), line


def test_every_file_has_the_same_version(unpacked: Path) -> None:
    control = (unpacked / "DEBIAN" / "control").read_text()
    changelog = (ROOT / "debian" / "changelog").read_text()
    metadata = next(libraries(unpacked).glob("relayd-*.dist-info/METADATA")).read_text()
    for found in (
        re.search(r"(?m)^Version: (.*)\+debian\d+$", control),
        re.match(r"relayd \((.*)\)", changelog),
        re.search(r"(?m)^Version: (.*)$", metadata),
    ):
        assert found is not None
        assert found[1] == __version__


def test_the_copyright_names_every_shipped_distribution_and_no_other(unpacked: Path) -> None:
    text = (ROOT / "debian" / "copyright").read_text()
    named = set(re.findall(r"(?m)^Files: .*/([^/]+)-\*\.dist-info/\*$", text))
    shipped = {path.name for path in libraries(unpacked).glob("*.dist-info")}
    shipped = {name for name in shipped if not name.startswith("relayd-")}
    for name in shipped:
        assert sum(fnmatch.fnmatch(name, f"{one}-*.dist-info") for one in named) == 1, name
    assert len(named) == len(shipped)
    licences = set(re.findall(r"(?m)^License: (.*)$", text))
    explained = set(re.findall(r"(?m)^License: (.*)\n ", text))
    used = {part for licence in licences for part in re.split(" and | or ", licence)}
    assert used <= explained


def test_the_pinned_versions_are_the_shipped_ones(unpacked: Path) -> None:
    text = (ROOT / "debian" / "requirements.txt").read_text()
    pinned = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)", text))
    shipped = {}
    for path in libraries(unpacked).glob("*.dist-info"):
        name, _, version = path.name.removesuffix(".dist-info").partition("-")
        shipped[name.lower().replace("_", "-")] = version
    del shipped["relayd"]
    assert {name.lower().replace("_", "-").replace(".", "-"): version
            for name, version in pinned.items()} == shipped  # fmt: skip
    assert text.count("--hash=sha256:") >= len(pinned)
    assert "://" not in text


def test_no_file_that_becomes_stale_is_shipped(unpacked: Path) -> None:
    names = {path.name for path in unpacked.rglob("*")}
    assert names.isdisjoint({"__pycache__", "dropin.cache", "RECORD", "direct_url.json", "pip"})
    tree = unpacked / "usr"
    built_in = re.compile(rb"/tmp/[\w.]+/relayd")
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert not built_in.search(path.read_bytes()), path


def test_compiled_modules_are_shipped_and_stripped(unpacked: Path) -> None:
    objects = list(libraries(unpacked).rglob("*.so*"))
    names = {path.name.partition(".")[0] for path in objects}
    assert names >= {
        "hiredis", "_psycopg", "_nvx_utf8validator", "_rust", "calls", "fanout", "reading",
    }  # fmt: skip
    for path in objects:
        sections = subprocess.run(
            ["readelf", "--section-headers", "--wide", path],
            check=True, text=True, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert ".symtab" not in sections.stdout, path


def test_configuration_files_are_conffiles(unpacked: Path) -> None:
    conffiles = (unpacked / "DEBIAN" / "conffiles").read_text().split()
    assert conffiles == ["/etc/relayd/relayd.toml"]
    assert (unpacked / "etc" / "relayd" / "conf.d").is_dir()
    text = (unpacked / "etc" / "relayd" / "relayd.toml").read_text()
    assert 'url = "sqlite:////var/lib/relayd/relayd.db"' in text


def test_every_example_is_shipped_uncompressed(unpacked: Path) -> None:
    shipped = unpacked / "usr" / "share" / "doc" / "relayd" / "examples"
    for path in (ROOT / "etc" / "examples").rglob("*"):
        assert (shipped / path.relative_to(ROOT / "etc" / "examples")).exists(), path
