"""`relayctl bench` without a server: addresses, the search, the words, the options."""

import asyncio
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from relayd.ctl.bench import report as report
from relayd.ctl.bench.fit import Bound, Search
from relayd.ctl.bench.results import Figures, Profile, percentile, summarize
from relayd.ctl.bench.target import BenchFailed, Full, Silent, listening_url, parse_target
from relayd.ctl.main import main
from relayd.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
PROFILE = Profile(
    cameras=10,
    viewers=200,
    rate=10.0,
    groups=1,
    group="bench",
    seconds=2.0,
    warmup=0.5,
    grace=2.0,
    limit=0.05,
)


def figures(
    viewers: int = 200, p99: float = 0.012, lost: int = 0, generator: float = 0.2
) -> Figures:
    """What a run of two seconds may find, on a server that used 1.74 CPU seconds."""
    profile = replace(PROFILE, viewers=viewers)
    return Figures(
        profile,
        connected=profile.connections,
        sent=250,
        delivered=250 * profile.size - lost,
        lost=lost,
        seconds=2.0,
        sent_in_window=200,
        delivered_in_window=200 * profile.size,
        p50=p99 / 2,
        p99=p99,
        worst=p99 * 2,
        samples=100,
        server=1.74,
        generator=generator,
    )


# -- which server


@pytest.mark.parametrize(
    ("text", "url", "host", "port"),
    [
        ("ws://127.0.0.1:8080", "ws://127.0.0.1:8080", "127.0.0.1", 8080),
        ("http://a/", "ws://a", "a", 80),
        ("http://a/ws/camera", "ws://a", "a", 80),
        ("ws://a/relay/ws/camera/", "ws://a/relay", "a", 80),
        ("wss://a", "wss://a", "a", 443),
        ("https://[::1]:8443/relay", "wss://[::1]:8443/relay", "::1", 8443),
    ],
)
def test_a_url_leads_to_the_server_with_or_without_the_path(
    text: str, url: str, host: str, port: int
) -> None:
    target = parse_target(text)
    assert (target.url, target.host, target.port, target.shown) == (url, host, port, url)
    assert (target.trust is not None) == url.startswith("wss:")


@pytest.mark.parametrize("text", ["unix:/run/relayd.sock", "unix:///run/relayd.sock"])
def test_a_unix_socket_is_a_valid_address(text: str) -> None:
    target = parse_target(text)
    assert (target.unix, target.shown) == ("/run/relayd.sock", "unix:/run/relayd.sock")


def test_a_token_in_the_url_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="--token-file") as caught:
        parse_target("ws://a?token=hunter2")
    assert "hunter2" not in str(caught.value)
    assert "two" not in parse_target("ws://a", token="two").shown


@pytest.mark.parametrize(
    "text",
    [
        *("", "a:8080", "ftp://a", "ws://", "ws://a:99999", "ws://a b", "ws://user:pass@a"),
        *("ws://a#b", "ws://a?history=1", "ws://a/ws/camera/lobby", "unix:"),
    ],
)
def test_a_wrong_url_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_target(text)
    assert "pass" not in str(caught.value)


