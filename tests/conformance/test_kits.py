"""Every client kit does what docs/protocol.md asks of clients, against a spawned relayd."""

from tests.conformance.scenarios import Scenarios


class TestKits(Scenarios):
    """Every scenario, with every kit."""
