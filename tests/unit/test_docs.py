"""Names in docs/ and README.md exist: modules, functions, files, settings, commands.

A name counts when it stands in backquotes; so does every link. Console sessions are left out.
"""

import importlib
import re
from pathlib import Path

import msgspec
import pytest

from relayd.config import SECTIONS
from relayd.config.sources import read_file
from relayd.ctl.main import COMMANDS
from tests.package import story

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.ja.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROOMS = {path.stem for path in (ROOT / "relayd").iterdir()}

_SESSION = re.compile(r"(?ms)^```.*?^```$")
_QUOTED = re.compile(r"`([^`\n]+)`")
_DOTTED = re.compile(r"([a-z_]\w*)((?:\.\w+)+)")
_FILE = re.compile(r"(?:relayd|tests|docs|bench|schema|etc)/[\w./-]*")
_SETTING = re.compile(r"\[(\w+)\] (\w+)")
_COMMAND = re.compile(r"relayctl ([a-z][\w-]*)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_NO_MODULES = {"conf", "sock", "toml"}
"""Endings of files whose first word may be that of a room, such as `redis.conf`."""


def resolves(name: str) -> bool:
    """Whether `storage.pool.Database.run` is what it looks like: something in relayd."""
    *parts, last = name.split(".")
    if not parts:
        return True
    try:
        importlib.import_module(f"relayd.{name}")
    except ModuleNotFoundError:
        owner = _load(parts)
        return hasattr(owner, last) or last in getattr(owner, "__annotations__", ())
    return True


def _load(parts: list[str]) -> object:
    """The module or class that a dotted name leads to; None if there is none."""
    for end in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(["relayd", *parts[:end]]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[end:]:
            found = getattr(found, attribute, None)
        return found
    return None


def wrong_names(text: str) -> list[str]:
    """What stands in backquotes and does not exist."""
    wrong = []
    for quoted in _QUOTED.findall(_SESSION.sub("", text)):
        dotted = _DOTTED.fullmatch(quoted)
        ending = quoted.rpartition(".")[2]
        if dotted and dotted[1] in ROOMS and ending not in _NO_MODULES and not resolves(quoted):
            wrong.append(quoted)
        if _FILE.fullmatch(quoted) and not (ROOT / quoted).exists():
            wrong.append(quoted)
        for section, key in _SETTING.findall(quoted):
            if key not in msgspec.structs.asdict(SECTIONS[section]()):
                wrong.append(quoted)
        command = _COMMAND.match(quoted)
        if command and command[1] not in COMMANDS:
            wrong.append(quoted)
    return wrong


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = _SESSION.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_name_on_a_page_of_the_docs_exists(page: Path) -> None:
    assert wrong_names(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize(
    "text",
    [
        "`hub.Hub.fan_in`",
        "`storage.cellar`",
        "`storage.cellar.Database`",
        "`relayd/hubs.py`",
        "`[limits] coalescence`",
        "`relayctl levitate`",
    ],
)
def test_a_name_that_does_not_exist_is_found(text: str) -> None:
    assert len(wrong_names(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "`hub.Hub.fan_out`",
        "`native.fanout.Group.fan_out`",
        "`hub`",
        "`transport.write`",
        "`redis.conf`",
        "`relayd/hub.py`",
        "`[limits] coalesce`",
        "`relayctl status`",
        "```\n`relayctl levitate`\n```",
    ],
)
def test_a_name_that_exists_is_fine(text: str) -> None:
    assert wrong_names(text) == []


def test_every_chapter_that_shows_commands_is_run_or_left_out_with_a_reason() -> None:
    """By the package test, which compares what a command prints with what the page shows."""
    tests = (ROOT / "tests" / "package").glob("test_*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in tests)
    run = set(re.findall(r'transcripts\("(.+?)"\)', text))
    assert run.isdisjoint(story.LEFT_OUT)
    assert run | set(story.LEFT_OUT) == set(story.sessions("operate.md"))
    run = set(re.findall(r'documented\("(.+?)"', text))
    for page in ("install.md", "operate.md"):
        found = re.findall(
            r"(?ms)^##+ ([^\n]+)$(.*?)(?=^##+ |\Z)", (ROOT / "docs" / page).read_text()
        )
        assert {heading for heading, section in found if "\n```sh\n" in section} <= run, page


_TOML = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}:{page.read_text()[:at].count(chr(10)) + 1}")
    for page in PAGES
    for at, block in (
        (found.start(), found[1])
        for found in re.finditer(r"(?ms)^```toml\n(.*?)^```$", page.read_text(encoding="utf-8"))
    )
]


@pytest.mark.parametrize("block", _TOML)
def test_every_configuration_on_a_page_has_settings_that_relayd_takes(
    block: str, tmp_path: Path
) -> None:
    path = tmp_path / "relayd.toml"
    path.write_text(block, encoding="utf-8")
    for setting in read_file(str(path)):
        setting.convert()


def test_the_japanese_readme_has_the_commands_links_and_headings_of_the_english_one() -> None:
    """Its pictures are of the pages in Japanese."""
    english, japanese = (
        (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ja.md")
    )

    def shape(text: str) -> list[list[str]]:
        outside = re.sub(r"(?ms)^```.*?^```$", "", text)
        links = re.findall(r"(?<!!)\[[^]]*\]\(([^)]+)\)", outside)
        return [
            re.findall(r"(?ms)^```\w*\n.*?^```$", text),
            re.findall(r"(?m)^#+(?= )", outside),
            sorted(set(links) - {"README.md", "README.ja.md"}),
            sorted(set(re.findall(r"<http://[^>]+>", outside))),
        ]

    assert shape(japanese) == shape(english)
