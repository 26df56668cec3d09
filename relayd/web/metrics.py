"""`/metrics`: the figures of all processes, for Prometheus, and for nobody else.

The public port may be on the internet, so `[metrics] allow` names the networks that may read. An
address only counts if it is surely the client's own: behind a proxy, what a trusted one says, but
never that it is this machine.
"""

import ipaddress

from relayd import forwarded
from relayd.errors import ErrorCode, Refusal
from relayd.metrics.exchange import to_text
from relayd.web.answers import Answer
from relayd.web.backend import Backend
from relayd.web.request import Request

_FORWARDED = (
    *("Forwarded", "Via"),
    *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP"),
)  # fmt: skip
"""Headers that proxies add; Prometheus sends none of them."""


class Metrics:
    """The answer, and who gets it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def serve(self, request: Request) -> Answer:
        """The figures as text.

        Raises:
            Refusal: 404 if they are turned off, 403 for who may not read them, 503 if they cannot
                be had.
        """
        if not self._backend.config.metrics.enabled:
            raise Refusal(
                ErrorCode.NOT_FOUND, "Metrics are turned off: [metrics] enabled is false."
            )
        self._check(request)
        text, content_type = to_text(await self._backend.figures(), request.header("Accept"))
        return Answer(200, text, content_type, {"Cache-Control": "no-store"})

    def _check(self, request: Request) -> None:
        host = request.connected
        if any(request.header(name) is not None for name in _FORWARDED):
            client = self._client(host, request)
            if client is None or ipaddress.ip_address(client).is_loopback:
                raise Refusal(
                    ErrorCode.FORBIDDEN,
                    "A proxy has passed this request on; Prometheus is to ask relayd itself.",
                )
            host = client
        if host == forwarded.UNIX or not self._is_allowed(host):
            raise Refusal(
                ErrorCode.FORBIDDEN,
                "Metrics are not for this address; [metrics] allow in the configuration lists the "
                "networks that may read them.",
            )

    def _client(self, host: str, request: Request) -> str | None:
        """On whose behalf a proxy asks; None if it is not to be believed."""
        settings = self._backend.config.proxy
        told = request.whole_header(settings.header)
        proxies = forwarded.proxies(settings.trusted, settings.header)
        if told is None or not proxies.trusts(host):
            return None
        client = proxies.client(host, told)
        return None if client == forwarded.UNIX or proxies.trusts(client) else client

    def _is_allowed(self, host: str) -> bool:
        address = ipaddress.ip_address(host.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        allowed = map(ipaddress.ip_network, self._backend.config.metrics.allow)
        return any(address in network for network in allowed)
