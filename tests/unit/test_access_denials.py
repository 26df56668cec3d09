"""Denials: which entry holds, their bound and end, the file that keeps them, what they close."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.access.denial_file import load, save
from relayd.access.denials import LONGEST, MOST, Denial, Denials
from relayd.access.identity import Identity
from relayd.connection.denied import close_denied, concerned
from relayd.connection.registry import Connections
from relayd.errors import Refusal
from tests.unit.fakes import NOW


class Fake:
    """A connection with an identity."""

    kind = "camera"
    address = "203.0.113.7"

    def __init__(self, user: str | None, token: str | None) -> None:
        self.identity = Identity(user=user, token=token)
        self.closes: list[tuple[int, str | None]] = []

    def close(self, code: int, reason: str | None = None, *error: object, **told: object) -> None:
        self.closes.append((code, reason))

    def abort(self) -> None:
        pass


def spares_nobody(address: str) -> bool:
    return False


def deny(value: str = "ada", *, kind: str = "user", until: float = 60, made: float = 0,
         lifted: bool = False) -> Denial:  # fmt: skip
    """An entry; times from NOW on."""
    return Denial(kind=kind, value=value, until=NOW + until, made=NOW + made, lifted=lifted)  # type: ignore[arg-type]


def test_a_denial_holds_until_its_end() -> None:
    time = [NOW]
    denials = Denials(lambda: time[0])
    assert denials.add(deny(until=60))
    assert denials.find("user", "ada")
    assert not denials.find("user", "bob")
    assert not denials.find("token", "ada")
    assert not denials.find("user", None)
    time[0] += 60
    assert not denials.find("user", "ada")
    assert denials.entries() == []


@given(st.permutations([deny(made=1), deny(made=2, lifted=True), deny(made=3), deny("bob")]))
def test_the_latest_entry_holds_in_whatever_order_they_arrive(order: list[Denial]) -> None:
    denials = Denials(lambda: NOW)
    for each in (*order, *order):
        denials.add(each)
    assert denials.find("user", "ada") == deny(made=3)
    assert {each.key for each in denials.entries()} == {("user", "ada"), ("user", "bob")}


def test_a_lifted_denial_stays_lifted_when_the_old_one_comes_again() -> None:
    denials = Denials(lambda: NOW)
    for each in (deny(made=1), deny(made=2, lifted=True), deny(made=1)):
        denials.add(each)
    assert denials.find("user", "ada") is None
    assert denials.entries() == [deny(made=2, lifted=True)]


@pytest.mark.parametrize(
    "wrong",
    [
        deny(""),
        deny("a" * (LONGEST + 1)),
        deny(until=float("inf")),
        deny(until=float("nan")),
        deny(made=float("-inf")),
        deny(made=7200, until=9000),
    ],
)
def test_an_entry_that_is_wrong_is_refused(wrong: Denial) -> None:
    denials = Denials(lambda: NOW)
    with pytest.raises(Refusal):
        denials.add(wrong)
    assert denials.entries() == []


def test_a_full_list_takes_no_more_until_some_have_ended() -> None:
    time = [NOW]
    denials = Denials(lambda: time[0])
    for number in range(MOST):
        denials.add(deny(str(number), until=60 if number else 10))
    with pytest.raises(Refusal, match="full"):
        denials.add(deny())
    assert denials.add(deny("1", made=1))
    time[0] += 10
    assert denials.add(deny())


def test_a_denial_closes_the_connections_that_it_is_about_with_4005() -> None:
    connections, denials = Connections(), Denials(lambda: NOW)
    ada, bob, guest = Fake("ada", "t1"), Fake("bob", "t2"), Fake(None, None)
    for each in (ada, bob, guest):
        connections.add(each)
    denials.watch(lambda denial: close_denied(connections, spares_nobody, denial))
    denials.add(deny("ada"))
    denials.add(deny("t2", kind="token"))
    denials.add(deny("t1", kind="token", lifted=True))
    closed = [(4005, "token revoked")]
    assert (ada.closes, bob.closes, guest.closes) == (closed, closed, [])
    assert concerned(connections, deny("t1", kind="token"), spares_nobody) == [ada]


def test_the_file_keeps_what_several_processes_write(tmp_path: Path) -> None:
    file = tmp_path / "var" / "denials.json"
    assert load(file) == []
    save(file, [deny("ada"), deny("old", until=-1)], NOW)
    save(file, [deny("bob"), deny("ada", made=1, lifted=True)], NOW)
    save(file, [deny("ada")], NOW)
    assert load(file) == [deny("ada", made=1, lifted=True), deny("bob")]
    assert file.stat().st_mode & 0o777 == 0o600
    save(file, [], NOW + 60)
    assert load(file) == []


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"kind":"x"}]', "[", "\xff"])
def test_a_file_without_denials_is_an_error_and_stays(tmp_path: Path, text: str) -> None:
    file = tmp_path / "denials.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match="does not hold denials"):
        load(file)
    with pytest.raises(ValueError, match="does not hold denials"):
        save(file, [deny()], NOW)
    assert file.read_text(encoding="latin-1") == text
