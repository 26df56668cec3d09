"""The benchmark's arithmetic, and what it makes of it: verdicts, tables, charts."""

import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench import (
    charts,
    churn,
    figures,
    flame,
    histogram,
    lines,
    paired,
    profiler,
    report,
    tables,
    targets,
)
from bench.figures import Results, Rounds, Spread
from bench.measured import Measured, percentile
from bench.targets import Target, Verdict


def rounds(
    load: str, *per_cpu: float, p99: float = 0.001, lost: int = 0, expected: int = 0
) -> Rounds:
    """Measurements of one CPU second each."""
    return {
        number: Measured(
            load,
            2.0,
            int(value),
            1.0,
            expected=expected,
            lost=lost,
            p50=p99 / 2,
            p99=p99,
            samples=1,
        )
        for number, value in enumerate(per_cpu)
    }


@pytest.fixture
def results() -> Results:
    """Relayd, two peers and two Channels layers under two loads."""
    return {
        "fanout": {
            "relayd": rounds("fanout", 100, 300, 200),
            "gorilla": rounds("fanout", 100, 100, 100),
            "uvicorn-core": rounds("fanout", 10),
            "uvicorn-pubsub": rounds("fanout", 20, 30),
        },
        "crowd": {"relayd": rounds("crowd", 50, 60, p99=0.02, lost=3, expected=300)},
    }


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1), (0.5, 2), (0.51, 3), (0.75, 3), (0.99, 4), (1.0, 4)]
)
def test_a_percentile_is_the_smallest_value_that_covers_the_share(
    share: float, value: float
) -> None:
    assert percentile([1, 2, 3, 4], share) == value


def test_a_percentile_of_nothing_is_zero() -> None:
    assert percentile([], 0.5) == 0


def test_a_measurement_with_an_infinite_latency_survives_json() -> None:
    measured = Measured("crowd", 4.0, 8, 2.0, p50=0.5, p99=math.inf, series=[[1.0, 2, 3, 4]])
    assert Measured.from_json(measured.to_json()) == measured
    assert "Infinity" not in measured.to_json()
    assert (measured.per_cpu, measured.per_second) == (4, 2)


def test_a_ratio_is_the_median_of_the_ratios_of_each_round(results: Results) -> None:
    servers = results["fanout"]
    found = figures.ratio(servers["relayd"], servers["gorilla"], "per_cpu")
    assert found == Spread(median=2, low=1, high=3, count=3)


def test_rounds_that_only_one_of_two_has_are_left_out_of_the_ratio(results: Results) -> None:
    servers = results["fanout"]
    found = figures.ratio(servers["relayd"], servers["uvicorn-pubsub"], "per_cpu")
    assert found == Spread(median=7.5, low=5, high=10, count=2)
    assert figures.ratio(servers["relayd"], {}, "per_cpu") is None


def test_channels_is_represented_by_its_best_layer(results: Results) -> None:
    assert figures.best_channels(results, "fanout") == "uvicorn-pubsub"
    assert figures.best_channels(results, "crowd") is None


@pytest.mark.parametrize(
    ("found", "met", "clear"),
    [
        (Spread(2, 1.3, 3, 5), True, True),
        (Spread(2, 1.0, 3, 5), True, False),
        (Spread(1.2, 1.0, 1.24, 5), False, True),
        (Spread(1.2, 1.0, 1.3, 5), False, False),
        (None, False, False),
    ],
)
def test_a_verdict_says_whether_the_median_meets_the_target_and_whether_every_round_agrees(
    found: Spread | None, met: bool, clear: bool
) -> None:
    verdict = Verdict(Target("fanout", "per_cpu", "gorilla", least=1.25), found)
    assert (verdict.met, verdict.clear) == (met, clear)


def test_missed_and_unmeasured_targets_are_stated(results: Results) -> None:
    results["fanout"]["picows"] = rounds("fanout", 150, 150, 150)
    rows = tables.verdict_rows(targets.judge(results))
    assert len(rows) == 1 + len(targets.TARGETS)
    words = {(row[0], row[1]): row[3] for row in rows}
    assert words["crowd", "messages lost ≤ 0"] == "MISSED"
    assert words["fanout", f"{_PER_CPU} ≥ 1 × picows hub on uvloop"] == "met, not in every round"
    assert words["rooms", f"{_PER_CPU} ≥ 1 × picows hub on uvloop"] == "not measured"


