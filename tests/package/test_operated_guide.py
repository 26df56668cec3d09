"""The chapters of docs/operate.md, command by command, after `test_operated`: one story.

Each command prints what the page shows. `LEFT_OUT` in `story` has the chapters that are not run
here, and why.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from websockets.sync.client import ClientConnection

from tests.certificates import Chain
from tests.package.container import PATIENCE, Container
from tests.package.story import follow, transcripts, wait_until_ready, without_nginx

UUID = "8a6e0804-2bd0-4672-b79d-d97027f9071a"
HOST = "relay.example.org"


@pytest.fixture(scope="module", autouse=True)
def beginning(debian: Container, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The state in which the guide begins: a new relayd, an nginx, and a certificate."""
    chain = Chain(tmp_path_factory.mktemp("certificate"), HOST)
    live = debian.root / "etc" / "letsencrypt" / "live" / HOST
    live.mkdir(parents=True)
    shutil.copy(chain.certificate, live / "fullchain.pem")
    shutil.copy(chain.key, live / "privkey.pem")
    shutil.copy(chain.root_file, debian.root / "etc" / "ssl" / "certs" / "a-root.pem")
    debian.shell(
        f"""
        cd /etc/ssl/certs
        ln -s a-root.pem $(openssl x509 -hash -noout -in a-root.pem).0
        cp /etc/hosts /root/hosts
        echo "127.0.0.1 {HOST} $(hostname)" >>/etc/hosts
        systemctl stop relayd.socket relayd
        cd /
        sudo -u postgres dropdb --if-exists relayd
        sudo -u postgres dropuser --if-exists relayd
        rm -f /etc/nginx/conf.d/relayd.conf
        systemctl restart nginx
        """
    )
    forget(debian)
    yield
    debian.shell(
        """
        rm -r /etc/letsencrypt
        cd /etc/ssl/certs
        rm a-root.pem $(find . -lname a-root.pem)
        cat /root/hosts >/etc/hosts
        """
    )


def forget(debian: Container) -> None:
    """Gives the service what it has after its installation: no settings, secrets and data."""
    debian.shell(
        """
        systemctl stop relayd.socket relayd
        rm -rf /etc/relayd/credentials/* /etc/relayd/conf.d/* /var/lib/relayd/*
        systemctl start relayd.socket relayd
        """
    )
    wait_until_ready(debian)


def connect(
    debian: Container, path: str, token: str = "", address: str = "127.0.0.1"
) -> ClientConnection:
    """Opens a WebSocket as a proxy does it for a client with this address."""
    headers = {"X-Forwarded-For": address}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return debian.connect(path, additional_headers=headers)


def token_of(debian: Container, user: str) -> str:
    return debian.shell(f"relayctl token create --user {user}")


def test_the_chapter_on_tls_shows_what_its_commands_print(debian: Container) -> None:
    [*steps, closed] = transcripts("TLS through nginx")
    assert closed.command == "journalctl -u relayd -n 2"
    follow(debian, steps, editor="nano -> true")
    with connect(debian, "/ws/camera", address="192.0.2.21") as client:
        client.send('{"x": 1, "y": 2, "z": 3}')
        client.recv(timeout=PATIENCE)
    follow(debian, [closed])


def test_the_chapters_on_stores_show_what_their_commands_print(debian: Container) -> None:
    debian.shell(
        """
        printf '%s\\n' difficulty,name,lef_sel,rig_sel,detail >/tmp/quizzes.csv
        printf '%s\\n' '1,Capital of France,Paris,Lyon,Since 987' >>/tmp/quizzes.csv
        printf '%s\\n' '1,Longest river,Nile,Amazon,About 6650 km' >>/tmp/quizzes.csv
        printf '%s\\n' '1,Smallest prime,2,1,By definition' >>/tmp/quizzes.csv
        printf '%s\\n' difficulty,lef_sel '1,Wave' >/tmp/actions.csv
        """
    )
    follow(debian, transcripts("PostgreSQL"), folder="/tmp")
    follow(debian, transcripts("Redis and two processes"))
    wait_until_ready(debian)


def test_the_chapters_on_tokens_and_clients_show_what_their_commands_print(
    debian: Container,
) -> None:
    follow(debian, transcripts("A token"))
    wait_until_ready(debian)
    ann, headset = debian.shell("cat ann.token"), token_of(debian, "headset-7")
    with (
        connect(debian, f"/ws/difficulty/unity/{UUID}", headset, "192.0.2.22"),
        connect(debian, "/ws/camera", ann, "192.0.2.21"),
        connect(debian, "/ws/camera", headset, "192.0.2.22"),
        connect(debian, "/ws/chat/lobby", ann, "192.0.2.21"),
    ):
        found = json.loads(debian.shell("relayctl clients --kind chat --json"))["found"]
        steps = [
            step for step in transcripts("See the clients")
            if not step.command.startswith(("relayctl tail", "relayctl trace", "adduser"))
        ]  # fmt: skip
        follow(debian, steps, id=f"kick w2-c5 -> kick {found[0]['id']}")


def test_the_chapter_on_bans_shows_what_its_commands_print(debian: Container) -> None:
    mallory, ann = token_of(debian, "mallory"), debian.shell("cat ann.token")
    with ExitStack() as clients:
        for path in ("/ws/camera", "/ws/chat/lobby"):
            clients.enter_context(connect(debian, path, ann, "203.0.113.7"))
        clients.enter_context(connect(debian, "/ws/chat/lobby", mallory))
        follow(debian, transcripts("Bans"))
    debian.shell("relayctl unban 2001:db8:1:2::/64; relayctl unban --user mallory")
    debian.shell("rm /etc/relayd/conf.d/auth.toml /etc/relayd/credentials/auth_secret ann.token")
    debian.shell("systemctl restart relayd")
    wait_until_ready(debian)


def test_the_chapters_on_faults_and_the_drain_show_what_their_commands_print(
    debian: Container,
) -> None:
    follow(debian, transcripts("Something wrong")[:6])  # the rest is what clients print
    with (
        debian.connect("/ws/camera/drain"),
        debian.connect("/ws/camera/drain"),
        debian.connect(f"/ws/difficulty/unity/{UUID}"),
    ):
        follow(debian, transcripts("Drain"))


def test_the_chapters_on_backups_show_what_their_commands_print(debian: Container) -> None:
    """With SQLite, and 20 messages in a room."""
    forget(debian)
    with debian.connect("/ws/chat/lobby") as client:
        for number in range(20):
            client.send(json.dumps({"message": f"message {number}"}))
            client.recv(timeout=PATIENCE)
    follow(debian, transcripts("Backup"))
    debian.shell("rm /var/backups/relayd.backup")
    follow(debian, transcripts("A backup every night"))
    steps = transcripts("From a lost machine back to service")
    with without_nginx(debian):
        follow(debian, [step for step in steps if not step.command.startswith("apt install")])
    debian.shell(
        """
        systemctl disable --now relayd-backup.timer
        rm -r /var/backups/relayd /etc/systemd/system/relayd-backup.*
        rm -f /var/lib/systemd/timers/stamp-relayd-*
        systemctl daemon-reload
        """
    )
