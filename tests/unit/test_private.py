"""Names of libraries that are not public stand in relayd.private alone, each with a way without it.

What is used is read from the source with `ast`, and from the compiled modules with `tokenize`; what
of that belongs to a library, from the source of the classes that ours are derived from.
"""

import ast
import contextlib
import functools
import importlib
import importlib.metadata
import inspect
import io
import itertools
import re
import select
import textwrap
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.logger import LogEvent, capturedLogs, formatEvent

from relayd import private

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for path in sorted((ROOT / "relayd").rglob("*.py"))
    if "private" not in path.parts and path.name != "__main__.py"
]
COMPILED = sorted(
    path for path in (ROOT / "relayd").rglob("*.p[yx][xd]") if path.suffix in (".pyx", ".pxd")
)
ENTRIES = [each for each in vars(private).values() if isinstance(each, private.Private)]

UNDOCUMENTED = {
    *(name for entry in ENTRIES for name in entry.names if name != "data"),
    *("consumeData", "dataBuffer", "floatToGoString", "processData", "sessionLost"),
}
"""Names that look public or do not, but are no part of what a library promises."""
PUBLIC = {"_exit"}
"""Names that look private, but are documented: `os._exit`."""

_private = re.compile(r"_(?!_)\w*[a-zA-Z]\w*").fullmatch
_private_module = re.compile(r"\w+(?:\.\w+)*\._[a-zA-Z]\w*").fullmatch


def own_names(tree: ast.AST) -> set[str]:
    """The private names that a module gives to something of its own, at whatever depth."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__slots__":
            names |= set(ast.literal_eval(node.value))
    return {name for name in names if _private(name)}


@functools.cache
def library_names(kind: type) -> frozenset[str]:
    """What a class of a library has, and what its methods keep in its instances."""
    names = set(vars(kind))
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError):
        return frozenset(names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
    return frozenset(names)


def bases_of(kind: ast.ClassDef, tree: ast.AST, namespace: dict[str, Any]) -> set[type]:
    """All classes of libraries that one of ours is derived from."""
    imported: dict[str, Any] = {}
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, ast.Import) else ():
            with contextlib.suppress(ImportError):  # it is not needed, or not here
                name = alias.asname or alias.name.partition(".")[0]
                imported[name] = importlib.import_module(alias.name)
    found: set[type] = set()
    for base in kind.bases:
        try:
            value = eval(ast.unparse(base), {**imported, **namespace})
        except NameError:  # a class made by a function, from its argument
            continue
        found |= {each for each in getattr(value, "__mro__", ()) if isinstance(each, type)}
    ours = ("relayd", "builtins", "typing", "abc", "zope.interface", "enum")
    return {each for each in found if not each.__module__.startswith(ours)}


def wrong_names(source: str, namespace: dict[str, Any], everywhere: set[str]) -> Iterator[str]:
    """One sentence for each use of a name that is a library's own affair.

    Args:
        source: of a module of ours.
        namespace: its names, to find the classes that it derives from.
        everywhere: private names that some module of ours defines: for what is inherited.
    """
    tree = ast.parse(source)
    here = own_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = node.attr
            if not (_private(name) or name in UNDOCUMENTED):
                continue
            value = ast.unparse(node.value)
            own = value in ("self", "cls", "super()")
            known: set[str] = here | everywhere if own else here - UNDOCUMENTED
            if name not in known | PUBLIC:
                yield f"line {node.lineno} uses {value}.{name}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            origin = getattr(node, "module", None) or ""
            for alias in node.names:
                full = f"{origin}.{alias.name}".strip(".")
                ours = full.startswith(("relayd", "twisted.web.http_headers"))
                ours = ours or bool(getattr(node, "level", 0))
                if not ours and any(
                    _private(part) or part in UNDOCUMENTED for part in full.split(".")
                ):
                    yield f"line {node.lineno} imports {full}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value in UNDOCUMENTED - here or _private_module(node.value):
                yield f"line {node.lineno} names {node.value}"
        elif isinstance(node, ast.ClassDef):
            theirs = set().union(*map(library_names, bases_of(node, tree, namespace)))
            for name in sorted(_used_by(node) & theirs):
                yield f"line {node.lineno}: {node.name} uses {name} of the class it comes from"


def _used_by(kind: ast.ClassDef) -> set[str]:
    """Names that are a library's affair if it has them: of a class body, and of `self`."""
    names = {name for name in own_names(ast.Module(kind.body, [])) if _private(name)}
    for node in ast.walk(kind):
        if not isinstance(node, ast.Attribute) or not (_private(node.attr) or node.attr == "data"):
            continue
        if ast.unparse(node.value) in ("self", "super()"):
            names.add(node.attr)
    return names