def test_certificates_are_accepted_for_tls_only_and_must_exist(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("none")
    for text, ca, insecure in (
        ("ws://a", "", True),
        ("ws://a", str(tmp_path / "no.pem"), False),
        ("unix:/a", "", True),
        ("wss://a", str(tmp_path / "no.pem"), False),
        ("wss://a", str(tmp_path / "absent.pem"), False),
        ("wss://a", str(tmp_path / "no.pem"), True),
    ):
        with pytest.raises(ConfigError):
            parse_target(text, ca=ca, insecure=insecure)


@pytest.mark.parametrize(
    ("description", "url"),
    [
        ("tcp:8080:interface=127.0.0.1", "ws://127.0.0.1:8080"),
        ("tcp:port=8080", "ws://127.0.0.1:8080"),
        ("tcp:8080:interface=0.0.0.0", "ws://127.0.0.1:8080"),
        ("tcp:8080:interface=10.0.0.5:backlog=9", "ws://10.0.0.5:8080"),
        ("tcp:8080:interface=\\:\\:", "ws://[::1]:8080"),
        ("tcp6:8080", "ws://[::1]:8080"),
        ("ssl:8443:privateKey=a:certKey=b", "wss://127.0.0.1:8443"),
        ("unix:/run/relayd.sock:mode=660", "unix:/run/relayd.sock"),
        ("unix:address=/run/relayd.sock", "unix:/run/relayd.sock"),
    ],
)
def test_the_default_is_the_address_that_the_configuration_listens_on(
    description: str, url: str
) -> None:
    assert listening_url(description) == url
    parse_target(url)


@pytest.mark.parametrize("description", ["tcp:0", "systemd:domain=INET:index=0", "haproxy:tcp:80"])
def test_an_address_that_no_client_can_connect_to_is_refused(description: str) -> None:
    with pytest.raises(ConfigError, match="give the URL"):
        listening_url(description)


# -- figures


def test_percentiles_cover_their_share_and_count_a_lost_message_as_infinite() -> None:
    assert [percentile([1, 2, 3, 4], share) for share in (0.0, 0.5, 0.51, 0.99)] == [1, 2, 3, 4]
    assert percentile([], 0.5) == 0
    found = Figures(PROFILE)
    summarize(found, [3.0, math.inf, 1.0, 2.0])
    assert (found.p50, found.p99, found.worst, found.samples) == (2.0, math.inf, math.inf, 4)
    assert not found.fits
    shown = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (shown["p50_ms"], shown["p99_ms"], shown["worst_ms"]) == (2000.0, None, None)
    assert shown["server_cpu"] is None


def test_rates_are_those_of_the_window() -> None:
    shown = figures().to_dict()
    assert shown["sent_per_second"] == 100
    assert shown["deliveries_per_second"] == 100 * 210
    assert shown["server_cpu"] == 0.87
    assert shown["deliveries_per_cpu_second"] == round(200 * 210 / 1.74)


@pytest.mark.parametrize(
    ("change", "fits", "complete"),
    [
        ({}, True, True),
        ({"p99": 0.05}, True, True),
        ({"p99": 0.051}, False, True),
        ({"lost": 1}, False, False),
        ({"closed": {4003: 1}}, False, False),
    ],
)
def test_a_load_fits_if_it_is_in_time_and_nothing_is_lost(
    change: dict[str, object], fits: bool, complete: bool
) -> None:
    found = replace(figures(), **change)  # type: ignore[arg-type]
    assert (found.fits, found.complete) == (fits, complete)


# -- the search


class Server:
    """Carries so many viewers; notes what it was asked."""

    def __init__(
        self, carries: int, *, full_at: int | None = None, generator_busy_at: int | None = None
    ) -> None:
        self.carries = carries
        self.full_at = full_at
        self.generator_busy_at = generator_busy_at
        self.asked: list[int] = []
        self.hiccups: set[int] = set()

    async def run(self, viewers: int) -> Figures:
        self.asked.append(viewers)
        if self.full_at is not None and viewers + PROFILE.cameras > self.full_at:
            raise Full(f"full: {self.full_at} connections at most", self.full_at)
        good = viewers <= self.carries and viewers not in self.hiccups
        self.hiccups.discard(viewers)
        busy = self.generator_busy_at is not None and viewers >= self.generator_busy_at
        return figures(viewers, 0.012 if good else 0.081, generator=0.97 if busy else 0.3)


def search(
    run: Callable[[int], object], start: int = 200, cap: int = 10_000, bound: Bound = Bound.CAP
) -> Search:
    """A search that has come to its end."""
    found = Search(cap, bound)
    asyncio.run(found.run(start, run, lambda connected: connected - PROFILE.cameras))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("carries", [1, 2, 7, 63, 199, 200, 240, 1234, 9999])
@pytest.mark.parametrize("start", [1, 30, 200, 205])
def test_the_search_finds_what_fits_to_two_digits(carries: int, start: int) -> None:
    server = Server(carries)
    found = search(server.run, start)
    assert found.done
    assert found.best is not None
    assert found.worst is not None
    low, high = found.best.viewers, found.worst.viewers
    assert low <= carries < high
    assert high - low <= max(1, 10 ** (len(str(low)) - 2))
    assert len(server.asked) < 40
    assert f"{low:,} viewer" in report.conclusion(found, PROFILE)


def test_the_result_of_a_search_is_given_in_sentences() -> None:
    found = search(Server(240).run)
    assert report.conclusion(found, PROFILE) == (
        "240 viewers fit with 10 cameras at 10 poses a second (p99 12 ms; 250 did not: p99 81 ms). "
        "The server used 87 % of a core."
    )
    shown = report.search_to_dict(found)
    assert (shown["fits"], shown["does_not_fit"], shown["ended_by"]) == (240, 250, "server")
    assert [step["viewers"] for step in shown["steps"]][:4] == [200, 400, 400, 300]


def test_a_load_that_does_not_fit_gets_a_second_chance() -> None:
    server = Server(240)
    server.hiccups = {200, 230}
    assert server.asked == []
    found = search(server.run)
    assert found.best is not None
    assert found.best.viewers == 240
    assert server.asked.count(200) == 2


@pytest.mark.parametrize(
    ("bound", "words"), [(Bound.CAP, "its cap of 300"), (Bound.FILES, "ulimit -n")]
)
def test_a_search_that_ends_at_its_bound_reports_the_bound(bound: Bound, words: str) -> None:
    server = Server(5000)
    found = search(server.run, cap=300, bound=bound)
    assert server.asked == [200, 300]
    sentence = report.conclusion(found, PROFILE)
    assert sentence.startswith("At least 300 viewers fit")
    assert words in sentence
    assert report.search_to_dict(found)["ended_by"] == bound.value


def test_a_search_ends_where_the_server_accepts_no_more_connections() -> None:
    server = Server(5000, full_at=310)
    found = search(server.run)
    assert server.asked == [200, 400, 300]
    assert "At least 300 viewers fit" in report.conclusion(found, PROFILE)
    assert "full: 310 connections at most" in report.conclusion(found, PROFILE)
    assert report.search_to_dict(found)["ended_by"] == "server_full"
    nobody = search(Server(5000, full_at=10).run)
    assert nobody.best is None
    assert report.conclusion(nobody, PROFILE) == (
        "Not one viewer could connect: full: 10 connections at most."
    )


def test_a_search_may_find_that_not_one_viewer_fits() -> None:
    found = search(Server(0).run)
    assert (found.best, found.done) == (None, True)
    assert report.conclusion(found, PROFILE) == (
        "Not one viewer fits with 10 cameras at 10 poses a second (p99 81 ms)."
    )


def test_a_busy_load_generator_is_not_held_against_the_server() -> None:
    found = search(Server(240, generator_busy_at=240).run)
    sentence = report.conclusion(found, PROFILE)
    assert sentence.startswith("At least 240 viewers fit")
    assert "With 250 the load generator was the limit, not the server" in sentence
    assert report.search_to_dict(found)["ended_by"] == "generator"


def test_clients_that_cannot_all_connect_do_not_fit() -> None:
    async def run(viewers: int) -> Figures:
        if viewers > 100:
            raise Silent("it did not answer within 10 s")
        return figures(viewers)

    found = search(run, start=64)
    assert found.best is not None
    assert found.best.viewers == 100
    assert "104 did not: it did not answer within 10 s" in report.conclusion(found, PROFILE)
    assert report.line(found.steps[1]) == "     128  not all could connect"


def test_a_search_that_is_ended_keeps_its_steps() -> None:
    found = Search(10_000, Bound.CAP)

    async def run(viewers: int) -> Figures:
        if viewers == 300:
            raise BenchFailed("it ended all connections")
        return figures(viewers, 0.012 if viewers < 300 else 0.081)

    with pytest.raises(BenchFailed):
        asyncio.run(found.run(200, run, lambda connected: connected))
    assert not found.done
    assert report.conclusion(found, PROFILE).startswith(
        "At least 200 viewers fit with 10 cameras at 10 poses a second (p99 12 ms; 400 did not"
    )
    assert report.search_to_dict(found)["ended_by"] == "interrupted"
    nothing = Search(10_000, Bound.CAP)
    assert report.conclusion(nothing, PROFILE) == "It is not known yet how many fit."


# -- words


def test_the_table_fits_a_terminal() -> None:
    found = replace(figures(lost=1204), closed={4003: 2, 1006: 1}, connected=210)
    text = report.table(found, "twistd 4194304")
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "1,204 (2.3 %)" in text
    assert "1 (without a close frame); 2 (4003, too slow)" in text
    assert "87 % of a core (twistd 4194304)" in text
    lines = [report.HEADER] + [report.line(step) for step in search(Server(240).run).steps]
    assert max(len(line) for line in lines) <= 80


def test_the_verdict_names_every_reason() -> None:
    assert "fits" in report.verdict(figures())
    bad = replace(figures(p99=0.081, lost=3), closed={4003: 2})
    assert report.trouble(bad) == "2 connections closed (4003, too slow), 3 lost, p99 81 ms"
    assert report.verdict(bad).endswith("81 ms. The limit is 50 ms (--p99).")
    lost = replace(figures(p99=math.inf, lost=3))
    assert report.verdict(lost) == "This load does not fit: 3 lost."


def test_warnings_are_given_where_the_figures_are_unreliable() -> None:
    assert report.warnings(figures()) == []
    (busy,) = report.warnings(figures(generator=0.97))
    assert "the load generator itself was the limit (97 % of its core)" in busy
    waited, extra = report.warnings(replace(figures(), waited=0.4, extra=7))
    assert "no CPU for 40 % of the time" in waited
    assert "somebody else" in extra


def test_groups_are_counted_in_the_sentences() -> None:
    several = replace(PROFILE, groups=3, cameras=1, viewers=1, rate=1.0)
    assert report.load(several) == ("1 camera at 1 pose a second and 1 viewer in each of 3 groups")
    found = search(Server(240).run)
    assert "240 viewers fit with 1 camera at 1 pose a second in each of 3 groups" in (
        report.conclusion(found, several)
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0000314, "31 µs"), (0.00314, "3.14 ms"), (0.0314, "31 ms"), (3.14, "3.1 s")],
)
def test_a_duration_has_a_unit_that_suits_it(seconds: float, text: str) -> None:
    assert report.duration(seconds) == text


# -- the command line


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["ws://a", "--cameras", "0"],
        ["ws://a", "--viewers", "-1"],
        ["ws://a", "--viewers", "many"],
        ["ws://a", "--rate", "0"],
        ["ws://a", "--rate", "nan"],
        ["ws://a", "--p99", "nan"],
        ["ws://a", "--seconds", "inf"],
        ["ws://a", "--groups", "0"],
        ["ws://a", "--group", "a b"],
        ["ws://a", "--group", "x" * 99],
        ["ws://a", "--cap", "0"],
        ["ws://a", "--pid", "4194305"],  # the kernel gives no number so large
        ["ws://a", "--groups", "100000", "--cameras", "10000"],
        ["ws://a", "ws://b"],
    ],
)
def test_wrong_numbers_give_exit_code_2(arguments: list[str]) -> None:
    done = CliRunner().invoke(main, ["bench", *arguments])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Error: " in done.stderr


@pytest.mark.parametrize("module", ["relayd.tap", "relayd.ctl.main"])
def test_the_client_library_is_not_imported_with_the_daemon_or_the_command_line(
    module: str,
) -> None:
    program = f"import sys, {module}; sys.exit('picows' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
