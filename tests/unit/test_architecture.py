"""The map in docs/architecture.md is the tree, dependencies point down, modules stay short.

Read from the source with `ast`; only the last test imports relayd, in a process of its own.
"""

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

TAKES_THE_REACTOR = ("tap", "ctl")
MOST_LINES = 400
MOST_FLAT = 16
"""Modules that stand flat in relayd/, `__init__.py` among them."""

ROOT = Path(__file__).resolve().parents[2]
MAP = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("```")[1]
# The map has one line for each room and each flat module, from top to bottom; deeper lines go on.
ROOMS = dict(re.findall(r"(?m)^relayd/(\w+)(?:/|\.py) +(.*(?:\n .*)*)", MAP))
HEIGHT = {name: -depth for depth, name in enumerate(ROOMS)}
SOURCES = sorted((ROOT / "relayd").rglob("*.py"))
COMPILED = sorted((ROOT / "relayd").rglob("*.pyx"))
DECLARED = sorted((ROOT / "relayd").rglob("*.pxd"))

WIRING = ("application", "assembly", "node", "tap", "workers")
"""Where parts are put together, started and stopped."""

UNNAMED = {"ctl": ("doctor", "bench")}
"""Rooms within rooms whose modules the map does not name one by one."""


def module_name(path: Path) -> str:
    """`relayd.storage.pool` for relayd/storage/pool.py, `relayd.storage` for its __init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(module: str) -> str:
    """`storage` for `relayd.storage.pool`; empty for `relayd` itself."""
    return module.partition(".")[2].partition(".")[0]


def imports(source: str, module: str, *, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Line and full name of everything the source imports, wherever the statement stands.

    `from a import b` gives `a.b`: whether b is a module or a name in one makes no difference here.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = [*base, *([node.module] if node.module else [])]
            for alias in node.names:
                yield node.lineno, ".".join([*origin, alias.name])


def wrong_imports(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """One sentence for each import that points up or sideways, or takes the reactor."""
    own = layer(module)
    wrong = []
    for line, name in imports(source, module, is_package=is_package):
        if name.startswith("twisted.internet.reactor") and own not in TAKES_THE_REACTOR:
            wrong.append(f"{module}:{line} takes the reactor; it is to be an argument")
        if not name.startswith("relayd."):
            continue
        other = layer(name)
        if other == own or other.startswith("__"):
            continue
        if not own:
            wrong.append(f"{module}:{line} imports {name}; the package itself imports nothing")
        elif other not in HEIGHT:
            wrong.append(f"{module}:{line} imports {name}, which has no place on the map")
        elif HEIGHT[other] >= HEIGHT[own]:
            wrong.append(f"{module}:{line} imports {name}, which does not lie below {own}")
    return wrong


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_dependencies_point_down(path: Path) -> None:
    module = module_name(path)
    assert not layer(module) or layer(module) in HEIGHT, f"{module} has no place on the map"
    source = path.read_text(encoding="utf-8")
    assert wrong_imports(source, module, is_package=path.name == "__init__.py") == []


@pytest.mark.parametrize("path", [*COMPILED, *DECLARED], ids=module_name)
def test_dependencies_of_the_compiled_modules_point_down(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    ours = [line for line in lines if line.startswith(("from relayd", "import relayd"))]
    plain = "\n".join(line.replace(" cimport ", " import ") for line in ours)
    assert wrong_imports(plain, module_name(path)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("relayd.wire", "from relayd.hub import Hub"),
        ("relayd.wire", "import relayd.hub"),
        ("relayd.wire", "from relayd import errors, hub"),
        ("relayd.wire", "from . import hub"),
        ("relayd.relays.chat", "from ..web import pages"),
        ("relayd.relays.chat", "def later():\n    from relayd.tap import makeService"),
        ("relayd.ctl.main", "from relayd.tap import Options"),
        ("relayd.tap", "import relayd.nowhere"),
        ("relayd", "from relayd import wire"),
        ("relayd.hub", "from twisted.internet import reactor"),
        ("relayd.hub", "import twisted.internet.reactor"),
    ],
)
def test_an_import_that_points_up_is_found(module: str, source: str) -> None:
    assert len(wrong_imports(source, module, is_package=module == "relayd")) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("relayd.hub", "from relayd import __version__, errors, wire"),
        ("relayd.relays.chat", "from relayd.relays import base\nfrom . import camera"),
        ("relayd.tap", "from twisted.internet import reactor\nfrom .storage.pool import Database"),
        ("relayd.hub", "from twisted.internet import defer"),
    ],
)
def test_an_import_that_points_down_is_fine(module: str, source: str) -> None:
    assert wrong_imports(source, module) == []


@pytest.mark.parametrize("path", [*SOURCES, *COMPILED], ids=module_name)
def test_a_module_stays_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_the_map_shows_every_module_and_nothing_else() -> None:
    rooms = {path.relative_to(ROOT / "relayd").parts[0] for path in [*SOURCES, *COMPILED]}
    assert set(ROOMS) == {room.removesuffix(".py") for room in rooms} - {"__init__"}


@pytest.mark.parametrize("path", [*SOURCES, *COMPILED], ids=module_name)
def test_a_room_on_the_map_names_its_modules(path: Path) -> None:
    room, *inside = path.relative_to(ROOT / "relayd").with_suffix("").parts
    if inside and path.stem != "__init__" and inside[0] not in UNNAMED.get(room, ()):
        words = re.findall(r"[\w/]+", ROOMS[room])
        assert path.stem in words, f"the map does not name {path.stem} in {room}/"


def test_at_most_16_modules_stand_flat() -> None:
    assert len(list((ROOT / "relayd").glob("*.py"))) <= MOST_FLAT


def test_every_folder_of_modules_is_a_package() -> None:
    """setuptools leaves a folder without __init__.py out of the wheel without a word."""
    bare = {path.parent for path in SOURCES if not (path.parent / "__init__.py").exists()}
    assert bare == set()


def test_the_plugin_is_no_package_and_imports_nothing_of_ours() -> None:
    folder = ROOT / "twisted"
    assert sorted(path.name for path in folder.rglob("*.py")) == ["relayd_plugin.py"]
    source = (folder / "plugins" / "relayd_plugin.py").read_text(encoding="utf-8")
    assert [name for _, name in imports(source, "relayd_plugin") if "relayd" in name] == []


HELPED = sorted([*(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")])


@pytest.mark.parametrize("path", HELPED, ids=module_name)
def test_nothing_is_imported_from_a_module_of_tests(path: Path) -> None:
    """Shared helpers stand in a module without tests, or as fixtures in a conftest.py."""
    found = imports(path.read_text(encoding="utf-8"), module_name(path))
    assert [name for _, name in found if re.search(r"\btests\.(\w+\.)*test_", name)] == []


@pytest.mark.parametrize(
    "path", [path for path in HELPED if not path.name.startswith("test_")], ids=module_name
)
def test_a_module_that_tests_share_has_no_tests(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert [name for name in names if name.startswith(("test_", "Test"))] == []


def completions(source: str, *, wires: bool) -> list[str]:
    """One sentence for each statement with which a part is complete only after its constructor.

    That is a lambda that stands in an attribute until somebody assigns the real thing and, in a
    module that wires, an assignment to an attribute of anything but `self`. `LoopingCall.clock` may
    be assigned: its constructor does not take it.
    """
    wrong = []
    for node in ast.walk(ast.parse(source)):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = list(node.targets)
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "setattr":
            targets = [ast.Attribute(node.args[0], "", ast.Store())]
        for target in targets:
            for each in ast.walk(target):
                if not isinstance(each, ast.Attribute) or not isinstance(each.ctx, ast.Store):
                    continue
                own = isinstance(each.value, ast.Name) and each.value.id == "self"
                stands_in = isinstance(getattr(node, "value", None), ast.Lambda)
                if stands_in or (wires and not own and each.attr != "clock"):
                    wrong.append(f"a part is completed by: {ast.unparse(node)}")
    return wrong


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_a_part_is_complete_when_its_constructor_returns(path: Path) -> None:
    wires = layer(module_name(path)) in WIRING
    assert completions(path.read_text(encoding="utf-8"), wires=wires) == []


@pytest.mark.parametrize(
    "statement",
    [
        "node.listener = worker.listener(reactor)",
        "reloader.before, reloader.after = notifier.reloading, notifier.serving_again",
        "context.config = context.admission.config = config",
        "self._door.give = self.handover.give",
        "worker.starts += 1",
        "service.silence: float = 5.0",
        "self.serving: Callable[[], object] = lambda: None",
        "setattr(node, name, value)",
    ],
)
def test_a_part_that_is_completed_later_is_found(statement: str) -> None:
    assert completions(statement, wires=True) != []


@pytest.mark.parametrize(
    "statement",
    [
        "self._node = node",
        "self._loop.clock = reactor",
        "first, self._rest = self._rest.split()",
        "self._found[node.number] = node",
        "report = node.report",
    ],
)
def test_an_attribute_that_a_part_sets_on_itself_is_fine(statement: str) -> None:
    assert completions(statement, wires=True) == []


def test_the_brokers_interface_names_no_store() -> None:
    """A relay must not know what keeps and carries its messages."""
    source = (ROOT / "relayd" / "brokers" / "interface.py").read_text(encoding="utf-8")
    rooms = {layer(name) for _, name in imports(source, "relayd.brokers.interface")}
    assert rooms & {"storage", "redis"} == set()
    assert "Redis" not in source


TELLING_NUMBER = re.compile(r"(12[567]|0x(7[def]|8[0-9a]))$")
TELLING_BYTES = re.compile(r"""r?br?["']+\\x(7[ef]|8[0-9a])""")


