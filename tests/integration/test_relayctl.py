"""The commands of relayctl for the database: what they print, and their exit codes."""

import json
import os
import signal
from pathlib import Path

import pytest

from relayd import __version__
from tests.integration.relayctl import Operator
from tests.processes import run
from tests.servers import PostgreSQL


@pytest.fixture
def blank(tmp_path: Path, blank_database_url: str) -> Operator:
    return Operator(tmp_path, DATABASE_URL=blank_database_url)


@pytest.fixture
def relayctl(tmp_path: Path, database_url: str) -> Operator:
    return Operator(tmp_path, DATABASE_URL=database_url)


def test_migrate_status_and_rollback_work(blank: Operator) -> None:
    before = blank("db", "status")
    assert (before.returncode, before.stdout.count("pending")) == (1, 8)
    assert blank("db", "migrate").stdout == (
        "applied 0001.tables\napplied 0002.draws\napplied 0003.history\napplied 0004.quotas\n"
        "applied 0005.tags\napplied 0006.jumps\napplied 0007.holes\napplied 0008.floors\n"
    )
    assert "up to date" in blank("db", "migrate").stdout
    after = blank("db", "status")
    assert (after.returncode, after.stdout.count("applied 20")) == (0, 8)
    # without the history in it, nothing is asked
    for name in ("0008.floors", "0007.holes", "0006.jumps", "0005.tags", "0004.quotas"):
        assert blank("db", "rollback").stdout == f"rolled back {name}\n"
    refused = blank("db", "rollback", stdin="n\n")
    assert refused.returncode == 1
    assert "chat history will be deleted" in refused.stderr
    assert blank("db", "status").stdout.count("applied 20") == 3
    assert blank("db", "rollback", stdin="y\n").stdout == "rolled back 0003.history\n"
    assert blank("db", "rollback").stdout == "rolled back 0002.draws\n"
    assert blank("db", "migrate").returncode == 0
    everything = blank("db", "rollback", "--steps", "9", "--yes")
    assert everything.stdout.count("rolled back") == 8
    assert "nothing to do" in blank("db", "rollback").stdout


def test_quizzes_and_actions_can_be_imported_and_exported(relayctl: Operator) -> None:
    (relayctl.folder / "in.csv").write_text("name,difficulty\nä,1\nb,2\n")
    done = relayctl("quiz", "import", "in.csv")
    assert (done.returncode, done.stdout) == (0, "2 added, 0 changed\n")
    exported = relayctl("quiz", "export", "-").stdout
    assert exported == "id,name,difficulty,lef_sel,rig_sel,detail\n1,ä,1,,,\n2,b,2,,,\n"
    assert relayctl("quiz", "import", "-", stdin=exported).stdout == "0 added, 2 changed\n"
    assert relayctl("action", "import", "-", stdin="difficulty\n1\n").returncode == 0
    assert relayctl("action", "export", "out.csv").stderr == "1 row written\n"
    written = (relayctl.folder / "out.csv").read_text()
    assert written == "id,difficulty,lef_sel,rig_sel,detail\n1,1,,,\n"


def test_wrong_input_is_a_sentence_and_exit_code_2(relayctl: Operator) -> None:
    wrong = relayctl("quiz", "import", "-", stdin="difficulty\n1\nx\n")
    assert wrong.returncode == 2
    assert wrong.stderr == (
        "Error: -: line 3, column difficulty: 'x' is not a whole number from -2147483648 to "
        "2147483647; nothing was imported\n"
    )
    assert relayctl("quiz", "export", "-").stdout.count("\n") == 1
    missing = relayctl("quiz", "import", "missing.csv")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "missing.csv: No such file" in missing.stderr
    for arguments in (
        ["db", "rollback", "--steps", "0"],
        ["quiz"],
        ["nonsense"],
        ["quiz", "import"],
    ):
        assert relayctl(*arguments).returncode == 2


