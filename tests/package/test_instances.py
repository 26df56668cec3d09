"""Several instances of the service on one machine, after `test_installed`: one story.

`chat` is that of the guide, at a unix socket; `stage` listens on a port. Both stay until
`test_removed`.
"""

import json
import re
import socket
from collections.abc import Iterator

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.package.container import PATIENCE, Container
from tests.package.story import (
    close_code,
    echo_works,
    faults,
    follow,
    transcripts,
    without_nginx,
)

STAGE = """
install -d /etc/relayd/stage/conf.d
install -d -m 0700 /etc/relayd/stage/credentials
cat >/etc/relayd/stage/relayd.toml <<'END'
[database]
url = "sqlite:////var/lib/relayd-stage/relayd.db"
END
mkdir /etc/systemd/system/relayd@stage.socket.d
printf '[Socket]\\nListenStream=\\nListenStream=127.0.0.1:8082\\n' \\
    >/etc/systemd/system/relayd@stage.socket.d/override.conf
systemctl daemon-reload
systemctl enable --now relayd@stage.socket relayd@stage
"""
PIDS = "systemctl show -P MainPID relayd relayd@chat relayd@stage"
NAMES = ("", "--instance chat", "--instance stage")


@pytest.fixture(scope="module", autouse=True)
def no_nginx(debian: Container) -> Iterator[None]:
    """The guide's machine has none for its instances."""
    with without_nginx(debian):
        yield


def connect_to_chat(debian: Container, path: str) -> ClientConnection:
    """Opens a WebSocket at the unix socket of the instance `chat`."""
    dialled = socket.socket(socket.AF_UNIX)
    dialled.settimeout(PATIENCE)
    dialled.connect(f"/proc/{debian.leader}/root/run/relayd-chat.sock")
    return connect(
        f"ws://localhost{path}", sock=dialled, proxy=None, legacy=True,
        open_timeout=PATIENCE, compression=None,
    )  # fmt: skip


def test_the_documented_steps_start_an_instance_beside_the_default_one(debian: Container) -> None:
    follow(debian, transcripts("Several instances"))
    debian.shell(STAGE)
    assert debian.shell("systemctl is-active relayd relayd@chat relayd@stage").split() == (
        ["active"] * 3
    )


def test_the_clients_and_the_data_of_instances_are_apart(debian: Container) -> None:
    with (
        debian.connect("/ws/chat/apart") as ours,
        connect_to_chat(debian, "/ws/chat/apart") as chat,
        debian.connect("/ws/chat/apart", port=8082) as stage,
    ):
        for name, client in (("ours", ours), ("chat", chat), ("stage", stage)):
            client.send(json.dumps({"message": name}))
            assert json.loads(client.recv(timeout=PATIENCE))["message"] == name
        for options in NAMES:
            listing = json.loads(debian.shell(f"relayctl {options} clients --json"))
            assert listing["total"] == 1, options
    debian.shell("test -s /var/lib/relayd-chat/relayd.db -a -s /var/lib/relayd-stage/relayd.db")
    log = debian.shell("journalctl -u relayd@stage -o cat --no-pager")
    assert "relayctl connects at /run/relayd-stage/control.sock" in log
    assert "/ws/chat/apart opened" in log
    assert "relayd-chat" not in log


def test_an_instance_is_as_hardened_as_the_default_service(debian: Container) -> None:
    script = "systemd-analyze security --no-pager {} | tail -n 1"
    levels = [
        re.findall(r"level for \S+: ([\d.]+)", debian.shell(script.format(unit)))
        for unit in ("relayd.service", "relayd@chat.service")
    ]
    assert levels[0] == levels[1]
    assert float(levels[0][0]) <= 2.0
    assert debian.shell("ps -o user= -p $(systemctl show -P MainPID relayd@chat)") == "relayd"
    assert debian.shell("stat -c '%U %a' /var/lib/relayd-chat /run/relayd-chat") == (
        "relayd 750\nrelayd 750"
    )


def test_doctor_finds_nothing_in_any_instance(debian: Container) -> None:
    for options in NAMES:
        found = [one for one in faults(debian, options=options) if one["state"] == "fault"]
        assert found == [], options