def numbers_of_a_head(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of everything that looks like a part of the head of a WebSocket frame.

    RFC 6455 section 5.2: FIN with an opcode (0x81), the mask's bit (0x80), the lengths that stand
    for a longer one (126, 127) and the longest that does not (125); bytes that begin with those.
    Tokens, since Cython's source is no Python that `ast` reads.
    """
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        text = token.string.replace("_", "").lower()
        looks_so = {tokenize.NUMBER: TELLING_NUMBER, tokenize.STRING: TELLING_BYTES}.get(token.type)
        if looks_so is not None and looks_so.match(text):
            yield token.start[0], token.string


@pytest.mark.parametrize("path", [*SOURCES, *COMPILED, *DECLARED], ids=module_name)
def test_framing_alone_knows_the_head_of_a_frame(path: Path) -> None:
    if module_name(path) != "relayd.native.framing":
        assert list(numbers_of_a_head(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        r'_PING = b"\x89\x00"',
        "to[0] = 0x81",
        "start = {126: 4, 127: 10}.get(frame[1], 2)",
        "if length <= 125:",
        "cdef int length = frame[1] - 0x80",
        r"first + b'\x7e' + length.to_bytes(2)",
    ],
)
def test_code_that_reads_or_writes_a_head_is_found(source: str) -> None:
    assert len(list(numbers_of_a_head(source))) == (2 if "127" in source else 1)


@pytest.mark.parametrize("path", COMPILED, ids=module_name)
def test_a_compiled_module_documents_callbacks_ownership_and_lifetimes(
    path: Path,
) -> None:
    head = path.read_text(encoding="utf-8").split('"""')[1]
    assert re.findall(r"(?m)^([A-Z][-\w]+): ", head) == ["Re-entry", "Descriptors", "Buffers"]


def test_lookalikes_of_frame_heads_are_not_reported() -> None:
    source = 'SPARE, INTERRUPTED = 128, 130\nHOST = "127.0.0.1"  # 0x81\nhigh = 0x8080808080808080'
    assert list(numbers_of_a_head(source)) == []


def test_the_packages_of_one_room_import_each_other_in_one_direction() -> None:
    ways = set()
    for path in SOURCES:
        module = module_name(path)
        for _, name in imports(path.read_text(encoding="utf-8"), module):
            own, other = module.split(".")[1:], name.split(".")[1:]
            if len(path.relative_to(ROOT).parts) > 3 and len(other) > 2 and own[0] == other[0]:
                ways.add((own[1], other[1]))
    assert [way for way in ways if way[0] != way[1] and way[::-1] in ways] == []


def test_importing_every_module_installs_no_reactor() -> None:
    """twistd chooses the reactor after it has loaded us: an import must not choose before it."""
    modules = [module_name(path) for path in SOURCES if path.name != "__main__.py"]
    program = (
        "import importlib, json, sys\n"
        "guilty = None\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    importlib.import_module(name)\n"
        "    if guilty is None and 'twisted.internet.reactor' in sys.modules:\n"
        "        guilty = name\n"
        "print(json.dumps(guilty))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, json.dumps(modules)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) is None


def test_the_name_of_a_test_has_its_own_subject() -> None:
    """A report shows the name alone: a pronoun in front would need the test above it."""
    bare = re.compile(
        r"def (test_(?:and|but|it|its|neither|nor|not|so|they|what|whatever|who|whoever)_\w+)"
    )
    names = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "bench").glob("test_*.py")]
        for name in bare.findall(path.read_text(encoding="utf-8"))
    }
    assert names == set()
