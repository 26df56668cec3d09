"""`relayctl doctor` finds each fault that is put in on purpose, and is quiet on a sound system."""

import json
import re
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest

from relayd.storage import schema
from tests.certificates import Chain, write
from tests.daemon import Daemon
from tests.integration.clients import Refused, read_many, say
from tests.integration.conftest import Connect, Spawn
from tests.integration.relayctl import Operator
from tests.integration.waiting import eventually
from tests.ports import free_port
from tests.processes import RELAYCTL, Done, run
from tests.proxies import Nginx, find
from tests.redis_servers import Redis
from tests.servers import PostgreSQL

SOUND_REDIS = ("appendonly yes",)


class Doctor:
    """What one run of `relayctl doctor --json` has said."""

    def __init__(self, folder: Path, env: Mapping[str, str], *args: str) -> None:
        command = [RELAYCTL, "doctor", "--json", *args]
        ran = run(command, cwd=folder, env={"PATH": "/nowhere", **env}, timeout=120)
        assert ran.stdout, ran.stderr
        assert "Traceback" not in ran.stderr, ran.stderr
        self.code = ran.returncode
        self.findings: list[dict[str, str]] = json.loads(ran.stdout)["findings"]

    def bad(self) -> list[tuple[str, str]]:
        """Check and finding of every warning and fault."""
        return [
            (one["check"], one["finding"])
            for one in self.findings
            if one["state"] in ("warn", "fault")
        ]

    def has(self, check: str, state: str, finding: str, remedy: str) -> None:
        """Asserts that a check has found something, in these words, and says what to do."""
        of_check = [one for one in self.findings if one["check"] == check]
        assert any(
            one["state"] == state and finding in one["finding"] and remedy in one["remedy"]
            for one in of_check
        ), of_check
        if state == "fault":
            assert self.code == 1


Examine = Callable[..., Doctor]


@pytest.fixture
def examine(tmp_path: Path) -> Examine:
    """Runs the doctor on a daemon's configuration: `examine(daemon, "--url", url, key=value)`."""

    def run(daemon: Daemon | None, *args: str, env: Any = None, **settings: object) -> Doctor:
        folder = daemon.folder if daemon else tmp_path
        port = daemon.port if daemon else free_port()
        environ = {
            **(daemon.env if daemon else {}),
            "RELAYD_SERVER_LISTEN": f"tcp:{port}:interface=127.0.0.1",
            **{f"RELAYD_{name.upper()}": str(value) for name, value in settings.items()},
            **(env or {}),
        }
        return Doctor(folder, environ, *args)

    return run


@pytest.fixture
def redis() -> Iterator[Redis]:
    """A Redis that is set up well."""
    with Redis(*SOUND_REDIS) as server:
        yield server


def url_of(redis: Redis) -> str:
    """Where relayd finds it."""
    return f"redis://127.0.0.1:{redis.port}/0"


def configuration(nginx: Nginx) -> tuple[str, ...]:
    """Options that lead the doctor to the test's nginx, and through it."""
    ca = str(nginx.certificates.ca_file)
    main = str(nginx.folder / "nginx.conf")
    return ("--nginx-config", main, "--url", nginx.url, "--ca", ca)


def hidden(folder: Path, module: str) -> dict[str, str]:
    """An environment in which a module cannot be imported."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        f"            raise ImportError('{module} is hidden')\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    return {"PYTHONPATH": str(folder)}


# -- a sound system


def test_a_sound_system_has_no_finding(
    spawn: Spawn, examine: Examine, redis: Redis, postgresql_url: str, tmp_path: Path
) -> None:
    """Two relayds, Redis, PostgreSQL, nginx with TLS: nothing to say, exit code 0."""
    settings = {
        "redis_url": url_of(redis), "database_url": postgresql_url, "proxy_trusted": "127.0.0.1",
    }  # fmt: skip
    nodes = [spawn(**settings) for _ in range(2)]
    ports = [f"127.0.0.1:{node.port}" for node in nodes]
    with Nginx(tmp_path / "proxy", ports) as nginx:
        found = examine(nodes[0], *configuration(nginx))
    assert found.bad() == []
    assert found.code == 0
    sound = {one["check"] for one in found.findings if one["state"] == "ok"}
    assert len(sound) >= 24


def test_the_doctor_gets_the_listening_address_from_the_running_relayd(
    spawn: Spawn, examine: Examine
) -> None:
    """An option, or a socket unit of systemd, has taken the place of the configuration's."""
    daemon = spawn()
    found = examine(daemon, server_listen=f"tcp:{free_port()}:interface=127.0.0.1")
    found.has("relayd", "ok", f"ws://127.0.0.1:{daemon.port}", "")


