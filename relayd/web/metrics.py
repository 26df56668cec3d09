"""`/metrics`: the figures of all processes, for Prometheus alone.

The public port may be on the internet, so `[metrics] allow` names the networks that may read them.
Only a verified client address counts: behind a proxy, the address that a trusted proxy reports,
unless this is a loopback address.
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
    """Checks the client's address, and answers."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def serve(self, request: Request) -> Answer:
        """The figures as text.

        Raises:
            Refusal: 404 if they are turned off, 403 for other clients, 503 if the parent of the
                workers does not answer.
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
        """The client that a trusted proxy reports; None without one."""
        settings = self._backend.config.proxy
        header = request.whole_header(settings.header)
        proxies = forwarded.proxies(settings.trusted, settings.header)
        if header is None or not proxies.trusts(host):
            return None
        client = proxies.client(host, header)
        return None if client == forwarded.UNIX or proxies.trusts(client) else client

    def _is_allowed(self, host: str) -> bool:
        address = ipaddress.ip_address(host.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        allowed = map(ipaddress.ip_network, self._backend.config.metrics.allow)
        return any(address in network for network in allowed)
