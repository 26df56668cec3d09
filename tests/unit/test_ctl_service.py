"""The service that relayctl looks after: which secrets it sees."""

import os
from pathlib import Path

import pytest

from relayd.config import Config
from relayd.ctl import common, control_client
from relayd.ctl.control_client import ControlClient
from relayd.ctl.service import Service, as_its_user, choose, command, find, unit
from relayd.errors import ConfigError


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """A service that has been installed, below a folder."""
    (tmp_path / "etc" / "relayd" / "credentials").mkdir(parents=True)
    return Service("relayd", tmp_path)


def hand_over(service: Service, **secrets: str) -> None:
    """What systemd does at the start."""
    service.handed.mkdir(parents=True)
    for name, secret in secrets.items():
        (service.handed / f"relayd_{name}").write_text(secret)


def test_no_service_is_searched_unless_the_package_names_one() -> None:
    assert find({}) is None
    found = find({"RELAYCTL_SERVICE": "relayd"})
    assert found is not None
    assert found.credentials == Path("/etc/relayd/credentials")
    assert found.handed == Path("/run/credentials/relayd.service")


def test_an_instance_has_folders_of_its_own_and_the_same_user(tmp_path: Path) -> None:
    file = tmp_path / "etc" / "relayd" / "chat" / "relayd.toml"
    file.parent.mkdir(parents=True)
    file.touch()
    environ = {"RELAYCTL_SERVICE": "relayd", "RELAYD_CONFIG": "/etc/relayd/relayd.toml"}
    choose(environ, "chat", tmp_path)
    assert environ == {
        "RELAYCTL_SERVICE": "relayd@chat",
        "RELAYD_CONFIG": str(file),
        "RUNTIME_DIRECTORY": str(tmp_path / "run" / "relayd-chat"),
    }
    found = find(environ)
    assert found is not None
    assert found.user == "relayd"
    assert found.credentials == Path("/etc/relayd/chat/credentials")
    assert found.handed == Path("/run/credentials/relayd@chat.service")
    assert found.folder == Path("/var/lib/relayd-chat")
    assert command(environ) == "relayctl --instance chat"
    assert (command({}), unit({})) == ("relayctl", "relayd")
    assert unit(environ) == "relayd@chat"


@pytest.mark.parametrize("name", ["talk", "", "..", "chat/../chat", "conf.d"])
def test_an_instance_that_is_not_there_is_refused_and_the_others_are_named(
    tmp_path: Path, name: str
) -> None:
    for folder in ("chat", "stage"):
        (tmp_path / "etc" / "relayd" / folder).mkdir(parents=True)
        (tmp_path / "etc" / "relayd" / folder / "relayd.toml").touch()
    (tmp_path / "etc" / "relayd" / "relayd.toml").touch()
    environ = {"RELAYCTL_SERVICE": "relayd"}
    with pytest.raises(ConfigError, match="there are chat, stage"):
        choose(environ, name, tmp_path)
    assert environ == {"RELAYCTL_SERVICE": "relayd"}


def test_an_instance_needs_the_services_of_the_package() -> None:
    with pytest.raises(ConfigError, match="use --config FILE"):
        choose({}, "chat")


def test_relayctl_never_takes_the_packaged_relayd_for_an_instance_that_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = tmp_path / "relayd" / "control.sock"
    packaged.parent.mkdir()
    packaged.touch()
    monkeypatch.setattr(control_client, "PACKAGED", packaged)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert ControlClient(Config()).path == packaged
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "relayd-chat"))
    assert ControlClient(Config()).path == tmp_path / "relayd-chat" / "control.sock"


def test_the_unit_that_runs_next_wins_over_the_running_one(service: Service) -> None:
    assert service.folders() == [str(service.credentials)]
    hand_over(service)
    assert service.folders() == [str(service.handed), str(service.credentials)]


def test_the_service_itself_reads_the_folder_that_systemd_names(tmp_path: Path) -> None:
    assert Service("relayd", tmp_path, given="/run/given").folders() == ["/run/given"]


def test_root_alone_hands_over_the_secrets_of_the_next_start(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert service.secrets() == {}
    hand_over(service, redis_url="redis://a", auth_secret="gone")
    for name, secret in (("redis_url", "redis://b\n"), ("api_key", "key"), ("other", "new")):
        (service.credentials / name).write_text(secret)
    assert service.secrets() == {"redis_url": "redis://b", "api_key": "key"}
    (service.credentials / "api_key").write_text("")
    with pytest.raises(ConfigError, match="api_key: the file is empty"):
        service.secrets()
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    assert service.secrets() is None


def test_relayctl_keeps_its_user_without_a_service() -> None:
    before = os.geteuid(), os.environ.get("HOME")
    with as_its_user({}):
        assert (os.geteuid(), os.environ.get("HOME")) == before
    with as_its_user({"RELAYCTL_SERVICE": "no-such-user"}):
        assert (os.geteuid(), os.environ.get("HOME")) == before


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "owner", "is_read"),
    [
        (0o755, 0o644, 0, True),
        (0o755, 0o600, 1234, True),  # the user of the service
        (0o775, 0o644, 0, False),
        (0o1777, 0o644, 0, False),
        (0o755, 0o666, 0, False),
        (0o755, 0o644, 4321, False),
    ],
)
def test_root_reads_no_dotenv_file_that_somebody_else_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    folder_mode: int, file_mode: int, owner: int, is_read: bool,
) -> None:  # fmt: skip
    folder, file = tmp_path / "folder", tmp_path / "folder" / ".env"
    folder.mkdir()
    file.write_text("RELAYD_CHAT_HISTORY=7\n")
    stats = {
        str(path): os.stat_result((mode, 0, 0, 1, owner, 0, 0, 0, 0, 0))
        for path, mode in ((folder, 0o040000 | folder_mode), (file, 0o100000 | file_mode))
    }
    real = os.stat
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        common.os, "stat", lambda path, **more: stats.get(str(path)) or real(path, **more)
    )
    found = common._read_dotenv(str(folder), 1234)
    assert found == ({"RELAYD_CHAT_HISTORY": "7"} if is_read else {})
    assert ("is not read" in capsys.readouterr().err) == (not is_read)