_PER_CPU = "deliveries per server CPU second"


def test_a_target_beside_the_best_peer_names_the_peer_that_was_best(results: Results) -> None:
    results["rate-1000"] = {
        "relayd": rounds("rate-1000", 1, p99=0.02),
        "picows": rounds("rate-1000", 1, p99=0.04),
        "nchan": rounds("rate-1000", 1, p99=0.01),
        "ws": rounds("rate-1000", 1, p99=0.001),
    }
    rows = tables.verdict_rows(targets.judge(results))
    [row] = [
        row for row in rows if row[:2] == ["rate-1000", "p99 ≤ 1 × the better of picows and nchan"]
    ]
    assert row[2:] == ["2.00 × nchan", "MISSED"]


def test_a_target_over_another_set_up_is_a_difference(results: Results) -> None:
    results["across"] = {
        "relayd": rounds("across", 1, 1, p99=0.002),
        "relayd-two": rounds("across", 1, 1, p99=0.0036),
    }
    [row] = [row for row in tables.verdict_rows(targets.judge(results)) if row[0] == "across"]
    assert row[1].endswith("p50 ≤ 1.00 ms over relayd")
    assert row[2:] == ["800 µs (800 µs–800 µs)", "met"]


def test_only_the_servers_that_a_target_names_are_measured_in_every_round() -> None:
    assert targets.is_needed({}, "rooms", "relayd")
    assert targets.is_needed({}, "rooms", "gorilla")
    assert targets.is_needed({}, "rate-300", "nchan")
    assert targets.is_needed({}, "across", "relayd-two")
    assert not targets.is_needed({}, "rooms", "uvicorn-core")
    assert not targets.is_needed({}, "across", "relayd-groups")
    assert not targets.is_needed({}, "idle", "daphne-memory")
    assert not targets.is_needed({}, "rate-300", "ws")


def test_the_two_peers_that_are_best_in_the_first_round_are_measured_in_every_round() -> None:
    first: Results = {
        "rate-20": {
            "socketify": rounds("rate-20", 1, p99=0.001),
            "ws": rounds("rate-20", 1, p99=0.0014),
            "gorilla": rounds("rate-20", 1, p99=0.002),
            "nchan": rounds("rate-20", 1, p99=math.inf),
        }
    }
    wanted = [name for name in first["rate-20"] if targets.is_needed(first, "rate-20", name)]
    assert wanted == ["socketify", "ws"]


def test_a_peer_that_loses_messages_is_the_best_only_where_all_do() -> None:
    servers = {
        "picows": rounds("rate-1000", 1, p99=0.04),
        "nchan": rounds("rate-1000", 1, p99=0.01, lost=2, expected=100),
    }
    target = Target("rate-1000", "p99", "picows|nchan", most=1.0)
    assert targets.rival({"rate-1000": servers}, target) == "picows"
    assert targets.rival({"rate-1000": {"nchan": servers["nchan"]}}, target) == "nchan"


def test_an_infinite_latency_has_no_ratio_and_is_beyond_every_bound() -> None:
    lost, came = rounds("crowd", 1, p99=math.inf), rounds("crowd", 1, p99=0.001)
    assert figures.ratio(lost, lost, "p99") is None
    assert figures.ratio(came, lost, "p99") == Spread(0, 0, 0, 1)
    found = figures.ratio(lost, came, "p99")
    assert not Verdict(Target("crowd", "p99", "best", most=1.0), found).met
    assert tables.times(found) == "∞ ×"


def test_the_row_of_a_peer_says_where_it_is_ahead() -> None:
    measured: Results = {
        "rate-300": {
            "relayd": rounds("rate-300", 100, p99=0.002),
            "picows": rounds("rate-300", 100, p99=0.001),
            "nchan": rounds("rate-300", 200, p99=0.003),
            "ws": rounds("rate-300", 200, p99=0.002, lost=1, expected=2),
        }
    }
    rows = tables.load_rows(measured, "rate-300")
    assert rows[0][-1] == "ahead of relayd"
    assert [row[-1] for row in rows[1:]] == ["", "p50, p99", "CPU", "–"]