def test_a_wrong_configuration_gives_exit_code_2(tmp_path: Path) -> None:
    operator = Operator(tmp_path, DATABASE_URL="oracle://u:hunter2@h/db")
    done = operator("db", "status")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "hunter2" not in done.stderr
    (tmp_path / "relayd.toml").write_text("[database]\nurl = 7\n")
    assert operator("--config", "relayd.toml", "db", "status").returncode == 2
    assert operator("--config", "absent.toml", "db", "status").returncode == 2


def test_relayctl_reads_the_configuration_of_the_daemon(tmp_path: Path) -> None:
    operator = Operator(tmp_path)
    (tmp_path / "relayd.toml").write_text('[database]\nurl = "sqlite:///from-file.db"\n')
    assert operator("--config", "relayd.toml", "db", "migrate").returncode == 0
    assert (tmp_path / "from-file.db").exists()
    (tmp_path / ".env").write_text("DATABASE_URL=sqlite:///from-dotenv.db\n")
    assert operator("db", "migrate").returncode == 0
    assert (tmp_path / "from-dotenv.db").exists()


def test_an_unreachable_database_is_a_sentence_and_exit_code_1(
    own_postgresql: PostgreSQL, tmp_path: Path
) -> None:
    operator = Operator(tmp_path, DATABASE_URL=own_postgresql.url() + "?password=hunter2")
    own_postgresql.stop(signal.SIGINT)
    for arguments in (["db", "migrate"], ["db", "status"], ["quiz", "export", "-"]):
        done = operator(*arguments)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "hunter2" not in done.stderr
    done = operator("quiz", "import", "-", stdin="difficulty\n1\n")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_missing_tables_are_named_in_a_sentence(blank: Operator) -> None:
    (blank.folder / "out.csv").write_text("from yesterday")
    done = blank("quiz", "export", "out.csv")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "relayctl db migrate" in done.stderr
    assert (blank.folder / "out.csv").read_text() == "from yesterday"
    assert not list(blank.folder.glob("*.part")) + list(blank.folder.glob(".*.part"))
    nowhere = blank("quiz", "export", "no/such/folder.csv")
    assert (nowhere.returncode, nowhere.stderr.count("\n")) == (2, 1)


def test_each_command_prints_json_on_request(blank: Operator) -> None:
    steps = ["0001.tables", "0002.draws", "0003.history", "0004.quotas", "0005.tags"]
    steps += ["0006.jumps", "0007.holes", "0008.floors"]
    pending = blank("db", "status", "--json")
    assert pending.returncode == 1
    found = json.loads(pending.stdout)["migrations"]
    assert [(each["id"], each["applied"]) for each in found] == [(id, None) for id in steps]
    assert json.loads(blank("db", "migrate", "--json").stdout) == {"applied": steps}
    csv = "name,difficulty\na,1\n"
    done = blank("quiz", "import", "-", "--json", stdin=csv)
    assert json.loads(done.stdout) == {"added": 1, "changed": 0}
    assert json.loads(blank("quiz", "export", "q.csv", "--json").stdout) == {"rows": 1}
    assert blank("quiz", "export", "-", "--json").stdout.startswith("id,name,")
    taken = blank("db", "rollback", "--yes", "--json")
    assert json.loads(taken.stdout) == {"taken_back": ["0008.floors"]}


def test_an_import_shows_its_progress_on_a_terminal(relayctl: Operator) -> None:
    rows = "\n".join(f"{number},1" for number in range(5000))
    (relayctl.folder / "in.csv").write_text(f"name,difficulty\n{rows}\n")
    ours, theirs = os.openpty()
    done = run(
        relayctl.command("quiz", "import", "in.csv"),
        cwd=relayctl.folder,
        env={**relayctl.environ, "TERM": "xterm"},
        stderr=theirs,
    )
    os.close(theirs)
    shown = os.read(ours, 100_000)
    os.close(ours)
    assert (done.returncode, done.stdout) == (0, "5000 added, 0 changed\n")
    assert b"importing" in shown
    assert b"100%" in shown


def test_version_and_help_are_printed(tmp_path: Path) -> None:
    operator = Operator(tmp_path)
    assert __version__ in operator("--version").stdout
    for arguments in ([], ["db"], ["quiz"], ["db", "migrate"], ["quiz", "import"]):
        assert operator(*arguments, "--help").returncode == 0
