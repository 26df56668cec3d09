"""The package in a Debian that boots: one story; each test begins where the last one ended."""

import contextlib
import json
import re
import ssl
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.daemon import tls_client
from tests.integration.raw import handshake
from tests.package.container import PATIENCE, Container
from tests.package.story import (
    ROOT,
    before,
    close_code,
    documented,
    echo_works,
    files,
    follow,
    transcripts,
    wait_until_ready,
)


@pytest.mark.every_debian
def test_the_package_installs_without_a_network_and_runs(debian: Container) -> None:
    before.update(files(debian))
    began = time.monotonic()
    debian.shell("apt-get install --yes --no-install-recommends /root/relayd.deb")
    took = time.monotonic() - began
    print(f"installed in {took:.1f} s")
    assert debian.shell("systemctl is-active relayd.service relayd.socket") == "active\nactive"
    assert debian.shell("systemctl is-enabled relayd.service relayd.socket") == "enabled\nenabled"
    wait_until_ready(debian)


def test_the_chapter_on_the_installation_shows_what_its_commands_print(debian: Container) -> None:
    [installed, *steps] = transcripts("Install")
    assert installed.command.startswith("apt install ./relayd_")
    follow(debian, steps)


@pytest.mark.every_debian
def test_the_packages_own_test_passes(debian: Container) -> None:
    script = (ROOT / "debian" / "tests" / "smoke").read_text()
    debian.shell(f"cat >/root/smoke <<'SMOKE_ENDS'\n{script}\nSMOKE_ENDS\nsh /root/smoke")


@pytest.mark.every_debian
def test_the_service_runs_as_its_own_user_with_the_privileges_it_needs_and_no_more(
    debian: Container,
) -> None:
    figure = debian.shell("systemd-analyze security --no-pager relayd.service | tail -n 1")
    print(figure)
    level = re.search(r"level for relayd.service: ([\d.]+)", figure)
    assert level is not None
    assert float(level[1]) <= 2.0
    assert debian.shell("ps -o user= -p $(systemctl show -P MainPID relayd)") == "relayd"
    assert debian.shell("stat -c '%U %a' /var/lib/relayd /etc/relayd/credentials") == (
        "relayd 750\nroot 700"
    )
    bounds = debian.shell("systemctl show -P MemoryMax -P TasksMax -P LimitNOFILE relayd")
    assert bounds.split() == [str(2 << 30), "512", "65536"]


def test_every_document_for_operators_is_installed(debian: Container) -> None:
    for page in ("man1/relayctl.1", "man5/relayd.toml.5", "man8/relayd.8"):
        assert debian.shell(f"zcat /usr/share/man/{page}.gz | head -n 1").startswith(".TH")
    completed = debian.shell(
        "COMP_WORDS='relayctl d' COMP_CWORD=1 _RELAYCTL_COMPLETE=bash_complete relayctl"
    )
    assert "plain,db" in completed.splitlines()
    debian.shell("bash -n /usr/share/bash-completion/completions/relayctl")
    debian.shell(
        """
        cd /usr/share/doc/relayd
        test -s docs/../etc/examples/nginx/relayd.conf
        for page in $(grep -o 'docs/[a-z]*\\.md' README.md); do test -s "$page"; done
        """
    )
    debian.eventually("systemctl status relayd | grep 'Status: \"Serving: 0 connections\"'")


@pytest.mark.every_debian
def test_starts_are_quick_because_every_module_is_compiled(debian: Container) -> None:
    packages = debian.shell("echo /usr/lib/relayd/lib/python3.*/site-packages")
    debian.shell(f"test -s {packages}/twisted/plugins/dropin.cache")
    debian.shell(f"test -d {packages}/relayd/__pycache__")
    modes = debian.shell(f"find {packages} -not -type l -not -perm -a+r -print")
    assert modes == ""
    assert "dropin.cache" not in debian.shell("journalctl -u relayd --no-pager")