def test_a_sound_single_process_has_no_finding(spawn: Spawn, examine: Examine) -> None:
    """The embedded default, without nginx and Redis."""
    found = examine(spawn())
    assert found.bad() == []
    assert found.code == 0


# -- relayd and its machine


def test_the_doctor_reports_a_wrong_configuration(examine: Examine) -> None:
    found = examine(None, server_workers="many")
    found.has("configuration", "fault", "RELAYD_SERVER_WORKERS", "does not start")


def test_the_doctor_reports_a_secret_that_everyone_may_read(examine: Examine, spawn: Spawn) -> None:
    node = spawn()
    file = node.folder / "relayd.toml"
    file.write_text('[api]\nkey = "a-key-of-the-api"\n')
    file.chmod(0o644)
    found = examine(node, env={"RELAYD_CONFIG": str(file)})
    found.has("configuration", "warn", "[api] key", "chmod 640")
    assert "a-key-of-the-api" not in json.dumps(found.findings)


def test_the_doctor_reports_a_relayd_that_does_not_run(examine: Examine) -> None:
    examine(None).has("relayd", "fault", "relayd does not answer", "systemctl status relayd")


def test_the_doctor_reports_a_relayd_that_is_not_ready(
    spawn: Spawn, examine: Examine, redis: Redis
) -> None:
    node = spawn(redis_url=url_of(redis))
    redis.kill()
    found = examine(node)
    found.has("relayd", "fault", "not ready", "see the parts it names")
    found.has("redis", "fault", f"127.0.0.1:{redis.port}", "[redis] url")


def test_the_doctor_reports_a_control_socket_at_another_path(
    spawn: Spawn, examine: Examine
) -> None:
    node = spawn()
    found = examine(node, control_socket=node.folder / "elsewhere.sock")
    found.has("control", "fault", "elsewhere.sock", "--config FILE")


def test_the_doctor_reports_a_file_limit_that_is_too_low(spawn: Spawn, examine: Examine) -> None:
    node = spawn(limits_max_connections=1000)
    _, most = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (600, most))
    found = examine(node)
    found.has("files", "fault", f"{node.pid} may open 600 files", "LimitNOFILE=")
    resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (1024, most))
    examine(node, limits_max_connections=0).has("files", "warn", "1024 files", "LimitNOFILE=")


def test_the_doctor_reports_a_backlog_that_the_kernel_cuts(examine: Examine) -> None:
    listen = f"tcp:{free_port()}:interface=127.0.0.1:backlog=1000000"
    found = examine(None, env={"RELAYD_SERVER_LISTEN": listen})
    found.has("kernel", "warn", "backlog=1000000", "net.core.somaxconn = 1000000")


@pytest.mark.parametrize(
    ("module", "check", "finding"),
    [
        ("hiredis", "hiredis", "hiredis cannot be imported"),
        ("autobahn.nvx", "native-parts", "compiled part of autobahn"),
    ],
)
def test_the_doctor_reports_a_missing_module(
    module: str, check: str, finding: str, examine: Examine, redis: Redis, tmp_path: Path
) -> None:
    env = hidden(tmp_path / "hidden", module)
    found = examine(None, env=env, redis_url=url_of(redis))
    found.has(check, "fault", finding, "--force-reinstall")


# -- Redis


def test_the_doctor_reports_a_redis_that_evicts(spawn: Spawn, examine: Examine) -> None:
    with Redis(*SOUND_REDIS, "maxmemory 100mb", "maxmemory-policy allkeys-lru") as redis:
        found = examine(None, redis_url=url_of(redis))
    found.has("redis-memory", "fault", "allkeys-lru", "maxmemory-policy noeviction")


def test_the_doctor_reports_a_redis_that_accepts_too_few_clients(examine: Examine) -> None:
    with Redis(*SOUND_REDIS, "maxclients 30") as redis:
        found = examine(None, redis_url=url_of(redis), server_workers=16)
    found.has("redis-clients", "fault", "30 clients", "maxclients")