def test_a_difference_in_the_files_of_one_instance_is_told_of_that_one_alone(
    debian: Container,
) -> None:
    pids = debian.shell(PIDS)
    debian.shell(
        """
        printf '[chat]\\nhistory = 21\\n' >/etc/relayd/chat/conf.d/history.toml
        (umask 077; openssl rand -hex 32 >/etc/relayd/chat/credentials/auth_secret)
        """
    )
    found = faults(debian, "differences", "--instance chat")
    assert {one["remedy"] for one in found} == {"relayctl --instance chat reload"}
    assert len(found) == 2
    for others in ("", "--instance stage"):
        assert faults(debian, "differences", others) == []
    debian.shell("systemctl reload relayd@chat")  # hands the secret over
    assert faults(debian, "differences", "--instance chat") == []
    debian.shell("rm /etc/relayd/chat/conf.d/history.toml; relayctl --instance chat reload")
    assert debian.shell(PIDS) == pids


def test_an_instance_that_is_stopped_is_never_taken_for_another_one(debian: Container) -> None:
    debian.shell("systemctl stop relayd@stage.socket relayd@stage")
    ran = debian.try_shell("relayctl --instance stage drain")
    assert ran.returncode == 1
    assert "systemctl status relayd@stage says whether it runs" in ran.stdout
    ran = debian.try_shell("relayctl --instance stadium status")
    assert ran.returncode == 2
    assert "there is no instance stadium" in ran.stdout
    assert "there are chat, stage" in ran.stdout
    assert "draining" not in debian.shell("relayctl status")
    debian.shell("systemctl start relayd@stage")


def test_an_upgrade_restarts_all_instances_but_the_one_that_is_wrong(debian: Container) -> None:
    version = 'relayctl {} status --json | grep -o \'"version":"[^"]*\' | sort -u'
    debian.shell("printf '[chat]\\nhistroy = 20\\n' >/etc/relayd/stage/conf.d/wrong.toml")
    with (
        debian.connect("/ws/camera") as ours,
        connect_to_chat(debian, "/ws/camera") as chat,
        debian.connect("/ws/camera", port=8082) as stage,
    ):
        ran = debian.try_shell("apt-get install --yes /root/relayd_next.deb")
        assert ran.returncode != 0
        assert "the configuration of relayd@stage is wrong for this version" in ran.stdout
        assert close_code(ours) == close_code(chat) == 1001
        echo_works(stage)
        for options, is_new in zip(NAMES, (True, True, False), strict=True):
            debian.eventually(version.format(options))
            assert ("+next" in debian.shell(version.format(options))) == is_new, options
        debian.shell("rm /etc/relayd/stage/conf.d/wrong.toml; dpkg --configure relayd")
        assert close_code(stage) == 1001
    debian.eventually(f"{version.format('--instance stage')} | grep -F +next")
    debian.shell("apt-get install --yes --allow-downgrades /root/relayd.deb")
    for options in NAMES:
        debian.eventually(f"! {{ {version.format(options)} | grep -F +next; }}")


def test_the_timer_of_backups_is_a_template_for_instances(debian: Container) -> None:
    debian.shell(
        """
        cd /usr/share/doc/relayd/examples/systemd
        cp relayd-backup.service /etc/systemd/system/relayd-backup@.service
        cp relayd-backup.timer /etc/systemd/system/relayd-backup@.timer
        systemctl daemon-reload
        systemctl start relayd-backup@chat.timer relayd-backup@chat
        """
    )
    made = debian.shell("ls /var/backups/relayd-chat/*.backup")
    assert "1 room" in debian.shell(f"relayctl --instance chat restore --check {made}")
    debian.shell(
        """
        systemctl stop relayd-backup@chat.timer
        rm -r /var/backups/relayd-chat /etc/systemd/system/relayd-backup@.*
        rm /var/lib/systemd/timers/stamp-relayd-*
        systemctl daemon-reload
        """
    )


@pytest.mark.parametrize("options", NAMES)
def test_a_restart_of_one_instance_leaves_the_others(debian: Container, options: str) -> None:
    before = debian.shell(PIDS).split()
    debian.shell(f"relayctl {options} restart")
    after = debian.shell(PIDS).split()
    changed = [old != new for old, new in zip(before, after, strict=True)]
    assert changed == [options == one for one in NAMES]