def test_a_killed_service_serves_again_within_3_seconds(debian: Container) -> None:
    """The best of three counts, for the machine may be busy; none takes very long."""
    took: list[float] = []
    while not took or (min(took) >= 3.0 and len(took) < 3):  # the machine may be busy
        main = debian.shell("systemctl show -P MainPID relayd")
        client = debian.connect("/ws/camera")
        began = time.monotonic()
        debian.shell(f"kill -KILL {main}")
        with contextlib.suppress(ConnectionClosed):
            client.recv(timeout=PATIENCE)
        with debian.connect("/ws/camera") as again:  # waits in the queue of the socket
            echo_works(again)
        took.append(time.monotonic() - began)
        assert debian.shell("systemctl show -P MainPID relayd") != main
    print("back in", ", ".join(f"{seconds:.1f} s" for seconds in took))
    assert min(took) < 3.0
    assert max(took) < 10.0


class Arrivals:
    """50 new clients a second; a context manager. Each does its handshake and goes."""

    def __init__(self, debian: Container) -> None:
        self._debian = debian
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._clients: list[threading.Thread] = []
        self.answers: list[str] = []
        self.longest = 0.0

    def __enter__(self) -> "Arrivals":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._enough.set()
        self._thread.join()
        for client in self._clients:
            client.join()

    def _run(self) -> None:
        while not self._enough.wait(0.02):
            self._clients.append(threading.Thread(target=self._come))
            self._clients[-1].start()

    def _come(self) -> None:
        began = time.monotonic()
        try:
            with self._debian.dial(8080) as client:
                client.sendall(handshake("/ws/camera/arrivals"))
                answer = client.recv(4096).decode(errors="replace").partition("\r\n")[0]
        except OSError as error:
            answer = repr(error)
        self.answers.append(answer)
        self.longest = max(self.longest, time.monotonic() - began)


@pytest.mark.every_debian
def test_a_restart_refuses_none_of_50_clients_a_second(debian: Container) -> None:
    kept = debian.connect("/ws/camera")
    with Arrivals(debian) as arrivals:
        for _ in range(3):
            time.sleep(1)  # a stretch of time in which clients come
            debian.shell("systemctl restart relayd")
    print(f"{len(arrivals.answers)} came, the longest waited {arrivals.longest:.1f} s")
    assert close_code(kept) == 1001
    assert len(arrivals.answers) > 100
    assert {answer.partition(" ")[2][:3] for answer in arrivals.answers} == {"101"}


WRONG = "printf '[chat]\\nhistroy = 20\\n' >/etc/relayd/conf.d/wrong.toml"


def test_a_wrong_configuration_stops_no_relayd_that_serves(debian: Container) -> None:
    """Neither `relayctl restart` nor an upgrade goes on; both say what is wrong."""
    client = debian.connect("/ws/camera")
    debian.shell(WRONG)
    ran = debian.try_shell("relayctl restart")
    assert ran.returncode == 2
    assert "histroy" in ran.stdout
    assert "nothing was restarted" in ran.stdout
    ran = debian.try_shell("apt-get install --yes /root/relayd_next.deb")
    assert ran.returncode != 0
    assert "histroy" in ran.stdout
    assert "dpkg --configure relayd" in ran.stdout
    echo_works(client)
    debian.shell("rm /etc/relayd/conf.d/wrong.toml; dpkg --configure relayd")
    assert close_code(client) == 1001
    wait_until_ready(debian)
    debian.shell("apt-get install --yes --allow-downgrades /root/relayd.deb")
    wait_until_ready(debian)


