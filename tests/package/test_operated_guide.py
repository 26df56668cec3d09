"""The chapters of docs/operate.md, command by command, after `test_operated`: one story.

Each command prints what the page shows. `LEFT_OUT` in `story` has the chapters that are not run
here, and why.
"""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.certificates import Chain
from tests.package.container import PATIENCE, Container
from tests.package.story import (
    Transcript,
    documented,
    follow,
    plain,
    transcripts,
    wait_until_ready,
    without_nginx,
)

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
        journalctl --rotate --vacuum-time=1ms
        """
    )
    forget(debian)
    yield
    debian.shell(
        """
        rm -r /etc/letsencrypt /etc/nginx/conf.d/relayd.conf
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


def test_the_chapter_on_the_log_shows_what_its_commands_print(debian: Container) -> None:
    """About the connection of the chapter before, and one that is refused."""
    steps = transcripts("Logs")
    number = debian.shell("journalctl -u relayd -o cat -n 1 | cut -d ' ' -f 1")
    debian.shell(
        """
        printf '[auth]\\nrequired = true\\nsecret = "%032d"\\n' 0 >/etc/relayd/conf.d/auth.toml
        relayctl reload
        """
    )
    with pytest.raises(InvalidStatus):
        connect(debian, "/ws/chat/lobby", address="192.0.2.21")
    follow(debian, steps, number=f"=c17 -> ={number}", for_ever=" -f ->  ")
    debian.shell("rm /etc/relayd/conf.d/auth.toml; relayctl reload")


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


def test_the_chapters_on_connections_show_what_their_commands_print(debian: Container) -> None:
    ann, headset = debian.shell("cat ann.token"), token_of(debian, "headset-7")
    follow(
        debian, transcripts("The running relayd"),
        nobody="relayctl -> setpriv --reuid=nobody --regid=nogroup --clear-groups relayctl",
    )  # fmt: skip
    with ExitStack() as clients:
        camera = clients.enter_context(connect(debian, "/ws/camera", headset, "192.0.2.22"))
        for path, token, address in (
            ("/ws/camera", ann, "192.0.2.21"),
            ("/ws/camera", ann, "192.0.2.21"),
            ("/ws/push/build", headset, "192.0.2.22"),
            (f"/ws/difficulty/unity/{UUID}", headset, "192.0.2.22"),
            (f"/ws/difficulty/android/{UUID}", headset, "192.0.2.21"),
            ("/ws/chat/lobby", ann, "192.0.2.21"),
        ):
            clients.enter_context(connect(debian, path, token, address))
        for x in range(12):
            camera.send(f'{{"x": {x}, "y": 2, "z": 3}}')
            camera.recv(timeout=PATIENCE)
        follow(debian, transcripts("The connections"))
        follow(debian, transcripts("Closing connections"), answers=[("[y/N]: ", "y")])


def test_the_chapter_on_tokens_shows_what_its_commands_print(debian: Container) -> None:
    steps = transcripts("Configuration and tokens")
    follow(debian, steps[:3], folder="/tmp")
    with connect(debian, "/ws/chat/lobby", debian.shell("cat /tmp/ann.token")):
        follow(debian, steps[3:], folder="/tmp")
    debian.shell("rm /tmp/ann.token")


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


class Clients:
    """Three clients that come again when they are closed, and say so; a context manager.

    Attributes:
        lines: what they have printed.
    """

    def __init__(self, debian: Container) -> None:
        self._debian = debian
        self._leave = threading.Event()
        self._ready = threading.Barrier(4)
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in (1, 2, 3)]
        self.lines: list[str] = []

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        self._ready.wait(PATIENCE)
        return self

    def __exit__(self, *error: object) -> None:
        self._leave.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        client = self._debian.connect("/ws/camera")
        self._ready.wait(PATIENCE)
        while not self._leave.is_set():
            with suppress(TimeoutError):
                try:
                    client.recv(timeout=0.1)
                except ConnectionClosed as closed:
                    code, reason = (said.code, said.reason) if (said := closed.rcvd) else (1006, "")
                    self.lines.append(f"client {number}: closed with {code} ({reason})")
                    began = time.monotonic()
                    client = self._debian.connect("/ws/camera")
                    took = time.monotonic() - began
                    self.lines.append(f"client {number}: back after {took:.1f} s")
        client.close()

    def follow(self, step: Transcript, **replaced: str) -> None:
        """Runs a command of a page, which shows what they print meanwhile, in any order.

        Args:
            step: the command.
            replaced: words of the clients that may be others, by a name that says why.
        """
        del self.lines[:]
        follow(self._debian, [step])
        deadline = time.monotonic() + PATIENCE
        wanted = sorted(map(plain, step.clients))
        while True:
            lines = "\n".join(self.lines)
            for words in replaced.values():
                old, _, new = words.partition(" -> ")
                lines = lines.replace(old, new)
            if sorted(map(plain, lines.splitlines())) == wanted:
                break
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.05)


