"""Admission of clients: draining, number of connections, host, origin, token. Pure, given a clock.

The WebSocket adapter checks each handshake here once, before the path's own rules.
"""

from collections.abc import Callable

from relayd.access.identity import Identity
from relayd.access.tokens import Tokens
from relayd.config.current import Current
from relayd.errors import ErrorCode, Refusal
from relayd.hosts.authority import Asked, check_hosts
from relayd.hosts.origins import is_allowed


class Admission:
    """The rules that hold on every path.

    Args:
        current: holds the configuration.
        time: returns the time in Unix seconds.
        most: returns the largest number of connections; by default the configured one.

    Attributes:
        now: the same as `time`.
        draining: whether every handshake is refused at the moment.
        stopping: whether the process is about to end.
    """

    def __init__(
        self,
        current: Current,
        time: Callable[[], float],
        most: Callable[[], int] | None = None,
    ) -> None:
        self._current = current
        self._tokens = Tokens(current, time)
        self._most = most or (lambda: current.config.limits.max_connections)
        self.now = time
        self.draining = self.stopping = False

    def drain(self) -> None:
        """Refuses every handshake from now on."""
        self.draining = True

    def undrain(self) -> None:
        """Admits clients again."""
        self.draining = False

    def stop(self) -> None:
        """Notes that the process is about to end; pending handshakes are still admitted."""
        self.stopping = True

    async def admit(
        self, kind: str, *, asked: Asked, token: str | None, connections: int
    ) -> Identity:
        """Checks one handshake.

        Args:
            kind: the kind of path: `camera`, `difficulty`, `chat`, `push` or `echo`.
            asked: the hosts and the origin that it names.
            token: from `?token=` or `Authorization: Bearer`, if there was one.
            connections: how many connections are open.

        Raises:
            Refusal: 503 draining, 429 too many, 421 host, 403 origin or scope, 401 no or bad token.
        """
        self.check_room(connections)
        server = self._current.config.server
        check_hosts(asked, server.names)
        if not is_allowed(asked, server.allowed_origins):
            raise Refusal(ErrorCode.ORIGIN_NOT_ALLOWED)
        identity = await self._tokens.read(token)
        if identity.scope is not None and kind not in identity.scope:
            raise Refusal(ErrorCode.FORBIDDEN, f"The token is not good for {kind} paths.")
        return identity

    def check_room(self, connections: int) -> None:
        """Checks again, after a handshake waited, the rules whose outcome may have changed.

        Args:
            connections: how many connections are open.

        Raises:
            Refusal: 503 draining, 429 too many.
        """
        if self.draining:
            raise Refusal(ErrorCode.DRAINING)
        limit = self._most()
        if limit and connections >= limit:
            raise Refusal(ErrorCode.TOO_MANY, f"This server serves {limit} connections at most.")