def wrong_tokens(source: str, known: set[str]) -> Iterator[str]:
    """The same for a compiled module, in which only attributes and imports can be told apart.

    Args:
        source: of the module.
        known: private names that the compiled modules define.
    """
    tokens = [
        token
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type in (tokenize.NAME, tokenize.OP, tokenize.STRING)
    ]
    for before, token in itertools.pairwise(tokens):
        name = token.string.strip("\"'")
        if token.type == tokenize.STRING:
            if name in UNDOCUMENTED or _private_module(name):
                yield f"line {token.start[0]} names {name}"
        elif before.string in (".", "import", "cimport") and (
            name in UNDOCUMENTED or (_private(name) and name not in known)
        ):
            yield f"line {token.start[0]} uses {name}"


def compiled_names(source: str) -> set[str]:
    """The private names that a compiled module defines: fields, methods, functions."""
    declared = re.findall(r"(?m)^\s*(?:cdef|cpdef|def|class)\b(.*)$", source)
    return {name for line in declared for name in re.findall(r"\b_[a-z]\w*", line)} | set(
        re.findall(r"(?m)^(_\w+) = ", source)
    )


EVERYWHERE = set().union(*(own_names(ast.parse(path.read_text())) for path in SOURCES))
IN_COMPILED = set().union(*(compiled_names(path.read_text()) for path in COMPILED))