def test_the_chapters_on_faults_and_the_drain_show_what_their_commands_print(
    debian: Container,
) -> None:
    [*steps, killed] = transcripts("Something wrong")
    follow(debian, steps)
    with Clients(debian) as clients:
        # a worker may have noticed that its parent is gone before systemd kills it, too
        clients.follow(killed, noticed="with 1001 (restart) -> with 1006 ()")
    wait_until_ready(debian)
    with (
        debian.connect("/ws/camera/drain"),
        debian.connect("/ws/camera/drain"),
        debian.connect(f"/ws/difficulty/unity/{UUID}"),
    ):
        follow(debian, transcripts("Drain"))


def test_the_chapter_on_doctor_shows_what_its_command_prints(debian: Container) -> None:
    debian.shell(
        """
        redis-cli config set maxmemory-policy allkeys-lru
        redis-cli config set maxmemory 1gb
        sed -i 's/proxy_read_timeout .*;/proxy_read_timeout 20s;/' /etc/nginx/conf.d/relayd.conf
        mv /etc/relayd/conf.d/proxy.toml /root
        systemctl restart relayd  # resets the count of starts
        """
    )
    wait_until_ready(debian)
    follow(debian, transcripts("Doctor"))
    debian.shell(
        """
        redis-cli config set maxmemory-policy noeviction
        redis-cli config set maxmemory 0
        cp /usr/share/doc/relayd/examples/nginx/relayd.conf /etc/nginx/conf.d/
        mv /root/proxy.toml /etc/relayd/conf.d
        relayctl reload
        """
    )


def test_the_chapter_on_the_console_shows_what_its_command_prints(debian: Container) -> None:
    typed = [("Password: ", "a word of many"), ("confirmation: ", "a word of many")]
    follow(debian, transcripts("The console"), answers=typed)


def test_the_chapter_on_upgrades_shows_what_its_commands_print(
    debian: Container, releases: dict[str, Path]
) -> None:
    for name, path in releases.items():
        shutil.copy(path, debian.root / "root" / name)
    others = "relayd@chat.socket relayd@chat relayd@stage.socket relayd@stage"
    debian.shell(f"systemctl disable --now {others}")  # each upgrade would restart them, too
    there, back, *steps = transcripts("Upgrade, and back")
    short = documented("Upgrade, and back").partition("#")[0]
    assert short.strip() == there.command
    with Clients(debian) as clients:
        clients.follow(there)
        clients.follow(back)
    follow(debian, steps)
    debian.shell(f"systemctl enable --now {others}")


def test_a_rotated_password_of_postgresql_is_in_use_after_the_documented_steps(
    debian: Container,
) -> None:
    debian.shell(
        """
        echo 127.0.0.1 db.example.org >>/etc/hosts
        cd /tmp
        sudo -u postgres psql -qc "ALTER ROLE relayd PASSWORD 'old'"
        rm /etc/relayd/conf.d/database.toml
        cd /etc/relayd/credentials
        (umask 077; echo 'postgresql://relayd:old@db.example.org/relayd' >database_url)
        systemctl restart relayd
        """
    )
    wait_until_ready(debian)
    main = debian.shell("systemctl show -P MainPID relayd")
    debian.shell("cd /tmp\n" + documented("A rotated password", "operate.md"))
    debian.eventually(
        "journalctl -u relayd -n 20 | grep -F 'PostgreSQL' | grep 'the new login is in use'"
    )
    assert debian.shell("systemctl show -P MainPID relayd") == main


def test_a_message_that_another_program_publishes_reaches_a_client(debian: Container) -> None:
    with debian.connect("/ws/push/build") as client:
        debian.shell(documented("Publish from anywhere", "operate.md"))
        assert json.loads(client.recv(timeout=PATIENCE)) == {"percent": 40}


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
    with without_nginx(debian):
        follow(debian, transcripts("From a lost machine back to service"))
    debian.shell(
        """
        systemctl disable --now relayd-backup.timer
        rm -r /var/backups/relayd /etc/systemd/system/relayd-backup.*
        rm -f /var/lib/systemd/timers/stamp-relayd-*
        systemctl daemon-reload
        """
    )