def test_a_wrong_configuration_stops_the_start_is_named_and_answers_clients(
    debian: Container,
) -> None:
    """50 clients come again and again; the socket does not fail, and the service mends itself."""
    debian.shell(WRONG)
    with Arrivals(debian) as arrivals:
        assert debian.try_shell("systemctl restart relayd").returncode != 0
        # the next client has started it again already
        debian.eventually("journalctl -u relayd --no-pager -n 20 | grep 'status=78'")
        debian.eventually("journalctl -u relayd --no-pager -n 20 | grep histroy")
        debian.eventually("systemctl show -P StatusText relayd | grep histroy")
        assert debian.shell("systemctl is-active relayd.socket") == "active"
        debian.shell("rm /etc/relayd/conf.d/wrong.toml")
        debian.eventually("systemctl is-active relayd")
    answers = [answer.partition(" ")[2][:3] for answer in arrivals.answers]
    assert set(answers) == {"101", "503"}
    wait_until_ready(debian)


def test_a_reload_of_a_wrong_configuration_fails_and_changes_nothing(debian: Container) -> None:
    debian.shell("printf '[chat]\\nhistory = -1\\n' >/etc/relayd/conf.d/wrong.toml")
    assert debian.try_shell("systemctl reload relayd").returncode != 0
    debian.eventually("journalctl -u relayd --no-pager -n 20 | grep 'nothing has changed'")
    # it runs, and can be looked at
    assert "0 clients" in debian.shell("relayctl status")
    debian.shell("rm /etc/relayd/conf.d/wrong.toml; systemctl reload relayd")


def test_a_database_created_by_root_belongs_to_the_service(debian: Container) -> None:
    debian.shell("systemctl stop relayd.socket relayd; mv /var/lib/relayd /root/kept")
    debian.shell("install -d -m 0750 -o relayd -g relayd /var/lib/relayd; relayctl db migrate")
    owners = debian.shell("find /var/lib/relayd -printf '%u:%g\\n' | sort -u")
    debian.shell("rm -r /var/lib/relayd; mv /root/kept /var/lib/relayd; systemctl start relayd")
    assert owners == "relayd:relayd"
    wait_until_ready(debian)


def test_a_reload_keeps_the_same_process(debian: Container) -> None:
    main = debian.shell("systemctl show -P MainPID relayd")
    debian.shell("printf '[keepalive]\\nping_interval = 20.0\\n' >/etc/relayd/conf.d/ping.toml")
    with debian.connect("/ws/camera") as client:
        debian.shell("systemctl reload relayd")
        debian.eventually("journalctl -u relayd --no-pager -n 20 | grep ping_interval")
        echo_works(client)
    assert debian.shell("systemctl is-active relayd") == "active"
    assert debian.shell("systemctl show -P MainPID relayd") == main
    debian.shell("rm /etc/relayd/conf.d/ping.toml")


# -- upgrade, and back


