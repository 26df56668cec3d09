"""Statements of debian/ about the tree are true, so that no change of the tree is forgotten there.

What is in the package is looked at by `make package-test`.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from relayd import __version__
from relayd.edge.ports import BACKLOG

ROOT = Path(__file__).resolve().parents[2]


def pinned() -> set[str]:
    """The names in debian/requirements.txt, in small letters with hyphens."""
    text = (ROOT / "debian" / "requirements.txt").read_text(encoding="utf-8")
    return {name.lower().replace("_", "-") for name in re.findall(r"(?m)^([\w.-]+)==", text)}


def test_every_requirement_of_setup_and_of_the_extra_bench_is_pinned() -> None:
    """`make pin` brings it up to date."""
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    needed = re.search(r"install_requires=\[(.*?)\n    \]", setup, re.S)
    extra = re.search(r'"bench": \[(.*?)\]', setup, re.S)
    assert needed is not None
    assert extra is not None
    asked = re.findall(r'"([\w.-]+?)(?:\[[\w,]+\])?[<>=]', needed[1] + extra[1])
    assert "picows" in asked
    names = {name.lower().replace("psycopg2-binary", "psycopg2") for name in asked}
    assert names - pinned() == set()


def test_the_copyright_names_every_pinned_distribution() -> None:
    text = (ROOT / "debian" / "copyright").read_text(encoding="utf-8")
    named = re.findall(r"(?m)^Files: .*/([^/]+)-\*\.dist-info/\*$", text)
    assert {re.sub(r"[._]", "-", name.lower()) for name in named} == {
        name.replace(".", "-") for name in pinned()
    }


def test_the_changelog_is_for_this_version() -> None:
    first = (ROOT / "debian" / "changelog").read_text(encoding="utf-8").partition("\n")[0]
    assert first.startswith(f"relayd ({__version__})")


def test_the_socket_unit_has_the_backlog_of_every_other_port() -> None:
    unit = (ROOT / "debian" / "relayd.socket").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^Backlog=(\d+)$", unit) == [str(BACKLOG)]


def test_the_packaged_configuration_is_made_of_that_of_the_tree(tmp_path: Path) -> None:
    """debian/configuration replaces comments, which it finds by their words."""
    packaged = tmp_path / "relayd.toml"
    script = ROOT / "debian" / "configuration"
    command = [sys.executable, str(script), str(ROOT / "etc" / "relayd.toml"), str(packaged)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    text = packaged.read_text(encoding="utf-8")
    assert tomllib.loads(text)["database"]["url"] == "sqlite:////var/lib/relayd/relayd.db"
    assert "relayd.socket listens" in text


def directives(text: str) -> list[tuple[str, str]]:
    """The directives of a unit with their values, in their order."""
    return re.findall(r"(?m)^(\w+)=(.*)$", text)


@pytest.mark.parametrize("kind", ["service", "socket"])
def test_the_unit_of_an_instance_is_that_of_relayd_with_other_names(
    kind: str, tmp_path: Path
) -> None:
    """debian/instance replaces names; an instance is as hardened, and shares no file."""
    subprocess.run([sys.executable, str(ROOT / "debian" / "instance"), str(tmp_path)], check=True)
    ours = directives((ROOT / "debian" / f"relayd.{kind}").read_text(encoding="utf-8"))
    made = directives((tmp_path / f"relayd@.{kind}").read_text(encoding="utf-8"))
    assert [name for name, _ in made] == [name for name, _ in ours]
    others = {name for (name, value), one in zip(made, ours, strict=True) if (name, value) != one}
    named = {name for name, value in ours if "relay" in value or name == "ListenStream"}
    assert others == named - {"User", "Group", "Documentation", "WantedBy"}
    assert all("%i" in value for name, value in made if name in others)
