"""What stands in the files and does not run: which settings, and what each needs."""

from collections.abc import Mapping

import msgspec
import pytest

from relayd.config import Config, Loaded
from relayd.config.current import Current
from relayd.config.drift import INTERVAL, Drift, Remedy
from relayd.config.reload import Reloader
from relayd.config.settings import Setting
from relayd.edge.passed import replaced
from relayd.errors import ConfigError
from relayd.systemd import Systemd


class Files:
    """The files of a configuration, and a process that has read them once.

    Attributes:
        config: what stands in the files now; None for a mistake.
        reads: how often they were read.
    """

    def __init__(self) -> None:
        self.config: Config | None = Config()
        self.reads = 0
        self.now = 1000.0
        self.current = Current(Config())
        self.drift = Drift(self.read, self.current, lambda loaded: (), lambda: self.now)

    def read(self, handed: Mapping[str, str] | None) -> Loaded:
        self.reads += 1
        if self.config is None:
            raise ConfigError("relayd.toml: [chat] histroy: no such setting")
        return Loaded(self.config, (), ())

    def write(self, section: str, **values: object) -> None:
        assert self.config is not None
        changed = msgspec.structs.replace(getattr(self.config, section), **values)
        self.config = msgspec.structs.replace(self.config, **{section: changed})

    def found(self) -> dict[str, Remedy]:
        return {one.setting: one.remedy for one in self.drift.find()}


@pytest.fixture
def files() -> Files:
    return Files()


def test_nothing_differs_after_a_start(files: Files) -> None:
    assert files.found() == {}
    assert set(files.drift.counts().values()) == {0}


@pytest.mark.parametrize(
    ("section", "key", "value", "remedy"),
    [
        ("server", "workers", 4, Remedy.RESTART),
        ("server", "listen", ("tcp:9",), Remedy.RESTART),
        ("database", "url", "postgresql://a:secret@b/c", Remedy.RESTART),
        ("log", "level", "debug", Remedy.RELOAD),
        ("echo", "enabled", True, Remedy.RELOAD),
        ("auth", "secret", "a-secret-of-32-characters-or-more", Remedy.RELOAD),
    ],
)
def test_a_difference_says_what_it_needs_and_hides_secrets(
    files: Files, section: str, key: str, value: object, remedy: Remedy
) -> None:
    files.write(section, **{key: value})
    [found] = files.drift.find()
    assert (found.setting, found.remedy) == (f"[{section}] {key}", remedy)
    assert "secret@" not in found.text
    assert "32-characters" not in found.text
    assert files.drift.counts()[remedy] == 1


def test_a_mistake_in_the_files_is_a_difference(files: Files) -> None:
    files.config = None
    [found] = files.drift.find()
    assert (found.remedy, "histroy" in found.text) == (Remedy.CORRECT, True)


def test_a_reload_leaves_only_what_needs_a_restart(files: Files) -> None:
    files.write("server", workers=4)
    files.write("log", level="debug")
    assert files.drift.counts() == {"reload": 1, "restart": 1, "socket": 0, "correct": 0}
    Reloader(files.read, files.current).reload()
    assert files.found() == {"[server] workers": Remedy.RESTART}
    # the metrics do not wait for the end of their interval
    assert files.drift.counts() == {"reload": 0, "restart": 1, "socket": 0, "correct": 0}


def test_the_metrics_read_the_files_at_most_once_in_their_interval(files: Files) -> None:
    for _ in range(5):
        files.drift.counts()
    assert files.reads == 1
    files.write("server", workers=4)
    files.now += INTERVAL
    assert files.drift.counts()["restart"] == 1
    assert files.reads == 2


class Passed(Systemd):
    """The sockets of a unit, by their descriptions."""

    def __init__(self, *endpoints: str) -> None:
        self._endpoints = endpoints

    def endpoints(self) -> tuple[str, ...]:
        return self._endpoints

    def tls_endpoints(self) -> tuple[str, ...]:
        return ()


@pytest.mark.parametrize(
    ("wanted", "passed", "differs"),
    [
        (None, "tcp:9000:interface=127.0.0.1", False),
        (["tcp:8080:interface=127.0.0.1"], "tcp:9000:interface=127.0.0.1", False),  # the default
        (["tcp:9000:interface=127.0.0.1"], "tcp:9000:interface=127.0.0.1", False),
        (["tcp:9000:interface=127.0.0.1:backlog=9"], "tcp:9000:interface=127.0.0.1", False),
        (["tcp:9000"], "tcp:9000:interface=0.0.0.0", False),
        (["unix:/run/a.sock:mode=666"], "unix:/run/a.sock", False),
        (["tcp:9000"], "tcp:9000:interface=127.0.0.1", True),
        (["tcp:9000:interface=127.0.0.1"], "tcp:8080:interface=127.0.0.1", True),
        (["tcp:9000"], "", False),
    ],
)
def test_a_listen_that_the_socket_unit_replaces_is_a_difference(
    wanted: list[str] | None, passed: str, differs: bool
) -> None:
    found = () if wanted is None else (Setting("a.toml", "[]", "server", "listen", wanted),)
    systemd = Passed(passed) if passed else Passed()
    assert bool(replaced(systemd, Loaded(Config(), found, ()))) == differs