def test_the_table_of_the_storm_shows_each_round_that_did_not_let_all_in() -> None:
    storms = {
        0: Measured("storm", connections=2000, opened=2000, last=1.5, cpu=0.6),
        1: Measured("storm", connections=2000, opened=1990, last=math.inf, cpu=0.6),
    }
    head, row = tables.load_rows({"storm": {"relayd": storms}}, "storm")
    shown = dict(zip(head, row, strict=True))
    assert shown["let in"] == "2,000 of 2,000; 1,990 of 2,000"
    assert shown["the last after"] == "not all in"
    assert shown["CPU a client"] == "301 µs"


@pytest.mark.parametrize("load", list(tables.LOADS))
def test_every_load_has_a_table_in_which_every_row_has_every_column(load: str) -> None:
    servers = {name: rounds(load, 100) for name in ("relayd", "gorilla")}
    rows = tables.load_rows({load: servers}, load)
    assert [len(row) for row in rows] == [len(rows[0])] * 3


def test_a_bucket_of_the_histogram_is_as_wide_as_a_thousandth_of_its_values() -> None:
    assert [histogram.microseconds(n) for n in (0, 1, 2047, 2048, 2049)] == [
        0,
        1,
        2047,
        2048.5,
        2050.5,
    ]
    assert histogram.microseconds(2048 + 1024) == 4097.5
    last = histogram.microseconds(2048 + 29 * 1024 - 1)
    assert 2**39 < last < 2**40


def test_a_percentile_of_a_histogram_counts_lost_messages() -> None:
    buckets = [0, 50, 49]
    assert histogram.percentile(buckets, 0.5) == 1e-6
    assert histogram.percentile(buckets, 0.99) == 2e-6
    assert histogram.percentile(buckets, 0.99, missing=1) == 2e-6
    assert histogram.percentile(buckets, 0.99, missing=2) == math.inf
    assert histogram.percentile([], 0.5) == 0


def test_the_table_of_a_load_shows_medians_ratios_and_all_losses(results: Results) -> None:
    text = report.plain(tables.load_rows(results, "fanout"))
    assert "2.00 × (1.00–3.00)" in text
    lost = tables.load_rows(results, "crowd")[1][5]
    assert lost == "6 (1.0%)"


def test_the_table_of_two_checkouts_shows_ratios_of_paired_rounds_and_the_losses_of_both() -> None:
    both = {
        "crowd": {
            "relayd": rounds("crowd", 110, 99, 300, lost=1, expected=300),
            "before": rounds("crowd", 100, 100),
        }
    }
    head, row = paired.rows(both)
    shown = dict(zip(head, row, strict=True))
    assert shown["deliveries per CPU s"] == "1.04 × (0.99–1.10)"
    assert shown["memory"] == "–"
    assert (shown["rounds"], shown["lost here"], shown["there"]) == ("2", "3", "0")


def test_the_table_of_two_checkouts_shows_of_a_storm_the_last_client_and_the_cpu_of_each() -> None:
    storms = {
        name: {0: Measured("storm", connections=9, opened=9, last=last, cpu=cpu, p50=1, p99=1)}
        for name, last, cpu in (("relayd", 1.0, 0.3), ("before", 4.0, 0.6))
    }
    head, row = paired.rows({"storm": storms})
    shown = dict(zip(head, row, strict=True))
    assert (shown["the last client in"], shown["CPU a client"]) == ("0.25 ×", "0.50 ×")
    assert (shown["deliveries per CPU s"], shown["p99"]) == ("–", "1.00 ×")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0000314, "31 µs"),
        (0.00314, "3.14 ms"),
        (0.0314, "31 ms"),
        (3.14, "3.1 s"),
        (math.inf, "lost"),
    ],
)
def test_a_duration_has_a_unit_that_suits_it(seconds: float, text: str) -> None:
    assert tables.duration(seconds) == text


def test_a_section_of_the_page_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "performance.md"
    report.put(page, "bench", r"old \1")
    page.write_text(page.read_text() + "\nBy hand.\n")
    report.put(page, "bench", r"new \1")
    report.put(page, "churn", "more")
    text = page.read_text()
    assert "old" not in text
    assert text.count("<!-- bench: begin -->") == 1
    assert text.index(r"new \1") < text.index("By hand.") < text.index("more")


def test_the_charts_are_svg_with_a_bar_for_every_server(results: Results, tmp_path: Path) -> None:
    written = charts.write(results, tmp_path)
    assert [name for name, _ in written] == ["deliveries.svg", "latency.svg"]
    svg = "{http://www.w3.org/2000/svg}"
    root = ET.parse(tmp_path / "deliveries.svg").getroot()
    assert root.tag == f"{svg}svg"
    # relayd, gorilla and the better layer under fanout, relayd under crowd
    assert len(root.findall(f"{svg}rect")) == 4
    assert len(root.findall(f"{svg}rect[@class='relayd']")) == 2


