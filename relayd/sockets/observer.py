"""The observer of one connection, which sees every frame: the interface of its one slot.

Sits under `outbox` and beside `native.reading`, whose `Inlet` has such a slot, too. The WebSocket
adapter sets the same observer in both; `control.trace` is one. Without an observer a frame costs
nothing extra: an inlet's `receive` and an outbox' `direct` are called without a check.
"""

from typing import Protocol


class Observer(Protocol):
    """Is notified of each event before it is handled."""

    def received(self, payload: bytes, is_binary: bool) -> None:
        """A whole message came in."""

    def pinged(self, payload: bytes) -> None:
        """A ping came in (RFC 6455 section 5.5.2)."""

    def ponged(self, payload: bytes) -> None:
        """A pong came in (RFC 6455 section 5.5.3)."""

    def sent(self, frames: bytes, waits: bool) -> None:
        """Whole frames go out.

        Args:
            frames: one behind the other.
            waits: whether they are queued, because the peer has not read the frames before them.
        """

    def close_received(self, code: int | None, reason: bytes | None) -> None:
        """A close frame came in (RFC 6455 section 5.5.1)."""

    def close_sent(self, code: int | None, reason: bytes | None) -> None:
        """A close frame goes out, behind everything else."""

    def ended(self) -> None:
        """The TCP connection has ended."""
