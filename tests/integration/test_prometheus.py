"""etc/examples/prometheus and grafana: Prometheus takes them; what they ask for, relayd shows."""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.daemon import Daemon
from tests.integration.alerting import RULES, promtool
from tests.integration.clients import PATIENCE, read, say
from tests.integration.conftest import Connect, Spawn
from tests.integration.waiting import eventually
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
SCRAPE = RULES.with_name("relayd.yml")
RULE_TESTS = ROOT / "tests" / "prometheus" / "relayd-alerts-test.yml"
BOARD = ROOT / "etc" / "examples" / "grafana" / "relayd.json"
OTHERS = {"probe_ssl_earliest_cert_expiry"}
"""What blackbox_exporter shows, not relayd."""
NAME = re.compile(r"\b(?:relayd|process|probe)_[a-z0-9_]+\b")


@pytest.fixture
def daemon(spawn: Spawn, connect: Connect, certificate: Path) -> Daemon:
    """A relayd that has done a little of everything."""
    running = spawn(
        echo_enabled=True,
        tls_listen=f"tcp:{free_port()}:interface=127.0.0.1",
        tls_certificate=certificate,
        tls_key=certificate,
    )
    uuid = "0b5e8a4e-6f0d-4a8e-9c1c-0a4c7c1d2e3f"
    camera, chatter = connect(running, "/ws/camera"), connect(running, "/ws/chat")
    connect(running, f"/ws/difficulty/unity/{uuid}")
    phone = connect(running, f"/ws/difficulty/android/{uuid}")
    for client, message in (
        (camera, {"x": 1}),
        (chatter, {"message": "a"}),
        (phone, {"difficulty": 1}),
    ):
        say(client, message)
        read(client)
    return running


def scrape(daemon: Daemon) -> str:
    status, text = daemon.get("/metrics")
    assert status == 200
    assert isinstance(text, str)
    return text


def sample_names(text: str) -> set[str]:
    return {
        line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if line[0] != "#"
    }


# -- what promtool says


def test_the_scrape_file_and_the_rules_are_right() -> None:
    assert "relayd.yml is valid" in promtool("check", "config", SCRAPE)
    assert "SUCCESS" in promtool("check", "rules", RULES)


def test_each_alert_fires_under_its_condition_only() -> None:
    assert "SUCCESS" in promtool("test", "rules", RULE_TESTS)


def test_no_alert_is_without_a_test() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    tested = RULE_TESTS.read_text()
    assert len(alerts) == len(set(alerts)) > 10
    assert [name for name in alerts if f"alertname: {name}" not in tested.replace('="', ": ")] == []


def test_the_figures_follow_the_conventions_of_prometheus(daemon: Daemon) -> None:
    """Names, units, types and texts, as promtool knows them."""
    assert promtool("check", "metrics", text=scrape(daemon)) == ""


def test_the_figures_are_good_openmetrics(daemon: Daemon) -> None:
    """As the parser of prometheus-client reads it, which is strict; for nobody else checks it."""
    accept = {"Accept": "application/openmetrics-text;version=1.0.0"}
    request = urllib.request.Request(f"{daemon.url}/metrics", headers=accept)
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read().decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"relayd_connections", "relayd_deliveries", "relayd_draw_latency_seconds"} <= names


# -- what is asked for is there


def expressions(board: Any) -> list[str]:
    """All queries of a board."""
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    return found + [
        variable["definition"]
        for variable in board["templating"]["list"]
        if "definition" in variable
    ]


def test_every_metric_used_by_the_rules_and_the_dashboard_exists(daemon: Daemon) -> None:
    there = sample_names(scrape(daemon)) | OTHERS
    asked_by_rules = set(
        NAME.findall("\n".join(re.findall(r"expr: (?:>-\n)?(.*)", RULES.read_text())))
    )
    asked_by_board = set(NAME.findall("\n".join(expressions(json.loads(BOARD.read_text())))))
    assert asked_by_rules - there == set()
    assert asked_by_board - there == set()
    assert len(asked_by_rules) > 12
    # nothing that a sysadmin could want to see is left out
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in there - OTHERS}
    shown = {re.sub("_(bucket|count|sum)$", "", name) for name in asked_by_board}
    assert families - shown == {"process_virtual_memory_bytes"}


