"""The figures of TCP connections, limits per address, denials and errors (`docs/metrics.md`).

Beside `collector`, which yields them.
"""

from collections.abc import Iterable, Iterator

from prometheus_client.core import Metric

from relayd.connection.context import Context
from relayd.metrics.families import counter, gauge
from relayd.tally import FAULTS

DENIED = ("address", "token", "user")


def collect(context: Context) -> Iterator[Metric]:
    """The families of one process."""
    seats, connections = context.seats, context.connections
    half_open, refused = seats.half_open, connections.refused
    websockets = len(connections) + connections.arriving
    rest = seats.taken - seats.leaving - half_open - refused - websockets
    yield gauge(
        "tcp_connections",
        "TCP connections by state. half_open: its request head is not whole; http: between or in "
        "HTTP requests; websocket: open, or waiting for its admission; refused: refused with a "
        "close, which it has not answered yet",
        {"half_open": half_open, "http": max(0, rest), "websocket": websockets, "refused": refused},
        "state",
    )
    yield gauge(
        "tcp_connections_max",
        "The largest number of TCP connections that the limit of open files and [limits] "
        "max_connections allow. all: of any state; websocket: of WebSockets",
        {"all": seats.total, "websocket": seats.websockets},
        "state",
    )
    yield counter(
        "tcp_connections_dropped",
        "TCP connections that were dropped. yielded: so that a newer one gets in; full: none could "
        "yield; half_open: their address had too many without a request head; files: relayd had no "
        "open file left for them",
        {**seats.dropped, "yielded": seats.yielded},
        "reason",
    )
    yield counter(
        "address_refusals",
        "Handshakes and HTTP requests that were refused because of their address, by the limit: "
        "connections, handshakes, failures, requests, names (groups_per_address)",
        {**seats.addresses.refused, "names": context.names.refused_addresses},
        "limit",
    )
    denied = context.admission.denials.counts()
    yield gauge(
        "denials",
        "Addresses and networks, tokens and users that may not connect now (relayctl bans, token "
        "revoked)",
        {kind: denied[kind] for kind in DENIED},
        "kind",
    )


def errors(context: Context, kinds: Iterable[str]) -> Metric:
    """The error frames that clients got.

    Args:
        context: has their counts.
        kinds: of path; those that relayd serves.
    """
    metric = counter(
        "errors",
        "Error frames that clients got, by the kind of their path and the code. A message that is "
        "refused is one; a handshake that is refused is in relayd_handshakes_refused_total",
        {},
    )
    known = dict.fromkeys(((kind, code) for kind in kinds for code in FAULTS), 0)
    for (kind, code), count in (known | context.tally.errors).items():
        metric.add_sample(f"{metric.name}_total", {"kind": kind, "error": code.value}, count)
    return metric