def module_name(path: Path) -> str:
    """`relayd.storage` for relayd/storage/__init__.py."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_a_module_uses_no_private_name_of_a_library(path: Path) -> None:
    namespace = vars(importlib.import_module(module_name(path)))
    assert list(wrong_names(path.read_text(encoding="utf-8"), namespace, EVERYWHERE)) == []


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: path.name)
def test_a_compiled_module_uses_no_private_name_of_a_library(path: Path) -> None:
    assert list(wrong_tokens(path.read_text(encoding="utf-8"), IN_COMPILED)) == []


WRONG = [
    "reactor._poller = None",
    "print(port._buildAddr)",
    "from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper",
    "from twisted.internet.endpoints import _SystemdParser",
    "import twisted.protocols.haproxy._wrapper",
    "from prometheus_client.exposition import choose_encoder",
    "importlib.import_module('msgspec._core')",
    "getattr(reactor, '_newTimedCalls')",
    "print(protocol.http_request_uri)",
    "def f(self):\n    return self._never_defined",
    "class Port(tcp.Port):\n    _shouldShutdown = False",
    "class Port(tcp.Port):\n    def f(self):\n        self._preexistingSocket = None",
    "class Channel(http.HTTPChannel):\n    def _send100Continue(self):\n        pass",
    "class Relay(websocket.WebSocketServerProtocol):\n    def f(self):\n        print(self.data)",
    "def f():\n    import txredisapi\n    class Replies(txredisapi.HiredisProtocol):\n"
    "        def f(self):\n            return self._reader",
]


@pytest.mark.parametrize("source", WRONG)
def test_a_private_name_is_found(source: str) -> None:
    imports = (
        "import importlib\n"
        "from autobahn.twisted import websocket\n"
        "from twisted.internet import tcp\n"
        "from twisted.web import http\n"
    )
    namespace: dict[str, Any] = {}
    exec(imports, namespace)
    assert list(wrong_names(source, namespace, {"_known"})) != []


@pytest.mark.parametrize(
    "source",
    [
        "print(os._exit)",
        "class Own:\n    def __init__(self, other):\n        self._a = other._a",
        "from relayd.hub import _private",
        "class Own(Base):\n    def f(self):\n        return self._known",
        "print(connection.data, '_a text')",
    ],
)
def test_own_and_public_names_are_accepted(source: str) -> None:
    assert list(wrong_names(source, {}, {"_known"})) == []


@pytest.mark.parametrize(
    "source",
    [
        "cdef f(object reactor):\n    return reactor._poller\n",
        "names = ('_newTimedCalls',)\n",
        "from twisted.internet.base import _nothing\n",
    ],
)
def test_a_private_name_in_a_compiled_module_is_found(source: str) -> None:
    assert list(wrong_tokens(source, {"_own"})) != []


def test_a_name_in_a_comment_or_of_a_compiled_module_is_fine() -> None:
    source = "cdef f(Own own):  # as reactor._poller\n    return own._own\n"
    assert list(wrong_tokens(source, compiled_names("    cdef object _own\n"))) == []


# -- the entries


def entry_name(entry: private.Private) -> str:
    return entry.names[0]


@pytest.mark.parametrize("entry", ENTRIES, ids=entry_name)
def test_an_entry_names_the_modules_that_use_it(entry: private.Private) -> None:
    for user in entry.users:
        source = next(path for path in [*SOURCES, *COMPILED] if module_name(path) == user)
        assert "private" in source.read_text(encoding="utf-8"), user


@pytest.mark.parametrize("entry", ENTRIES, ids=entry_name)
def test_an_entry_was_tried_with_the_version_that_is_installed(entry: private.Private) -> None:
    assert importlib.metadata.version(entry.library) in entry.tried


@pytest.mark.parametrize("library", sorted({entry.library for entry in ENTRIES}))
def test_setup_bounds_a_library_whose_private_names_are_used(library: str) -> None:
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert re.search(rf'"{library}(\[[\w,]+\])?(>=[\w.]+,<|==)[\w.]+"', setup), library


@pytest.mark.parametrize("entry", ENTRIES, ids=entry_name)
def test_an_entry_states_once_what_relayd_does_without_the_name(
    entry: private.Private, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "warned", False)
    with capturedLogs() as events:
        assert not entry.are_in(object())
        assert not entry.are_in(object())
    assert len(events) == 1
    assert entry.without in warning(events)


def warning(events: Sequence[LogEvent]) -> str:
    """The words of the one event that was logged."""
    (event,) = events
    return formatEvent(event)


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sequence[LogEvent]]:
    """Nothing was missing so far; afterwards one warning has said what is missing."""
    for entry in ENTRIES:
        monkeypatch.setattr(entry, "warned", False)
    with capturedLogs() as events:
        yield events
    assert "so " in warning(events)


def test_the_compiled_loop_does_not_replace_a_reactor_that_lacks_a_name(anew: object) -> None:
    with select.epoll() as epoll:
        reactor = SimpleNamespace(_poller=epoll, _newTimedCalls=[], _pendingTimedCalls=[])
        assert private.reactor_names(reactor) is None


def test_the_compiled_loop_does_not_replace_a_reactor_whose_names_differ(anew: object) -> None:
    with select.epoll() as epoll:
        reactor = SimpleNamespace(
            _poller=epoll, _newTimedCalls=[], _pendingTimedCalls={}, _justStopped=False
        )
        assert private.reactor_names(reactor) is None


def test_a_port_that_shuts_down_in_an_unknown_way_is_left_as_it_is(anew: object) -> None:
    port = object()
    private.close_alone(port)


def test_a_channel_that_answers_bad_requests_in_an_unknown_way_stays_as_it_is(
    anew: object,
) -> None:
    class Channel:
        def answer_bad_request(self) -> None:
            """Not called."""

    before = dict(vars(Channel))
    assert private.answers_bad_requests(Channel) is Channel
    assert dict(vars(Channel)) == before


def test_a_parser_without_a_private_entrance_is_reached_by_the_public_one(anew: object) -> None:
    class Protocol:
        def dataReceived(self, data: bytes) -> None:
            """The public one."""

    assert private.parse_of(Protocol) is Protocol.dataReceived


def test_a_parser_whose_state_cannot_be_seen_is_found_when_a_connection_opens(
    anew: object,
) -> None:
    assert not private.shows_frames(SimpleNamespace(data=b"", inside_message=False))


def test_a_parser_without_a_masker_is_found_at_the_first_frame(anew: object) -> None:
    begun = SimpleNamespace(data=b"", inside_message=False, current_frame=None)
    assert private.shows_frames(begun)
    assert private.rest_of_frame(begun) is None
    begun.current_frame = SimpleNamespace(length=5)
    assert private.rest_of_frame(begun) == 0


def test_the_request_target_is_put_together_from_what_autobahn_shows(anew: object) -> None:
    request: Any = SimpleNamespace(path="/ws/camera", params={"token": ["a b"], "x": ["1", "2"]})
    target = "/ws/camera?token=a+b&x=1&x=2"
    assert private.request_target(object(), request) == target
    request.params = {}
    assert private.request_target(object(), request) == "/ws/camera"


def test_options_that_cannot_be_shared_are_left_to_autobahn(anew: object) -> None:
    assert private.shared_options(type("Protocol", (), {}), object()) == {}


def test_autobahn_opens_all_connections_if_it_has_other_attributes_than_those_known(
    anew: object,
) -> None:
    assert private.opening_parts(SimpleNamespace(http_request_data=b"")) is None


def test_metrics_are_text_where_the_formats_cannot_be_chosen(anew: object) -> None:
    def generate_latest(registry: object) -> bytes:
        return b"text"

    exposition = SimpleNamespace(generate_latest=generate_latest, CONTENT_TYPE_LATEST="text/plain")
    assert private.metrics_encoder(exposition, "application/openmetrics-text") == (
        generate_latest,
        "text/plain",
    )
