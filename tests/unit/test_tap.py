"""The command line of `twistd relayd`."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.python import usage

from relayd import __version__, tap
from relayd.config import Config

Parse = Callable[..., tap.Options]


@pytest.fixture
def parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parse:
    """Reads a command line in an empty folder, with nothing of ours in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in tuple(os.environ):
        if name.startswith("RELAYD_") or name in ("PORT", "DATABASE_URL", "REDIS_URL"):
            monkeypatch.delenv(name)

    def parse(*arguments: str) -> tap.Options:
        options = tap.Options()
        options.parseOptions(list(arguments))
        return options

    return parse


def status_of(parse: Parse, *arguments: str) -> object:
    """The exit status of a command line that ends the process."""
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    return caught.value.code


def test_without_options_the_defaults_hold(parse: Parse) -> None:
    assert parse().config == Config()


def test_listen_may_be_given_more_than_once_long_and_short(parse: Parse) -> None:
    options = parse("--listen", "tcp:1", "-l", "tcp:2:interface=\\:\\:", "--listen=tcp:3")
    assert options.config.server.listen == ("tcp:1", "tcp:2:interface=\\:\\:", "tcp:3")


@pytest.mark.parametrize("flag", ["--config", "-c"])
def test_the_file_of_the_option_is_read(parse: Parse, tmp_path: Path, flag: str) -> None:
    (tmp_path / "my.toml").write_text("[chat]\nhistory = 7\n", encoding="utf-8")
    assert parse(flag, "my.toml").config.chat.history == 7


def test_option_environment_dotenv_and_file_win_in_this_order(
    parse: Parse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my.toml").write_text(
        '[server]\nlisten = ["tcp:4"]\n[chat]\nhistory = 4\nhistory_length = 4\n'
        "[limits]\nmax_waiting = 4\n",
        encoding="utf-8",
    )
    (tmp_path / ".env").write_text(
        "RELAYD_SERVER_LISTEN=tcp:3\nRELAYD_CHAT_HISTORY=3\nRELAYD_CHAT_HISTORY_LENGTH=3\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("RELAYD_SERVER_LISTEN", "tcp:2")
    monkeypatch.setenv("RELAYD_CHAT_HISTORY", "2")
    config = parse("-c", "my.toml", "-l", "tcp:1").config
    assert config.server.listen == ("tcp:1",)
    assert config.chat.history == 2
    assert config.chat.history_length == 3
    assert config.limits.max_waiting == 4


def test_a_wrong_setting_ends_the_process_with_the_status_for_it_and_one_line(
    parse: Parse, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(parse, "--listen", "nonsense") == tap.EX_CONFIG == 78
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("relayd: command line: --listen = ")
    assert said.err.count("\n") == 1


def test_check_reports_a_good_configuration_and_ends_the_process(
    parse: Parse, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(parse, "--check") == 0
    assert capsys.readouterr().out == "relayd: the configuration is good\n"
    assert status_of(parse, "--check", "--config", "missing.toml") == tap.EX_CONFIG


def test_the_version_is_printed_although_the_configuration_is_wrong(
    parse: Parse, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(parse, "--version") == 0
    assert capsys.readouterr().out == f"relayd {__version__}\n"


def test_help_names_every_option(parse: Parse, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(parse, "--help") == 0
    said = capsys.readouterr().out
    assert all(option in said for option in ("--config", "--check", "--listen", "--version"))


def test_an_unknown_option_is_a_usage_error(parse: Parse) -> None:
    with pytest.raises(usage.UsageError, match="nonsense"):
        parse("--nonsense")


def test_the_configuration_is_read_again_from_where_it_came_from(
    parse: Parse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """twistd has changed its working directory meanwhile."""
    file = tmp_path / "my.toml"
    file.write_text("[chat]\nhistory = 7\n", encoding="utf-8")
    options = parse("-c", "my.toml", "-l", "tcp:1")
    file.write_text("[chat]\nhistory = 8\n", encoding="utf-8")
    monkeypatch.chdir("/")
    again = options.read_again().config
    assert (again.chat.history, again.server.listen) == (8, ("tcp:1",))
    assert options.config.chat.history == 7
