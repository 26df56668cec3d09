"""The latest warnings with their remedies, one entry for the same words."""

from twisted.logger import LogLevel, globalLogPublisher

from relayd.logs import Logger
from relayd.logs.recent import MOST, Recent, Warned, merge
from tests.unit.fakes import logged_failures


def test_a_warning_is_kept_with_its_remedy_and_the_same_words_are_counted() -> None:
    recent, log = Recent(), Logger(namespace="tests")
    recent.start()
    try:
        log.info("nothing")
        log.warn("{host} is not in [proxy] trusted: dropped", host="192.0.2.1")
        log.error("another: redis://u:secret@h", x=1)
        log.warn("{host} is not in [proxy] trusted: dropped", host="192.0.2.2")
    finally:
        recent.stop()
    log.warn("not any more")
    other, proxy = recent.entries()
    assert (proxy.level, proxy.count) == ("warning", 2)
    assert proxy.text == "192.0.2.2 is not in [proxy] trusted: dropped"
    assert "add it to `[proxy] trusted`" in proxy.remedy
    assert proxy.first <= proxy.last
    assert (other.level, other.remedy, other.count) == ("error", "", 1)
    assert "secret" not in other.text


def test_a_fault_of_relayd_says_that_it_belongs_in_a_report() -> None:
    recent = Recent()
    recent.start()
    try:
        with logged_failures():
            try:
                raise ZeroDivisionError("oh")
            except ZeroDivisionError:
                Logger(namespace="tests").failure("it failed")
    finally:
        recent.stop()
    [entry] = recent.entries()
    assert entry.level == "critical"
    assert "report it" in entry.remedy


def test_the_kinds_of_warnings_are_bounded_and_the_oldest_goes() -> None:
    recent = Recent()
    for number in range(MOST + 3):
        recent({"log_level": LogLevel.warn, "log_format": f"kind {number}", "log_time": number})
    assert [each.text for each in recent.entries()][:1] == ["kind 3"]
    assert len(recent.entries()) == MOST
    assert recent not in globalLogPublisher._observers


def test_the_warnings_of_several_processes_are_merged_the_latest_first() -> None:
    def warned(last: float) -> Warned:
        return Warned(level="error", text="", remedy="", count=1, first=0, last=last)

    found = merge([[warned(1), warned(5)], [warned(3)]], most=2)
    assert [each.last for each in found] == [5, 3]
