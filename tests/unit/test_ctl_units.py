"""What doctor says of systemd's units, by what `systemctl show` prints (systemd 252)."""

import pytest

from relayd.ctl.doctor.findings import State
from relayd.ctl.doctor.units import judge_service, judge_socket, parse

SOCKET = "Id=relayd.socket\nLoadState=loaded\nActiveState={}\nSubState={}\nResult={}"
SERVICE = (
    "Result={result}\nNRestarts={restarts}\nExecMainStartTimestampMonotonic={start}\n"
    "StatusText={said}\nId=relayd.service\nLoadState=loaded\nActiveState={state}\nSubState=x"
)


@pytest.mark.parametrize(
    ("states", "state", "remedy"),
    [
        (("active", "running", "success"), State.OK, ""),
        (("active", "listening", "success"), State.OK, ""),
        (("failed", "failed", "trigger-limit-hit"), State.FAULT, "systemctl restart relayd.socket"),
        (("inactive", "dead", "success"), State.FAULT, "systemctl start relayd.socket"),
    ],
)
def test_a_socket_that_does_not_listen_is_a_fault(
    states: tuple[str, str, str], state: State, remedy: str
) -> None:
    [unit] = parse(SOCKET.format(*states))
    [found] = judge_socket(unit)
    assert (found.state, found.remedy) == (state, remedy)


@pytest.mark.parametrize(
    ("given", "state", "text"),
    [
        ({}, State.OK, "no need to start it again"),
        ({"restarts": 3, "start": 9_400_000_000}, State.FAULT, "again, 3 times, the last one 10"),
        ({"restarts": 1, "start": 1_000_000_000}, State.WARN, "again, 1 time, the last one 2.5 h"),
        ({"state": "failed", "result": "exit-code"}, State.FAULT, "is failed (exit-code)"),
        ({"state": "inactive"}, State.FAULT, "is inactive (success)"),
        (
            {"state": "activating", "said": "The configuration is wrong: [chat] a = b"},
            State.FAULT,
            "it starts: The configuration is wrong: [chat] a = b",
        ),
    ],
)
def test_a_service_that_starts_again_and_again_is_a_fault(
    given: dict[str, object], state: State, text: str
) -> None:
    values = {"state": "active", "result": "success", "restarts": 0, "start": 0, "said": ""} | given
    [unit] = parse(SERVICE.format(**values))
    [found] = judge_service(unit, uptime=9_999.0)
    assert found.state == state
    assert text in found.text
    assert bool(found.remedy) == (state is not State.OK)


def test_two_units_are_read_apart_and_one_that_does_not_exist_is_skipped() -> None:
    text = (
        SOCKET.format("active", "running", "success") + "\n\nId=relayd.service\nLoadState=not-found"
    )
    socket, service = parse(text + "\nActiveState=inactive\n")
    assert (socket["Id"], service["NRestarts"]) == ("relayd.socket", "")
    assert [one.state for one in judge_service(service)] == [State.SKIPPED]
