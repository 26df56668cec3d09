"""Input of the doctor: nginx' durations, locations and inheritance; versions of Redis."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import Mock

import pytest

from relayd.ctl.doctor import machine, nginx_config
from relayd.ctl.doctor.checks import CHECKS
from relayd.ctl.doctor.facts import Facts
from relayd.ctl.doctor.nginx import look_for_way, seconds
from relayd.ctl.doctor.redis import _judge
from relayd.ctl.doctor.redis_facts import ServerFacts
from relayd.ctl.service import VARIABLE

LISTEN = ("tcp:8080:interface=127.0.0.1", "unix:/run/relayd/relayd.sock:mode=660")


def way_of(folder: Path, site: str) -> nginx_config.Way | None:
    """The way of a handshake through a site."""
    file = folder / "site.conf"
    file.write_text(site)
    nginx = nginx_config.read(str(file))
    assert nginx is not None
    return nginx.find_way(LISTEN)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("75", 75), ("75s", 75), ("1m", 60), ("1m30s", 90), ("1h 30m", 5400), ("500ms", 0.5),
        ("1d", 86400), ("$timeout", None), ("", None), ("1x", None),
    ],
)  # fmt: skip
def test_durations_of_nginx_are_parsed(text: str, value: float | None) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("locations", "line"),
    [
        ("location / { proxy_pass http://127.0.0.1:8080; }", 1),
        ("location / { proxy_pass http://localhost:8080/; }", 1),
        ("location / { proxy_pass http://unix:/run/relayd/relayd.sock; }", 1),
        ("location / { proxy_pass http://unix:/run/relayd/relayd.sock:/; }", 1),
        ("location / { proxy_pass http://app; }", 1),  # an upstream
        ("location / { return 404; }\nlocation /ws/ { proxy_pass http://app; }", 2),
        ("location /ws/ { proxy_pass http://app; }\nlocation /ws/c { proxy_pass http://app; }", 2),
        ("location ^~ /ws/ { proxy_pass http://app; }\nlocation ~ ^/ws/ { return 404; }", 1),
        ("location /ws/ { return 404; }\nlocation ~* ^/WS/ { proxy_pass http://app; }", 2),
        # what takes the handshake does not pass it on to relayd
        ("location / { proxy_pass http://127.0.0.1:9090; }", None),
        ("location / { proxy_pass http://app; }\nlocation /ws/ { return 404; }", None),
        ("location / { proxy_pass http://app; }\nlocation ~ ^/ws/ { return 404; }", None),
        ("location /elsewhere/ { proxy_pass http://app; }", None),
    ],
)
def test_the_location_of_a_handshake_is_the_one_that_nginx_selects(
    locations: str, line: int | None, tmp_path: Path
) -> None:
    upstream = "upstream app { server 10.0.0.1:80; server 127.0.0.1:8080; }"
    way = way_of(tmp_path, f"server {{ {locations} }}\n{upstream}")
    assert (way.place.rpartition(":")[2] if way else None) == (str(line) if line else None)


def test_values_come_from_the_innermost_block_and_headers_are_all_or_none(tmp_path: Path) -> None:
    way = way_of(
        tmp_path,
        "proxy_read_timeout 10s;\n"
        "server { proxy_read_timeout 20s; proxy_set_header Upgrade $http_upgrade;\n"
        "proxy_set_header Connection upgrade;\n"
        "location / { proxy_pass http://127.0.0.1:8080; proxy_set_header Host $host; } }",
    )
    assert way is not None
    assert way.value("proxy_read_timeout", "60s") == "20s"
    assert way.value("proxy_send_timeout", "60s") == "60s"
    assert way.headers() == {"host": "$host"}


def test_the_output_of_nginx_t_is_read_with_what_it_includes(tmp_path: Path) -> None:
    """Includes are relative to nginx.conf, and may be patterns."""
    dump = tmp_path / "dump"
    dump.write_text(
        "# configuration file /etc/nginx/nginx.conf:\nworker_processes 3;\n"
        "events { worker_connections 99; }\nhttp { include conf.d/*.conf; }\n"
        "# configuration file /etc/nginx/conf.d/a.conf:\n"
        "upstream app { include /etc/nginx/servers; }\n"
        "# configuration file /etc/nginx/conf.d/b.conf:\n\n"
        "server { location / { proxy_pass http://app; } }\n"
        "# configuration file /etc/nginx/servers:\nserver 127.0.0.1:8080;\n"
    )
    nginx = nginx_config.read(str(dump))
    assert nginx is not None
    assert nginx.whole
    assert nginx.main_value("worker_processes", "1") == "3"
    assert nginx.main_value("worker_connections", "512") == "99"
    way = nginx.find_way(LISTEN)
    assert way is not None
    assert way.place.startswith("/etc/nginx/conf.d/b.conf:")


@pytest.mark.parametrize(
    ("version", "state"),
    [("4.0.14", "FAULT"), ("5.0.0", "ok"), ("7.0.15", "ok"), ("8.2", "ok")],
)
def test_versions_of_redis_are_parsed(version: str, state: str) -> None:
    server = ServerFacts("r", info={"redis_version": version, "role": "master"})
    assert _judge(server).state.value == state


@pytest.mark.parametrize(
    ("somaxconn", "listen", "finding"),
    [
        (None, "tcp:8080", "skipped: does not show net.core.somaxconn"),
        (128, "tcp:8080", "warn: net.core.somaxconn is 128 net.core.somaxconn = 4096"),
        (4095, "unix:/run/relayd.sock", "warn: net.core.somaxconn is 4095"),
        (4096, "tcp:8080", "ok: net.core.somaxconn is 4096"),
        (4096, "tcp:8080:backlog=5000", "warn: backlog=5000 net.core.somaxconn = 5000"),
        (128, "tcp:8080:backlog=64", "warn: net.core.somaxconn = 4096"),
    ],
)
def test_a_listen_queue_that_the_kernel_shortens_is_reported(
    somaxconn: int | None, listen: str, finding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "read_number", lambda path: somaxconn)
    (found,) = machine.look_at_kernel(cast(Facts, SimpleNamespace(listen=[listen])))
    state, _, words = finding.partition(": ")
    assert found.state.value == state
    text = f"{found.text} {found.remedy}"
    assert all(word in text for word in re.findall(r"\S+(?: = \d+| is \d+)?", words)), text


def test_names_of_checks_are_unique_and_in_the_operators_table() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names) == 33
    chapter = Path(__file__).parents[2].joinpath("docs/operate.md").read_text(encoding="utf-8")
    for name in names:
        assert f"`{name}`" in chapter, name


@pytest.mark.parametrize(("service", "state"), [("relayd", "FAULT"), ("relayd@chat", "skipped")])
def test_an_nginx_that_serves_another_instance_is_no_fault_of_this_one(
    monkeypatch: pytest.MonkeyPatch, service: str, state: str
) -> None:
    monkeypatch.setenv(VARIABLE, service)
    facts = Mock(nginx=Mock(source="nginx -T"), way=None, listen=["unix:/run/relayd-chat.sock"])
    facts.options.nginx_config = ""
    finding = next(look_for_way(facts))
    assert finding.state == state