class Member:
    """A client of a chat room that comes again when it is closed, and asks for what it missed."""

    def __init__(self, debian: Container) -> None:
        self._debian = debian
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.heard: list[str] = []
        self.codes: list[int | None] = []
        self.gaps = 0

    def __enter__(self) -> "Member":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        last = 0
        while not self._end.is_set():
            with self._debian.connect(f"/ws/chat/upgrade?since={last}") as client:
                try:
                    while not self._end.is_set():
                        with contextlib.suppress(TimeoutError):
                            message = json.loads(client.recv(timeout=0.2))
                            self.gaps += "gap" in message
                            last = message["id"]
                            self.heard.append(message["message"])
                except ConnectionClosed as closed:
                    self.codes.append(closed.rcvd.code if closed.rcvd else None)

    def wait_for(self, text: str) -> None:
        """Returns when it has heard that."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.heard:
            assert time.monotonic() < deadline, self.heard[-3:]
            time.sleep(0.05)


def say(debian: Container, client: ClientConnection, text: str) -> ClientConnection:
    """Says something until it has come back; the client it was said with in the end."""
    while True:
        try:
            client.send(json.dumps({"message": text}))
            while json.loads(client.recv(timeout=PATIENCE)).get("message") != text:
                pass
        except ConnectionClosed:
            client = debian.connect("/ws/chat/upgrade?history=0")
        else:
            return client


def install_while_they_talk(debian: Container, package: str) -> Member:
    """Installs a package while two clients are connected; the one that listened."""
    installed = threading.Event()
    failures: list[BaseException] = []

    def install() -> None:
        try:
            debian.shell(f"apt-get install --yes --allow-downgrades /root/{package}")
        except BaseException as error:
            failures.append(error)
        finally:
            installed.set()

    with Member(debian) as member, Arrivals(debian) as arrivals:
        speaker = debian.connect("/ws/chat/upgrade?history=0")
        speaker = say(debian, speaker, f"{package} 0")
        member.wait_for(f"{package} 0")
        installation = threading.Thread(target=install)
        installation.start()
        count = 0
        while not installed.wait(0.05):
            count += 1
            speaker = say(debian, speaker, f"{package} {count}")
        installation.join()
        wait_until_ready(debian)
        speaker = say(debian, speaker, f"{package} {count + 1}")
        member.wait_for(f"{package} {count + 1}")
        speaker.close()
    assert failures == []
    assert {answer.partition(" ")[2][:3] for answer in arrivals.answers} == {"101"}
    # what was said again, because its copy did not come before the end, may be there twice
    unique = list(dict.fromkeys(text for text in member.heard if text.startswith(package)))
    assert unique == [f"{package} {number}" for number in range(count + 2)]
    return member


@pytest.mark.parametrize(
    "version", [pytest.param("relayd_next.deb", marks=pytest.mark.every_debian), "relayd.deb"]
)
def test_an_upgrade_and_a_downgrade_lose_no_message(debian: Container, version: str) -> None:
    member = install_while_they_talk(debian, version)
    assert member.codes == [1001]
    assert member.gaps == 0
    assert ("+next" in debian.shell("relayctl --version")) == (version == "relayd_next.deb")
    assert "Traceback" not in debian.shell("journalctl -u relayd --no-pager")


# -- behind nginx, with PostgreSQL and Redis


@pytest.fixture
def tls(debian: Container) -> ssl.SSLContext:
    """Trusts the certificate of the nginx in there."""
    certificate = debian.root / "etc" / "nginx" / "relayd.pem"
    return tls_client(certificate)


def test_the_nginx_example_serves_over_tls(debian: Container) -> None:
    debian.shell(
        """
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=relay.example.org \\
            -addext subjectAltName=DNS:relay.example.org \\
            -keyout /etc/nginx/relayd.key -out /etc/nginx/relayd.pem 2>/dev/null
        sed -e 's,^\\( *ssl_certificate \\).*,\\1/etc/nginx/relayd.pem;,' \\
            -e 's,^\\( *ssl_certificate_key \\).*,\\1/etc/nginx/relayd.key;,' \\
            /usr/share/doc/relayd/examples/nginx/relayd.conf >/etc/nginx/conf.d/relayd.conf
        printf '[proxy]\\ntrusted = ["127.0.0.1"]\\n' >/etc/relayd/conf.d/proxy.toml
        systemctl restart relayd
        nginx -t
        systemctl restart nginx
        """
    )
    trust = tls_client(debian.root / "etc" / "nginx" / "relayd.pem")
    with (
        debian.connect("/ws/camera/nginx", 443, ssl=trust) as camera,
        debian.connect("/ws/camera/nginx", 443, ssl=trust) as viewer,
    ):
        echo_works(camera)
        assert json.loads(viewer.recv(timeout=PATIENCE)) == {"x": 1, "y": 2, "z": 3}


def test_the_documented_steps_switch_on_postgresql_and_redis(
    debian: Container, tls: ssl.SSLContext
) -> None:
    debian.shell(documented("PostgreSQL"))
    wait_until_ready(debian)
    assert debian.shell("cd /; sudo -u postgres psql -Atc 'SELECT count(*) FROM quizzes' relayd")
    print(debian.shell(documented("Redis")))
    wait_until_ready(debian)
    debian.eventually("systemctl status relayd | grep '2 of 2 workers'")
    with (
        debian.connect("/ws/chat/stores", 443, ssl=tls) as one,
        debian.connect("/ws/chat/stores", 443, ssl=tls) as other,
    ):
        one.send('{"message": "Hello."}')
        assert json.loads(other.recv(timeout=PATIENCE))["message"] == "Hello."


def test_the_secrets_of_the_service_are_readable_by_root_and_the_service_only(
    debian: Container,
) -> None:
    assert debian.shell("stat -c %a /etc/relayd/credentials/redis_url") == "600"
    refused = debian.try_shell("sudo -u relayd cat /etc/relayd/credentials/redis_url")
    assert refused.returncode != 0
    assert "redis://" not in debian.shell("systemctl show relayd | grep -v LoadCredential")


def test_an_operator_without_the_secrets_may_look_and_is_told_which_commands_need_them(
    debian: Container,
) -> None:
    """With two workers, which need a Redis, whose URL is a secret."""
    member = "setpriv --reuid=nobody --regid=nogroup --groups=relayd"
    for command in ("status", "clients", "log-level info", "publish chat/secrets Hello."):
        debian.shell(f"{member} relayctl {command}")
    for command in ("db status", "doctor", "token create", "quiz export -"):
        ran = debian.try_shell(f"{member} relayctl {command}")
        assert (ran.returncode, "use sudo" in ran.stdout) == (2, True), ran.stdout


def test_a_changed_secret_is_handed_over_by_a_reload_run_by_root(debian: Container) -> None:
    """By relayctl and by systemd; `status` and `doctor` of root name it before, and not after."""
    main = debian.shell("systemctl show -P MainPID relayd")
    for reload in ("relayctl reload", "systemctl reload relayd"):
        debian.shell("(umask 077; openssl rand -hex 32 >/etc/relayd/credentials/auth_secret)")
        assert "[auth] secret (a reload does it)" in debian.shell("relayctl status")
        assert "[auth] secret" in debian.try_shell("relayctl doctor").stdout
        debian.shell(reload)
        assert "differs" not in debian.shell("relayctl status")
        made = debian.shell("relayctl token create --user ann")
        with debian.connect(f"/ws/chat/secrets?token={made}&history=0") as client:
            client.send('{"message": "Hello."}')
            assert json.loads(client.recv(timeout=PATIENCE))["user"] == "ann"
    assert debian.shell("systemctl show -P MainPID relayd") == main
    debian.eventually("journalctl -u relayd --no-pager | grep 'handed over: auth_secret'")


def test_a_restart_with_workers_refuses_no_client(debian: Container) -> None:
    with Arrivals(debian) as arrivals:
        time.sleep(1)  # a stretch of time in which clients come
        debian.shell("systemctl restart relayd")
        wait_until_ready(debian)
    print(f"{len(arrivals.answers)} came, the longest waited {arrivals.longest:.1f} s")
    assert {answer.partition(" ")[2][:3] for answer in arrivals.answers} == {"101"}


def test_a_connections_life_can_be_followed_in_the_journal(debian: Container) -> None:
    with debian.connect("/ws/camera/journal") as client:
        echo_works(client)
    script = "journalctl -u relayd -o json --no-pager --output-fields=CONN,PATH,MESSAGE CONN=%s"
    find = "journalctl -u relayd -o json --no-pager | grep /ws/camera/journal"
    debian.eventually(find)  # journald may be behind
    conn = json.loads(debian.shell(find).splitlines()[0])["CONN"]
    debian.eventually(f"test $({script % conn} | wc -l) -ge 2")


def test_the_service_starts_after_a_reboot(debian: Container, tls: ssl.SSLContext) -> None:
    debian.power_off()
    debian.boot()
    wait_until_ready(debian)
    with debian.connect("/ws/chat/stores", 443, ssl=tls) as client:
        assert json.loads(client.recv(timeout=PATIENCE))["message"] == "Hello."
