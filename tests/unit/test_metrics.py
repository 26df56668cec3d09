"""Figures of several processes become one, whatever becomes of the processes; the lag; the text."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from twisted.internet.task import Clock

from relayd.control.worker_metrics import FigureReport
from relayd.metrics.exchange import Family, Rule, merge, pack, to_text
from relayd.metrics.families import counter, gauge, histogram
from relayd.metrics.lag import MEMORY, STEP, Lag
from relayd.metrics.totals import Totals, describe_workers
from relayd.tally import Buckets

RULES: dict[str, Rule] = {"relayd_worst": "max", "relayd_up": "min"}


def figures(**values: float) -> list[Family]:
    """The figures of a process: `messages` only grows, everything else goes up and down."""
    metrics = [
        counter(name, "Text", {"camera": value}, "kind")
        if name == "messages"
        else gauge(name, "Text", value)
        for name, value in values.items()
    ]
    return pack(metrics, RULES)


def value(families: list[Family], name: str) -> float:
    """The only figure of a name in the text."""
    [found] = [
        value for family in families for sample, _, value in family.samples if sample == name
    ]
    return found


# -- merging


def test_each_family_is_summed_by_its_rule() -> None:
    both = merge(
        [figures(messages=3, open=5, worst=7, up=1), figures(messages=4, open=6, worst=2, up=0)]
    )
    names = ("relayd_messages_total", "relayd_open", "relayd_worst", "relayd_up")
    assert [value(both, name) for name in names] == [7, 11, 7, 0]


def test_samples_with_different_labels_are_summed_separately() -> None:
    one = pack([counter("closes", "Text", {"1000": 1, "1001": 2}, "code")], {})
    other = pack([counter("closes", "Text", {"1001": 3, "4003": 4}, "code")], {})
    [family] = merge([one, other])
    assert {labels["code"]: value for _, labels, value in family.samples} == {
        "1000": 1, "1001": 5, "4003": 4
    }  # fmt: skip


def test_buckets_of_several_processes_add_up() -> None:
    first, second = Buckets((1, 10)), Buckets((1, 10))
    for number in (0.5, 5, 50):
        first.observe(number)
    second.observe(5)
    [family] = merge(pack([histogram("time", "Text", one)], {}) for one in (first, second))
    assert [value for _, _, value in family.samples] == [1, 3, 4, 4, 60.5]
    [together] = pack([histogram("time", "Text", [first, second])], {})
    assert together == family


def test_figures_survive_encoding_between_processes() -> None:
    sent = figures(messages=3, worst=0.25)
    on_the_way = msgspec.json.encode(FigureReport(process="a", families=sent))
    assert msgspec.json.decode(on_the_way, type=FigureReport).families == sent


# -- workers that come and go


def test_counters_of_a_dead_worker_stay_and_its_gauges_do_not() -> None:
    totals = Totals()
    first, second = figures(messages=10, open=5), figures(messages=1, open=2)
    totals.note(1, "a", first)
    totals.note(2, "b", second)
    before = totals.sum({1: first, 2: second})
    assert (value(before, "relayd_messages_total"), value(before, "relayd_open")) == (11, 7)
    # it is dead, and not there again
    after = totals.sum({2: second})
    assert (value(after, "relayd_messages_total"), value(after, "relayd_open")) == (11, 2)
    # its successor begins at zero
    fresh = figures(messages=2, open=1)
    totals.note(1, "c", fresh)
    later = totals.sum({1: fresh, 2: second})
    assert (value(later, "relayd_messages_total"), value(later, "relayd_open")) == (13, 3)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("count"), st.integers(0, 2), st.integers(0, 9)),
            st.tuples(st.just("die"), st.integers(0, 2), st.just(0)),
            st.tuples(st.just("ask"), st.integers(0, 7), st.just(0)),
        ),
        max_size=60,
    )
)
def test_a_counter_of_the_sum_never_goes_back_and_is_exact_when_all_answer(
    events: list[tuple[str, int, int]],
) -> None:
    """This holds whichever workers die or do not answer. Only unreported counts may be lost."""
    totals, live, told, lives = Totals(), [0, 0, 0], [0, 0, 0], [0, 0, 0]
    gone = shown = 0
    for event, number, amount in events:
        if event == "count":
            live[number] += amount
        elif event == "die":
            gone += told[number]
            live[number] = told[number] = 0
            lives[number] += 1
        else:
            answers = {}
            for worker in range(3):
                if number >> worker & 1:
                    answers[worker] = figures(messages=live[worker])
                    totals.note(worker, f"{worker}.{lives[worker]}", answers[worker])
                    told[worker] = live[worker]
            if not answers:
                continue
            now = int(value(totals.sum(answers), "relayd_messages_total"))
            assert now >= shown
            assert now == gone + sum(told)
            shown = now


def test_figures_of_the_parent_are_added() -> None:
    total = Totals().sum({1: figures(messages=1)}, [describe_workers(2, 1, 3, 1)])
    names = ("workers", "workers_serving", "worker_restarts_total", "workers_unanswered")
    assert [value(total, f"relayd_{name}") for name in names] == [2, 1, 3, 1]
    assert value(total, "relayd_messages_total") == 1


# -- the text


@pytest.mark.parametrize(
    ("accept", "type", "parse"),
    [
        (None, "text/plain; version=0.0.4", parse_text),
        ("text/html, */*", "text/plain; version=0.0.4", parse_text),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
            "application/openmetrics-text; version=1.0.0",
            parse_openmetrics,
        ),
    ],
)
def test_the_text_is_in_the_requested_format(accept: str | None, type: str, parse: Any) -> None:
    times = Buckets()
    times.observe(0.3)
    families = figures(messages=3, open=2) + pack([histogram("time_seconds", "Text", times)], {})
    text, content_type = to_text(families, accept)
    assert content_type.startswith(type)
    read = {
        (sample.name, sample.labels.get("le")): sample.value
        for metric in parse(text.decode())
        for sample in metric.samples
    }
    assert read["relayd_messages_total", None] == 3
    assert read["relayd_time_seconds_bucket", "0.25"] == 0
    assert read["relayd_time_seconds_bucket", "0.5"] == read["relayd_time_seconds_count", None] == 1
    assert read["relayd_time_seconds_sum", None] == 0.3


# -- the lag


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_late_turn_is_noticed_and_forgotten_after_a_minute(clock: Clock) -> None:
    lag = Lag(clock)
    lag.start()
    clock.advance(STEP)
    assert lag.longest == 0
    clock.advance(STEP + 0.75)  # a Clock calls what is due at the end of its step
    clock.advance(STEP)
    assert lag.longest == pytest.approx(0.75)
    assert lag.seconds.total == pytest.approx(0.75)
    assert sum(lag.seconds.counts) == 3
    for _ in range(round(MEMORY / STEP)):
        clock.advance(STEP)
    assert lag.longest == 0
    lag.stop()
    assert clock.getDelayedCalls() == []


def test_a_delay_that_still_lasts_counts_already(clock: Clock) -> None:
    lag = Lag(clock)
    lag.start()
    clock.rightNow += STEP + 2  # whoever asks is called before the timer
    assert lag.longest == pytest.approx(2)
    lag.stop()
    assert lag.longest == 0


def test_a_process_is_overloaded_after_three_late_calls_until_one_is_half_as_late() -> None:
    clock, seen = Clock(), list[bool]()
    lag = Lag(clock, lambda: 0.5)
    lag.start()
    for late in (2.0, 0.0, 0.6, 0.7, 0.6, 0.4, 0.3, 0.2, 0.6):
        clock.rightNow += STEP + late
        clock.advance(0)
        seen.append(lag.overloaded)
    assert seen == [False] * 4 + [True] * 3 + [False] * 2
    lag.stop()


def test_a_process_is_late_from_the_first_late_call_until_one_is_in_time() -> None:
    clock = Clock()
    lag = Lag(clock, lambda: 0.5)
    lag.start()
    for late, expected in (
        (0.4, [False, False]),
        (0.6, [True, True]),
        (0.4, [True, False]),
        (0.6, [True, True]),
        (0.7, [True, True]),
        (0.8, [True, True]),
        (0.4, [True, True]),  # it is overloaded
        (0.2, [True, False]),
    ):
        clock.rightNow += STEP + late
        before = lag.is_late  # whoever asks may be called before the timer
        clock.advance(0)
        assert [before, lag.is_late] == expected
    lag.stop()
    assert not lag.is_late


def test_a_process_without_a_bound_is_never_overloaded() -> None:
    clock = Clock()
    lag = Lag(clock)
    lag.start()
    for _ in range(9):
        clock.rightNow += STEP + 60
        clock.advance(0)
    assert not lag.overloaded
    lag.stop()