def test_the_doctor_reports_a_redis_that_disconnects_subscribers(examine: Examine) -> None:
    with Redis(*SOUND_REDIS, "client-output-buffer-limit pubsub 1mb 512kb 60") as redis:
        found = examine(None, redis_url=url_of(redis))
    found.has("redis-buffers", "warn", "524288 bytes", "pubsub 32mb 8mb 60")


def test_the_doctor_reports_a_redis_without_persistence(examine: Examine) -> None:
    with Redis() as redis:
        found = examine(None, redis_url=url_of(redis))
    found.has("redis-persistence", "warn", "keeps nothing on disk", "appendonly yes")


def test_the_doctor_reports_a_replica(examine: Examine, redis: Redis) -> None:
    with Redis(f"replicaof 127.0.0.1 {redis.port}") as replica:
        found = examine(None, redis_url=url_of(replica))
    assert [one["state"] for one in found.findings if one["check"] == "redis"] == ["fault"]


def test_the_doctor_reports_clocks_that_differ(
    spawn: Spawn, examine: Examine, redis: Redis, tmp_path: Path
) -> None:
    """A process whose machine is 100 s ahead."""
    (tmp_path / "ahead").mkdir()
    (tmp_path / "ahead" / "sitecustomize.py").write_text(
        "import time\nreal = time.time\ntime.time = lambda: real() + 100\n"
    )
    node = spawn(redis_url=url_of(redis), PYTHONPATH=tmp_path / "ahead")
    found = examine(node, env={"PYTHONPATH": ""})
    found.has("clocks", "warn", f"process {node.pid}, is ", "NTP")
    (text,) = [
        one["finding"]
        for one in found.findings
        if (one["check"], one["state"]) == ("clocks", "warn")
    ]
    ahead = re.search(r", is (\d+\.\d) s ahead of Redis", text)
    # less what its report took to Redis
    assert ahead is not None, text
    assert 90 < float(ahead[1]) <= 100


def test_the_doctor_reports_a_dead_process(spawn: Spawn, examine: Examine, redis: Redis) -> None:
    dead, alive = (spawn(redis_url=url_of(redis)) for _ in range(2))
    dead.kill()
    for key in redis.tell("KEYS", "relayd:process:*:status"):
        if f'"pid":{dead.pid}'.encode() in redis.tell("GET", key):
            redis.tell("DEL", key)  # the lease ends sooner
    found = examine(alive)
    found.has("processes", "warn", "is gone", "relayctl status --forget ")
    [remedy] = [one["remedy"] for one in found.findings if "is gone" in one["finding"]]
    operator = Operator(alive.folder, redis_url=url_of(redis))
    assert operator(*remedy.partition("then relayctl ")[2].split()).returncode == 0
    assert not [one for one in examine(alive).bad() if one[0] == "processes"]
    # one that lives cannot be forgotten, nor one that nobody knows
    (living,) = redis.tell("ZRANGE", "relayd:processes", 0, -1)
    for id, why in ((living.decode(), "is not gone"), ("nobody", "no process nobody")):
        refused = operator("status", "--forget", id)
        assert (refused.returncode, why in refused.stderr) == (2, True)


def test_a_dead_process_that_was_started_again_is_not_listed_as_gone(
    spawn: Spawn, examine: Examine, redis: Redis
) -> None:
    node = spawn(redis_url=url_of(redis))
    operator = Operator(node.folder, redis_url=url_of(redis))

    def states() -> list[str]:
        return [one["state"] for one in operator.json("status")["processes"]]

    node.kill()
    for key in redis.tell("KEYS", "relayd:process:*:status"):
        redis.tell("DEL", key)  # the lease ends sooner
    assert states() == ["gone"]
    node.start()
    eventually(lambda: states() == ["ok"])
    assert not [one for one in examine(node).bad() if one[0] == "processes"]


def test_a_process_that_said_goodbye_is_not_listed_whatever_of_it_is_left(
    spawn: Spawn, examine: Examine, redis: Redis
) -> None:
    alive = spawn(redis_url=url_of(redis))
    # the second of the two commands of a goodbye was lost
    redis.tell("ZADD", "relayd:processes", int(time.time()), "of-before")
    assert not [one for one in examine(alive).bad() if one[0] == "processes"]


