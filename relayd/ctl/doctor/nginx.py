"""Checks of nginx's configuration: the path of a handshake to relayd, against relayd's settings.

Listed in `checks`. `nginx_config` finds that path.
"""

import os
import re
from collections.abc import Iterable, Iterator

from relayd import forwarded
from relayd.ctl.doctor.facts import Facts
from relayd.ctl.doctor.findings import Finding, fault, ok, skipped, warn
from relayd.ctl.doctor.nginx_config import Nginx
from relayd.ctl.service import VARIABLE

_UNITS = {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_EXAMPLE = "etc/examples/nginx/relayd.conf shows the whole site"
_BALANCING = ("least_conn", "ip_hash", "hash", "random", "least_time")


def seconds(text: str) -> float | None:
    """Parses a time of nginx: `75`, `75s`, `1m30s`, `1h 30m`. None for other text."""
    parts = re.findall(r"(\d+)(ms|[smhdw]?)", text)
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != text.replace(" ", ""):
        return None
    return float(sum(int(number) * _UNITS[unit] for number, unit in parts))


def look_for_way(facts: Facts) -> Iterator[Finding]:
    """Whether nginx forwards handshakes to relayd."""
    if facts.nginx is None:
        yield skipped("there is no nginx on this machine; --nginx-config FILE names another's")
    elif facts.way is None and not (facts.options.nginx_config or facts.nginx.has("/ws")):
        yield skipped("the nginx on this machine does not serve relayd")
    elif facts.way is None and "@" in os.environ.get(VARIABLE, ""):
        yield skipped("the nginx on this machine does not serve this instance")
    elif facts.way is None:
        listen = ", ".join(facts.listen)
        yield fault(
            f"{facts.nginx.source}: no server forwards /ws/ to an address of relayd ({listen})",
            f"give it a location /ws/ with proxy_pass to one of these; {_EXAMPLE}",
        )
    else:
        yield ok(f"{facts.way.place} forwards handshakes")


def look_at_upgrade(facts: Facts) -> Iterable[Finding]:
    """Checks HTTP/1.1 and the two headers of an upgrade, which nginx drops by default."""
    way = facts.way
    if way is None:
        return [skipped("nginx passes no handshake on")]
    found = []
    if way.value("proxy_http_version", "1.0") not in ("1.1", "2"):
        found.append(
            fault(
                f"{way.place}: nginx speaks HTTP/1.0 to relayd, and no handshake succeeds",
                "proxy_http_version 1.1;",
            )
        )
    headers = way.headers()
    if "http_upgrade" not in headers.get("upgrade", "") and headers.get("upgrade") != "websocket":
        found.append(
            fault(
                f"{way.place}: the header Upgrade is not forwarded; relayd answers 426",
                "proxy_set_header Upgrade $http_upgrade; a location that sets any header "
                "inherits none",
            )
        )
    connection = headers.get("connection", "")
    if "upgrade" not in connection.lower() and not connection.startswith("$"):
        found.append(
            fault(
                f"{way.place}: the header Connection is not forwarded; relayd answers 426",
                "proxy_set_header Connection $connection_upgrade; with a map of $http_upgrade",
            )
        )
    return found or [ok("HTTP/1.1, Upgrade and Connection are forwarded")]


def look_at_timeouts(facts: Facts) -> Iterable[Finding]:
    """Whether nginx keeps an idle connection until relayd pings the client."""
    way, keepalive = facts.way, facts.config.keepalive
    if way is None:
        return [skipped("nginx passes no handshake on")]
    written = way.value("proxy_read_timeout", "60s")
    time = seconds(written)
    interval, end = keepalive.ping_interval, keepalive.ping_interval + keepalive.pong_timeout
    remedy = f"proxy_read_timeout {max(75, round(end * 1.5))}s;"
    if time is None:
        return [skipped(f"{way.place}: proxy_read_timeout {written} cannot be parsed")]
    if time <= interval:
        return [
            fault(
                f"{way.place}: proxy_read_timeout is {time:g} s and relayd pings after "
                f"{interval:g} s ([keepalive] ping_interval): nginx closes idle WebSockets",
                remedy,
            )
        ]
    if time <= end:
        return [
            warn(
                f"{way.place}: proxy_read_timeout is {time:g} s, and relayd closes a dead client "
                f"after {end:g} s: nginx closes it first, without a close code",
                remedy,
            )
        ]
    return [ok(f"proxy_read_timeout {time:g} s is longer than {end:g} s")]


def look_at_addresses(facts: Facts) -> Iterator[Finding]:
    """Whether relayd gets the addresses of clients, and clients cannot forge them."""
    way, proxy = facts.way, facts.config.proxy
    if way is None:
        yield skipped("nginx passes no handshake on")
        return
    value = way.headers().get(proxy.header, "")
    proxies = forwarded.Proxies(proxy.trusted, proxy.header)
    hosts = {_host(words[0]) for words in way.servers}
    missing = sorted(host for host in hosts if host and not proxies.trusts(host))
    shown = "X-Forwarded-For" if proxy.header == "x-forwarded-for" else "Forwarded"
    setting = f"proxy_set_header {shown} $remote_addr;"
    if proxy.header == "forwarded":
        setting = 'proxy_set_header Forwarded "for=$remote_addr";  (IPv6 in quotes and brackets)'
    if "addr" not in value and "proxy_add_x_forwarded_for" not in value:
        if proxy.trusted:
            yield fault(
                f"{way.place}: {shown} is not set, so relayd trusts the header of each client",
                setting,
            )
        else:
            yield warn(
                f"{way.place}: {shown} is not set: no log has the clients' addresses", setting
            )
    elif missing:
        yield warn(
            f"nginx sets {shown}, but {' and '.join(missing)} is not in [proxy] trusted: all "
            "clients seem to have that address",
            "[proxy] trusted = " + str([*proxy.trusted, *missing]).replace("'", '"'),
        )
    else:
        yield ok(f"{shown} is set, and nginx is trusted")


def look_at_buffering(facts: Facts) -> Iterable[Finding]:
    """Whether nginx caches answers, or hides that a client has disconnected."""
    way = facts.way
    if way is None:
        return [skipped("nginx passes no handshake on")]
    found = []
    if way.value("proxy_cache", "off") != "off":
        found.append(
            warn(f"{way.place}: answers to handshakes are cached", "proxy_cache off; for /ws/")
        )
    if way.value("proxy_ignore_client_abort", "off") == "on":
        found.append(
            warn(
                f"{way.place}: nginx hides from relayd that a client has disconnected",
                "proxy_ignore_client_abort off;",
            )
        )
    return found or [ok("nginx neither caches answers nor hides disconnections")]


def look_at_balance(facts: Facts) -> Iterable[Finding]:
    """Whether nginx balances several relayds after a restart of one of them."""
    way = facts.way
    if way is None or len(way.servers) < 2:
        return [skipped("nginx has no upstream with several relayds")]
    methods = {str(one["directive"]) for one in way.upstream}
    if not methods.intersection(_BALANCING):
        return [
            warn(
                f"{len(way.servers)} relayds by round robin: one that was restarted has few "
                "clients for hours",
                "least_conn; in the upstream, and zone NAME 64k; beside it",
            )
        ]
    assert facts.nginx is not None
    if "zone" not in methods and facts.nginx.main_value("worker_processes", "1") != "1":
        return [
            warn(
                "each of nginx's worker processes counts the connections for itself",
                "zone NAME 64k; in the upstream",
            )
        ]
    return [ok("nginx balances by the number of connections")]


def look_at_capacity(facts: Facts) -> Iterable[Finding]:
    """Whether nginx can carry enough clients: each needs two of its connections."""
    if facts.nginx is None or facts.way is None:
        return [skipped("nginx passes no handshake on")]
    nginx = facts.nginx
    if not nginx.whole:
        return [skipped(f"{nginx.source} is a site alone; nginx.conf has the limits")]
    workers = _count_workers(nginx)
    each = int(nginx.main_value("worker_connections", "512"))
    files = nginx.main_value("worker_rlimit_nofile", "")
    most, wanted = workers * each // 2, facts.config.limits.max_connections
    remedy = f"events {{ worker_connections {max(4096, -(-wanted * 2 // workers))}; }}"
    found = []
    if most < (wanted or 500):
        why = f"[limits] max_connections is {wanted}" if wanted else "that is soon reached"
        text = f"nginx carries {most} clients at most ({workers} × {each} / 2), and {why}"
        found.append(fault(text, remedy) if wanted else warn(text, remedy))
    if each > 1024 and not files:
        found.append(
            warn(
                f"worker_connections is {each}, and without worker_rlimit_nofile systemd limits a "
                "worker's open files, to 1024 by default",
                f"worker_rlimit_nofile {each * 2};",
            )
        )
    elif files and int(files) < each:
        found.append(
            fault(
                f"worker_rlimit_nofile {files} is less than worker_connections {each}",
                f"worker_rlimit_nofile {each * 2};",
            )
        )
    return found or [ok(f"nginx carries {most} clients")]


def look_at_metrics(facts: Facts) -> Iterable[Finding]:
    """Whether the public may read the metrics."""
    if facts.nginx is None or facts.way is None:
        return [skipped("nginx passes no handshake on")]
    way = facts.nginx.find_way(facts.listen, "/metrics")
    closed = ("deny", "return", "auth_basic")
    if way is None or any(one["directive"] in closed for one in way.blocks[-1]):
        return [ok("/metrics is not forwarded")]
    return [
        warn(
            f"{way.place}: /metrics is forwarded: everyone may read the figures",
            "location ~ ^/metrics/?$ { return 404; }",
        )
    ]


def _count_workers(nginx: Nginx) -> int:
    written = nginx.main_value("worker_processes", "1")
    return (os.cpu_count() or 1) if written == "auto" else int(written)


def _host(server: str) -> str:
    """The address from which nginx connects to a server; "" unless it is on this machine."""
    if server.startswith("unix:"):
        return forwarded.UNIX
    name = server.rpartition(":")[0] or server
    name = name.strip("[]").replace("localhost", "127.0.0.1")
    return name if name == "::1" or name.startswith("127.") else ""