def test_the_charts_over_the_rate_have_a_solid_and_a_dashed_line_for_every_server(
    tmp_path: Path,
) -> None:
    measured: Results = {
        load: {
            "relayd": rounds(load, 100, p99=0.001),
            "nchan": rounds(load, 100, p99=late),
        }
        for load, late in (("rate-20", 0.002), ("rate-12000", math.inf))
    }
    assert [name for name, _ in charts.write(measured, tmp_path)] == ["rates.svg", "cores.svg"]
    svg = "{http://www.w3.org/2000/svg}"
    root = ET.parse(tmp_path / "rates.svg").getroot()
    for name in ("relayd", "nchan"):
        group = f"{svg}g[@class='{name}']"
        kinds = [line.attrib["class"] for line in root.findall(f"{group}/{svg}polyline")]
        assert kinds == ["line dashed", "line"]
    words = [text.text for text in root.findall(f"{svg}text")]
    assert {"20", "12,000", "100 µs", "1.00 ms", "lost", "nginx with nchan, C"} <= set(words)
    [dashed] = root.findall(f"{svg}g[@class='nchan']/{svg}polyline[@class='line dashed']")
    assert dashed.attrib["points"].endswith(f",{lines.LOST:.1f}")
    root = ET.parse(tmp_path / "cores.svg").getroot()
    assert len(root.findall(f"{svg}g/{svg}polyline")) == 2


def test_a_lost_latency_has_no_bar(tmp_path: Path) -> None:
    lost: Results = {
        "crowd": {
            "relayd": rounds("crowd", 5, p99=0.02),
            "picows": rounds("crowd", 5, p99=math.inf),
        }
    }
    charts.write(lost, tmp_path)
    assert "picows" not in (tmp_path / "latency.svg").read_text()


STACKS = (
    "run (twisted/base.py:1);send (b.py:2) 3\nrun (twisted/base.py:9);send (b.py:4) 3\n"
    "run (twisted/base.py:1) 2\n0x7f (libc.so.6);0x7e (libc.so.6) 90\n"
)


def test_the_profile_sums_up_the_ends_of_the_stacks_of_the_thread_that_works() -> None:
    ends = profiler.hot(flame.stacks(STACKS))
    assert ends == [("send (b.py)", 0.75), ("run (twisted/base.py)", 0.25)]


def test_the_flame_graph_has_a_box_for_every_function_as_wide_as_its_share() -> None:
    root = ET.fromstring(flame.graph("a <title>", flame.stacks(STACKS)))
    boxes = root.findall("{*}g/{*}rect")
    assert [float(box.attrib["width"]) for box in boxes] == [1199.5, 899.5]


def test_the_counts_of_strace_and_of_perf_are_read() -> None:
    text = (
        "syscall              calls\n----------- ---------\nsendto                 120\n"
        "epoll_wait              30\n----------- ---------\ntotal                  150\n"
    )
    counts = {"sendto": 120, "epoll_wait": 30, "total": 150}
    assert profiler.calls(text) == counts
    text = (
        "# started on Sat\n\n150,,raw_syscalls:sys_enter,14,100.00,,\n"
        "120,,syscalls:sys_enter_sendto,14,100.00,,\n30,,syscalls:sys_enter_epoll_wait,14,100.00,,\n"
        "<not counted>,,syscalls:sys_enter_read,0,100.00,,\n"
    )
    assert profiler.calls(text) == counts


@pytest.mark.parametrize(("last", "good"), [(100.0, True), (101.0, True), (103.0, False)])
def test_memory_is_flat_if_the_last_quarter_equals_the_second(last: float, good: bool) -> None:
    sizes = [10.0, 50.0, 100.0, 100.0, 100.0, 100.0, last, last]
    measured = Measured("crowd", 60, 1, 1.0, series=[[n, s, s, 0] for n, s in enumerate(sizes)])
    words, found = churn.summary(measured, 100)
    assert found == good
    assert ("NOT FLAT" in words) != good


def test_a_loss_spoils_a_long_run_whose_memory_is_flat() -> None:
    assert not churn.summary(Measured("crowd", 60, 1, 1.0, lost=1), 100)[1]