# -- the database


def test_the_doctor_reports_an_unavailable_postgresql(examine: Examine) -> None:
    url = f"postgresql://relayd:secret-word@127.0.0.1:{free_port()}/relayd"
    found = examine(None, database_url=url)
    found.has("database", "fault", "does not answer", "[database] url")
    assert "secret-word" not in json.dumps(found.findings)


def test_the_doctor_reports_a_pending_migration(examine: Examine, postgresql: PostgreSQL) -> None:
    found = examine(None, database_url=postgresql.url(postgresql.create()))
    found.has("database-schema", "fault", "0001", "relayctl db migrate")


def test_the_doctor_reports_a_postgresql_that_accepts_too_few_clients(
    examine: Examine, own_postgresql: PostgreSQL
) -> None:
    own_postgresql.stop()
    own_postgresql.settings = {"max_connections": "12"}
    own_postgresql.start()
    schema.migrate(own_postgresql.url())
    found = examine(None, database_url=own_postgresql.url(), database_pool_size=10)
    found.has("database-connections", "fault", "max_connections 12", "smaller pool_size")


def test_a_database_of_another_encoding_refuses_single_messages_and_is_told(
    examine: Examine, spawn: Spawn, connect: Connect, postgresql: PostgreSQL
) -> None:
    postgresql.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    daemon = spawn(DATABASE_URL=postgresql.url("latin"))
    assert "encoding is LATIN1, which cannot hold every character" in daemon.log
    client, other = connect(daemon, "/ws/chat/r"), connect(daemon, "/ws/chat/r")
    for text in ("a", "\N{GRINNING FACE}", "é"):
        say(client, {"message": text})
    frames = read_many(client, 3)
    assert [frame["message"] for frame in frames if "id" in frame] == ["a", "é"]
    assert [frame["error"] for frame in frames if "error" in frame] == ["bad_message"]
    assert [frame["message"] for frame in read_many(other, 2)] == ["a", "é"]
    assert Refused(daemon, "/ws/chat/%E0%A4%B9").status == 400
    found = examine(daemon)
    found.has("database-use", "warn", "encoding is LATIN1", "createdb --encoding UTF8")


def test_the_timeout_of_relayd_holds_whatever_the_url_sets(
    examine: Examine, postgresql_url: str
) -> None:
    url = f"{postgresql_url}?options=-c%20statement_timeout%3D60000"
    found = examine(None, database_url=url)
    found.has("database-timeouts", "ok", "statements may take 3 s", "")


def test_the_doctor_reports_a_full_disk(examine: Examine, spawn: Spawn) -> None:
    """/proc has no space at all."""
    found = examine(spawn(), database_url="sqlite:////proc/relayd.db")
    found.has("database", "fault", "0 MiB are free", "free space")


# -- nginx