def test_every_label_used_by_the_rules_and_the_dashboard_exists(daemon: Daemon) -> None:
    text = scrape(daemon)
    everything = RULES.read_text() + "\n".join(expressions(json.loads(BOARD.read_text())))
    for name, label, value in re.findall(r'(relayd_\w+)\{(\w+)="(\w+)"', everything):
        assert re.search(rf'^{name}{{(.*,)?{label}="{value}"', text, re.M), (name, label, value)
    for label in set(re.findall(r"by \((\w+)\)", everything)) - {"instance", "le"}:
        assert f'{label}="' in text, label


def test_every_query_of_the_board_can_be_parsed(tmp_path: Path) -> None:
    """By promtool, as if each were a rule."""
    queries = expressions(json.loads(BOARD.read_text()))[:-1]
    rules = [
        {"record": f"a:{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, query in enumerate(queries)
    ]
    path = tmp_path / "board.json"  # which is YAML, too
    path.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", path)


def test_the_panels_of_the_board_do_not_overlap() -> None:
    board = json.loads(BOARD.read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_guide_explains_every_alert() -> None:
    guide = (ROOT / "docs" / "operate.md").read_text()
    alerts = set(re.findall(r"- alert: (\w+)", RULES.read_text()))
    assert set(re.findall(r"`(Relayd\w+)`", guide)) == alerts


# -- a real Prometheus


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[[Daemon], str]]:
    """Starts a Prometheus with our files that asks a relayd; returns where its API is."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(daemon: Daemon) -> str:
        folder = tmp_path / "prometheus"
        shutil.copytree(SCRAPE.parent, folder)
        config = folder / SCRAPE.name
        text = config.read_text().replace("127.0.0.1:8080", f"127.0.0.1:{daemon.port}")
        text = text.replace("scrape_interval: 15s", "scrape_interval: 1s")
        text = text.replace("scrape_timeout: 10s", "scrape_timeout: 1s")
        config.write_text(f"global:\n  evaluation_interval: 1s\n{text}")
        port = free_port()
        program = shutil.which("prometheus")
        assert program, "this test needs prometheus (apt: prometheus)"
        with open(folder / "log", "wb") as log:
            processes.append(
                subprocess.Popen(
                    [
                        *(program, f"--config.file={config}", f"--storage.tsdb.path={folder}/data"),
                        f"--web.listen-address=127.0.0.1:{port}",
                    ],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )
            )  # fmt: skip
        return f"http://127.0.0.1:{port}/api/v1"

    yield start
    for process in processes:
        process.terminate()
        process.wait(PATIENCE)


def ask(api: str, path: str, **arguments: str) -> Any:
    """What Prometheus answers; None while it does not."""
    url = f"{api}/{path}?{urllib.parse.urlencode(arguments)}"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return json.load(answer)["data"]
    except (ConnectionError, urllib.error.URLError):
        return None


def evaluated(api: str) -> datetime:
    """When the group of alert rules that waits longest was evaluated; year 1: never yet."""
    groups = ask(api, "rules")["groups"]
    return min(datetime.fromisoformat(group["lastEvaluation"]) for group in groups)


def test_a_real_prometheus_scrapes_relayd_and_answers_every_query_of_the_board(
    daemon: Daemon, prometheus: Callable[[Daemon], str]
) -> None:
    """No alert fires without a reason, and only panels that show what went wrong are empty.

    How late relayd is, and its database, depends on what else this machine does meanwhile.
    """
    api = prometheus(daemon)

    def scraped_often_enough() -> bool:
        found = ask(api, "query", query='count_over_time(up{job="relayd"}[1m])')
        return bool(found and found["result"] and int(found["result"][0]["value"][1]) >= 4)

    eventually(scraped_often_enough)
    [target] = ask(api, "targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    # what the rules said before the first scrape stands until they are evaluated again
    scraped = datetime.now(UTC)
    eventually(lambda: evaluated(api) > scraped)
    rules = [rule for group in ask(api, "rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    alerts = {alert["labels"]["alertname"] for alert in ask(api, "alerts")["alerts"]}
    alerts -= {"RelaydLate", "RelaydBlocked", "RelaydDatabaseSlow"}
    assert alerts == {"RelaydOwnCertificateExpires"}  # in two days
    empty = []
    for query in expressions(json.loads(BOARD.read_text()))[:-1]:
        query = query.replace("$__rate_interval", "1m").replace("$instance", ".*")
        found = ask(api, "query", query=query)
        assert found is not None, query
        if not found["result"]:
            empty.append(query)
    assert all(query.endswith(" > 0") for query in empty), empty
