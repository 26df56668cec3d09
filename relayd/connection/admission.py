"""Admission of clients: draining, number of connections, host, origin, token. Pure, given a clock.

The WebSocket adapter checks each handshake here once, before the path's own rules.
"""

from collections.abc import Callable
from typing import Any

from relayd import forwarded
from relayd.access.denials import Denial, Denials
from relayd.access.django_sessions import DjangoSessions
from relayd.access.identity import Identity
from relayd.access.networks import parse_network
from relayd.access.rights import directions
from relayd.access.tokens import Tokens
from relayd.config.current import Current
from relayd.errors import ErrorCode, Refusal
from relayd.hosts.authority import Asked, check_hosts
from relayd.hosts.origins import is_allowed
from relayd.names import Kind, Kinds, Place


class Admission:
    """The rules that hold on every path.

    Args:
        current: holds the configuration.
        reactor: fetches keys of tokens.
        time: returns the time in Unix seconds.
        kinds: the table of paths.
        most: returns the largest number of connections; by default the configured one.
        sessions: those of the Django site; None without one.
        overloaded: whether the process has too much to do to take anybody.

    Attributes:
        denials: the tokens, users and addresses that are refused.
        sessions: as given.
        now: the same as `time`.
        draining: whether every handshake is refused at the moment.
        stopping: whether the process is about to end.
    """

    def __init__(
        self,
        current: Current,
        reactor: Any,
        time: Callable[[], float],
        kinds: Kinds,
        most: Callable[[], int] | None = None,
        sessions: DjangoSessions | None = None,
        overloaded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._current = current
        self._tokens = Tokens(current, reactor, time, kinds)
        self.sessions = sessions
        self._most = most or (lambda: current.config.limits.max_connections)
        self._overloaded = overloaded
        self.denials = Denials(time)
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
        self,
        kind: str,
        *,
        asked: Asked,
        token: str | None,
        connections: int,
        cookies: str | None = None,
    ) -> Identity:
        """Checks one handshake.

        Args:
            kind: the kind of path: `camera`, `difficulty`, `chat`, `push` or `echo`.
            asked: the hosts and the origin that it names.
            token: from `?token=` or `Authorization: Bearer`, if there was one.
            connections: how many connections are open.
            cookies: the `Cookie` header.

        Raises:
            Refusal: 503 draining or overloaded, 429 too many, 421 host, 403 origin or rights, 401
                no or bad token, 503 no keys.
        """
        self.check_room(connections)
        server = self._current.config.server
        check_hosts(asked, server.names)
        if not is_allowed(asked, server.allowed_origins):
            raise Refusal(ErrorCode.ORIGIN_NOT_ALLOWED)
        return await self.identify(kind, token=token, cookies=cookies)

    async def identify(self, kind: str, *, token: str | None, cookies: str | None) -> Identity:
        """Finds out whose a token or a session is, and whether it is good for a kind of path.

        Args:
            kind: as of `admit`.
            token: as of `admit`.
            cookies: as of `admit`.

        Raises:
            Refusal: 401 no or bad token, 403 rights, 503 no keys.
        """
        if getattr(self._current.config.auth, kind, "") == "django":
            if self.sessions is None:  # a reload has set it, and the site is not known yet
                raise Refusal(ErrorCode.STORE_UNAVAILABLE, "The server has to be restarted first.")
            identity = await self.sessions.read(cookies)
        else:
            identity = await self._tokens.read(token, kind)
        self._check_denied(identity)
        if identity.rights is not None and all(kind != right.kind for right in identity.rights):
            raise Refusal(ErrorCode.FORBIDDEN, f"The token is not good for {kind} paths.")
        return identity

    def check_rights(self, identity: Identity, kind: Kind, place: Place) -> frozenset[str]:
        """Checks the rights of a client on one path.

        Args:
            identity: of the client.
            kind: of the path.
            place: the parts of the path, normalized.

        Returns:
            What the client may do there, of `names.DIRECTIONS`; never empty.

        Raises:
            Refusal: 403, nothing.
        """
        allowed = directions(identity.rights, kind.name, place)
        if not allowed:
            raise Refusal(ErrorCode.FORBIDDEN, "The token is not good for this path.")
        return allowed

    def check_again(self, identity: Identity, address: str, connections: int) -> None:
        """Checks, after a handshake waited, the rules whose outcome may have changed.

        Args:
            identity: of the client.
            address: of the client, from `forwarded`.
            connections: how many connections are open.

        Raises:
            Refusal: as `check_room`; 401 or 403, the client was denied meanwhile.
        """
        self.check_address(address)
        self.check_room(connections)
        self._check_denied(identity)

    def check_address(self, address: str) -> None:
        """Checks that the address of a client is not banned. Raises Refusal: 403.

        Args:
            address: the client's own, from `forwarded`.
        """
        if self.denials.find_address(address) is not None and not self.spares(address):
            raise Refusal(ErrorCode.BANNED)

    def spares(self, address: str) -> bool:
        """Whether an address is never banned: this machine's, or that of a trusted proxy."""
        return forwarded.is_local(address) or self._proxies.trusts(address)

    def check_denial(self, denial: Denial) -> None:
        """Checks a denial that an operator wants to add.

        Raises:
            Refusal: 400, the entry is invalid, the list is full, or a ban would concern this
                machine or a trusted proxy.
        """
        self.denials.check(denial)
        if denial.kind != "address" or denial.lifted:
            return
        network = parse_network(denial.value)
        if forwarded.holds_local(network):
            raise Refusal(
                ErrorCode.BAD_REQUEST,
                f"{network} holds addresses of this machine (127.0.0.0/8, ::1): local proxies and "
                "health checks come from there, so these are never banned.",
            )
        if self._proxies.overlap(network):
            raise Refusal(
                ErrorCode.BAD_REQUEST,
                f"{network} holds a proxy of [proxy] trusted: a ban would concern all clients "
                "behind it. Ban the address of the client, which relayctl clients shows.",
            )

    @property
    def _proxies(self) -> forwarded.Proxies:
        settings = self._current.config.proxy
        return forwarded.proxies(settings.trusted, settings.header)

    def _check_denied(self, identity: Identity) -> None:
        find = self.denials.find
        if find("token", identity.token) or find("user", identity.user):
            raise Refusal(ErrorCode.UNAUTHORIZED, "The token has been revoked.")

    def check_room(self, connections: int) -> None:
        """Checks whether the process takes another connection.

        Args:
            connections: how many connections are open.

        Raises:
            Refusal: 503 draining or overloaded, 429 too many.
        """
        if self.draining:
            raise Refusal(ErrorCode.DRAINING)
        if self._overloaded():
            raise Refusal(ErrorCode.OVERLOADED)
        limit = self._most()
        if limit and connections >= limit:
            raise Refusal(ErrorCode.TOO_MANY, f"This server serves {limit} connections at most.")