@pytest.mark.parametrize(
    ("check", "state", "changes", "finding", "remedy"),
    [
        (
            "nginx-timeouts", "fault", {"proxy_read_timeout 75s": "proxy_read_timeout 20s"},
            "20 s and relayd pings after 25 s", "proxy_read_timeout 75s;",
        ),
        (
            "nginx-timeouts", "warn", {"proxy_read_timeout 75s": "proxy_read_timeout 30s"},
            "without a close code", "proxy_read_timeout 75s;",
        ),
        (
            "nginx-upgrade", "fault", {"proxy_http_version 1.1;": ""},
            "HTTP/1.0", "proxy_http_version 1.1;",
        ),
        (
            "nginx-upgrade", "fault", {"proxy_set_header Upgrade    $http_upgrade;": ""},
            "Upgrade is not forwarded", "proxy_set_header Upgrade $http_upgrade;",
        ),
        (
            "nginx-upgrade", "fault",
            {"proxy_buffering off;": "proxy_set_header X-Mine 1;"},  # and inherits none
            "Connection is not forwarded", "proxy_set_header Connection $connection_upgrade;",
        ),
        (
            "nginx-addresses", "fault", {"proxy_set_header X-Forwarded-For   $remote_addr;": ""},
            "trusts the header of each client", "proxy_set_header X-Forwarded-For $remote_addr;",
        ),
        (
            "nginx-metrics", "warn", {"location ~ ^/metrics/?$": "location /elsewhere"},
            "everyone may read", "return 404",
        ),
        (
            "nginx", "fault", {"location /ws/ {": "location /ws/ { return 404; } location /sock/ {",
                               "location / {": "location /pages/ {"},
            "no server forwards /ws/", "proxy_pass",
        ),
        (
            "nginx-balance", "warn", {"    least_conn;": ""},
            "round robin", "least_conn;",
        ),
        (
            "nginx-balance", "warn", {"    zone relayd 64k;": ""},
            "counts the connections for itself", "zone NAME 64k;",
        ),
    ],
)  # fmt: skip
def test_the_doctor_reports_faults_of_nginx(
    check: str, state: str, changes: dict[str, str], finding: str, remedy: str,
    examine: Examine, tmp_path: Path,
) -> None:  # fmt: skip
    """nginx itself takes each of these configurations."""
    port = free_port()
    nginx = Nginx(tmp_path / "proxy", [f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}"], changes)
    nginx.configure()
    subprocess.run(nginx.check(), check=True, capture_output=True)
    env = {"RELAYD_SERVER_LISTEN": f"tcp:{port}", "RELAYD_PROXY_TRUSTED": "127.0.0.1"}
    main = str(nginx.folder / "nginx.conf")
    examine(None, "--nginx-config", main, env=env).has(check, state, finding, remedy)


def test_the_doctor_reports_an_nginx_that_is_not_trusted(examine: Examine, tmp_path: Path) -> None:
    path = f"{tmp_path}/relayd.sock"
    nginx = Nginx(tmp_path / "proxy", [path])
    nginx.configure()
    env = {"RELAYD_SERVER_LISTEN": f"unix:{path}"}
    found = examine(None, "--nginx-config", str(nginx.folder / "nginx.conf"), env=env)
    found.has("nginx-addresses", "warn", "unix: is not in [proxy] trusted", '["unix:"]')


def test_the_doctor_reports_an_nginx_with_too_few_connections(
    examine: Examine, tmp_path: Path
) -> None:
    """From the output of `nginx -T`, saved in a file."""
    port = free_port()
    nginx = Nginx(tmp_path / "proxy", [f"127.0.0.1:{port}"])
    nginx.configure()
    dump = tmp_path / "dump"
    dump.write_text(
        subprocess.run([*nginx.command(), "-T"], check=True, capture_output=True, text=True).stdout
    )
    env = {"RELAYD_SERVER_LISTEN": f"tcp:{port}", "RELAYD_PROXY_TRUSTED": "127.0.0.1"}
    found = examine(None, "--nginx-config", str(dump), env=env, limits_max_connections=2000)
    found.has("nginx-capacity", "fault", "512 clients at most", "worker_connections 4096")
    assert {one["state"] for one in found.findings if one["check"] == "nginx-upgrade"} == {"ok"}


def test_the_doctor_reports_an_nginx_configuration_that_cannot_be_parsed(
    examine: Examine, tmp_path: Path
) -> None:
    (tmp_path / "broken.conf").write_text("server { listen 80;")
    found = examine(None, "--nginx-config", str(tmp_path / "broken.conf"))
    found.has("nginx", "warn", "cannot be parsed", "--nginx-config")


# -- the public URL


@pytest.mark.parametrize(
    ("days", "state", "finding"),
    [(-2, "fault", "has expired"), (5, "fault", "expires in"), (20, "warn", "expires in")],
)
def test_the_doctor_reports_a_certificate_that_expires_soon(
    days: float, state: str, finding: str, spawn: Spawn, examine: Examine, tmp_path: Path
) -> None:
    node = spawn()
    with Nginx(tmp_path / "proxy", [f"127.0.0.1:{node.port}"], days=days) as nginx:
        found = examine(node, *configuration(nginx))
    found.has("certificate", state, finding, "renew it")


def test_the_doctor_reports_a_certificate_that_clients_do_not_trust(
    spawn: Spawn, examine: Examine, tmp_path: Path
) -> None:
    node = spawn()
    with Nginx(tmp_path / "proxy", [f"127.0.0.1:{node.port}"]) as nginx:
        found = examine(node, "--url", nginx.url)
    found.has("certificate", "fault", "clients do not trust", "fullchain.pem")


def test_the_doctor_reports_a_database_and_a_key_that_every_user_may_read(
    spawn: Spawn, examine: Examine, tmp_path: Path
) -> None:
    node = spawn()
    examine(node).has("database", "ok", "", "")
    tmp_path.chmod(0o755)
    var = node.folder / "var"
    var.chmod(0o755)
    (var / "relayd.db").chmod(0o644)
    chain = Chain(tmp_path / "tls", "relay.example.org")
    chain.key.chmod(0o644)
    listen = f"ssl:{free_port()}:privateKey={chain.key}:certKey={chain.certificate}"
    found = examine(node, env={"RELAYD_SERVER_LISTEN": listen})
    found.has("database", "warn", "every user of this machine may open", f"chmod 750 {var}")
    found.has("configuration", "warn", "may open it", f"chmod 640 {chain.key}")


def test_the_doctor_judges_the_chain_that_relayd_itself_sends(
    spawn: Spawn, examine: Examine, tmp_path: Path
) -> None:
    chain, port = Chain(tmp_path / "tls", "relay.example.org"), free_port()
    tls = {"tls_certificate": chain.certificate, "tls_key": chain.key}
    node = spawn(tls_listen=f"tcp:{port}:interface=127.0.0.1", **tls)
    trust = ("--ca", str(chain.root_file))
    found = examine(node, *trust)
    for words in ("is good until", "leads to a root", "is for relay.example.org"):
        found.has("certificate-files", "ok", words, "")
    examine(node).has("certificate-files", "fault", "unable to get", "--ca FILE")
    chain.renew(days=-1)  # without its key
    found = examine(node, *trust)
    found.has("certificate-files", "fault", "do not belong together", "full chain")


def test_the_doctor_reports_a_leaf_alone_a_wrong_name_and_an_end(
    spawn: Spawn, examine: Examine, tmp_path: Path
) -> None:
    chain, port = Chain(tmp_path / "tls", "relay.example.org"), free_port()
    tls = {"tls_certificate": chain.leaf_file, "tls_key": chain.key}
    node = spawn(tls_listen=f"tcp:{port}:interface=127.0.0.1", **tls)
    found = examine(node, "--ca", str(chain.root_file), "--url", "https://other.example.org:1")
    found.has("certificate-files", "fault", "has 1 certificate: ", "fullchain.pem")
    found.has("certificate-files", "fault", "is not for other.example.org", "certbot --expand")
    write(chain.key, chain.renew(days=5))
    found = examine(node)
    found.has("certificate-files", "warn", "sends another certificate", "relayctl reload")
    listen = f"ssl:{free_port()}:privateKey={chain.key}:certKey={chain.certificate}"
    found = examine(None, env={"RELAYD_SERVER_LISTEN": listen})
    found.has("certificate-files", "fault", "expires in 4 days", "renew it")
    write(chain.key, chain.renew(days=-3))
    found = examine(None, env={"RELAYD_SERVER_LISTEN": listen})
    found.has("certificate-files", "fault", "has expired", "renew it")


@pytest.mark.parametrize(
    ("changes", "path", "finding", "remedy"),
    [
        ({"proxy_set_header Upgrade    $http_upgrade;": ""}, "", "426", "does not forward the"),
        ({}, "/elsewhere", "404 by relayd", "not remove"),
        ({"location /ws/ {": "location /ws/ { return 404; } location /sock/ {"}, "", "404 by nginx",
         "does not forward /ws/"),
        ({"location /ws/ {": "location /ws/ { return 200 hello; } location /sock/ {"}, "", "200",
         "another server than relayd"),
        ({"location /ws/ {": "location /ws/ { return 301 /elsewhere; } location /sock/ {"}, "",
         "301", "no client follows a redirect"),
    ],
)  # fmt: skip
def test_the_doctor_reports_handshakes_that_fail_at_the_public_url(
    changes: dict[str, str], path: str, finding: str, remedy: str,
    spawn: Spawn, examine: Examine, tmp_path: Path,
) -> None:  # fmt: skip
    node = spawn()
    with Nginx(tmp_path / "proxy", [f"127.0.0.1:{node.port}"], changes) as nginx:
        ca = str(nginx.certificates.ca_file)
        found = examine(node, "--url", nginx.url + path, "--ca", ca)
    found.has("websocket", "fault", finding, remedy)


def test_the_doctor_reports_a_relayd_that_the_proxy_does_not_reach(
    examine: Examine, tmp_path: Path
) -> None:
    with Nginx(tmp_path / "proxy", [f"127.0.0.1:{free_port()}"]) as nginx:
        found = examine(None, *configuration(nginx))
        found.has("websocket", "fault", "503 by nginx", "does not reach a relayd")
    found = examine(None, *configuration(nginx))
    found.has("websocket", "fault", "cannot be reached", "firewall")


def test_the_doctor_reports_a_proxy_that_ends_silent_connections(
    spawn: Spawn, examine: Examine, tmp_path: Path
) -> None:
    """Seen from outside; with pings in between, the same proxy does not."""
    changes = {"proxy_read_timeout 75s": "proxy_read_timeout 3s"}
    silent, pinging = spawn(), spawn(keepalive_ping_interval=0.3)
    for node, state in [(silent, "fault"), (pinging, "ok")]:
        with Nginx(tmp_path / state, [f"127.0.0.1:{node.port}"], changes) as nginx:
            ca = str(nginx.certificates.ca_file)
            found = examine(node, "--url", nginx.url, "--ca", ca, "--hold", "6")
        what = {"fault": "within 6 s without frames", "ok": "after 6 s without frames"}[state]
        found.has("websocket", state, what, "timeouts" if state == "fault" else "")


def test_the_doctor_reports_a_port_that_speaks_http_2_only(
    examine: Examine, tmp_path: Path
) -> None:
    files, port = Nginx(tmp_path / "files", []).certificates, free_port()
    with subprocess.Popen(
        ["openssl", "s_server", "-quiet", "-alpn", "h2", "-accept", f"127.0.0.1:{port}",
         "-cert", files.certificate, "-key", files.key],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as server:  # fmt: skip
        try:
            wait_for_port(port)
            url = f"https://127.0.0.1:{port}"
            found = examine(None, "--url", url, "--ca", str(files.ca_file))
        finally:
            server.kill()
    found.has("websocket", "fault", "HTTP/2 only", "h2,http/1.1")


def wait_for_port(port: int) -> None:
    """Until somebody listens there."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("nobody listens")


def test_the_doctor_reports_a_required_token(
    spawn: Spawn, examine: Examine, tmp_path: Path
) -> None:
    node = spawn(auth_secret="s" * 32, auth_required=True)
    found = examine(node, "--url", node.url, auth_secret="t" * 32)
    found.has("websocket", "fault", "401 by relayd", "--token-file")
    # with the secret that relayd has, doctor signs a token for its visit
    found = examine(node, "--url", node.url)
    found.has("websocket", "ok", "came back", "")
    token = jwt.encode({"sub": "doctor", "scope": "camera"}, "s" * 32)
    file = tmp_path / "token"
    file.write_text(token)
    found_with = examine(node, "--url", node.url, "--token-file", str(file))
    found_with.has("websocket", "ok", "came back", "")
    found.has("websocket", "warn", "is not encrypted", "TLS in the proxy")


# -- what an operator sees


def test_the_report_has_faults_first_and_collapses_sound_checks(tmp_path: Path) -> None:
    def say(*args: str) -> Done:
        listen = f"tcp:{free_port()}:interface=127.0.0.1"
        env = {"PATH": "/nowhere", "RELAYD_SERVER_LISTEN": listen}
        return run([RELAYCTL, "doctor", *args], cwd=tmp_path, env=env)

    short, long = say(), say("--verbose")
    assert short.returncode == long.returncode == 1
    assert short.stdout.startswith("FAULT    relayd ")
    assert "→ systemctl status relayd" in short.stdout
    assert "hiredis" not in short.stdout
    assert "ok       hiredis" in long.stdout
    assert "1 fault" in short.stdout.splitlines()[-1]
    assert say("--nginx-config", "/nowhere/nginx.conf").returncode == 2
    assert say("--days", "soon").returncode == 2


def test_the_doctor_examines_the_installed_nginx_by_default(tmp_path: Path) -> None:
    """The installed nginx does not serve this relayd, and the doctor says so."""
    env = {"RELAYD_SERVER_LISTEN": f"tcp:{free_port()}", "PATH": str(Path(find("nginx")).parent)}
    found = Doctor(tmp_path, env)
    assert [one["finding"] for one in found.findings if one["check"] == "nginx"] == [
        "the nginx on this machine does not serve relayd"
    ]
