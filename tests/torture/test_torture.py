"""A short randomized run; `make torture` has longer ones, with any seed."""

from tests.torture.run import torture

SEED, SECONDS = 1, 12


def test_a_short_run_breaks_no_promise() -> None:
    """Clients write while Redis, PostgreSQL and the processes of relayd fail beside one another."""
    result = torture(SECONDS, SEED)
    assert result.violations == [], result.summary()
    assert sum(result.faults.values()) >= 3, result.summary()
    assert any("id" in event.data for event in result.record.events), result.summary()
