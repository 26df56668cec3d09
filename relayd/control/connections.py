"""The connections of this process as the operator sees them. Pure.

Sits under `process`, on the registry of connections.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from relayd.connection.registry import Connections
from relayd.connection.websocket import RelayProtocol
from relayd.control.messages import Client, Listing, Pair, Room, Selection, in_order


def each(connections: Connections) -> Iterator[RelayProtocol]:
    """The connections with their full type."""
    all_: Any = connections
    yield from all_


def find(connections: Connections, id: str) -> RelayProtocol | None:
    """The open connection with an id such as `c17`."""
    for connection in each(connections):
        if f"c{connection.number}" == id:
            return connection
    return None


def messages(connection: RelayProtocol) -> int:
    """The number of messages that were received from a connection."""
    return 0 if connection.inlet is None else connection.inlet.received_count


def describe(connection: RelayProtocol) -> Client:
    """Describes one connection."""
    outbox = connection.outbox
    return Client(
        id=f"c{connection.number}",
        kind=connection.kind,
        path=connection.path,
        peer=str(connection.peer),
        user=connection.identity.user,
        since=connection.since,
        messages=messages(connection),
        waiting=connection.waiting,
        replaced=0 if outbox is None else outbox.replaced,
        closing=not connection.can_send,
    )


def select(connections: Connections, selection: Selection) -> Listing[Client]:
    """The connections that match the selection."""
    chosen = [client for client in map(describe, each(connections)) if _fits(client, selection)]
    return Listing(found=in_order(chosen, selection), total=len(chosen))


def _fits(client: Client, selection: Selection) -> bool:
    path, peer = selection.path, selection.peer
    return (
        selection.kind in (None, client.kind)
        and selection.user in (None, client.user)
        and (path is None or _matches(client.path.rstrip("/"), path))
        and (peer is None or _is_from(client.peer, peer))
        and not (selection.slow and not client.waiting and not client.replaced)
        and (selection.text is None or _contains(client, selection.text.casefold()))
    )


def _contains(client: Client, wanted: str) -> bool:
    texts = (client.id, client.path, client.peer, client.user or "")
    return any(wanted in text.casefold() for text in texts)


def _matches(path: str, wanted: str) -> bool:
    if wanted.endswith("*"):
        return path.startswith(wanted[:-1])
    return path == wanted.rstrip("/")


def _is_from(peer: str, wanted: str) -> bool:
    """Whether an address is the wanted one, with or without its port."""
    host = peer.rpartition(":")[0]
    return wanted in (peer, host, host.strip("[]"))


def rooms(connections: Connections) -> Listing[Room]:
    """The groups and chat rooms that have clients."""
    members = Counter[str](
        group
        for connection in each(connections)
        if connection.can_send and (group := getattr(connection, "group", ""))
    )
    found = [Room(group=name, members=count) for name, count in sorted(members.items())]
    return Listing(found=found, total=len(found))


def pairs(connections: Iterable[Any]) -> Listing[Pair]:
    """The UUIDs under which a headset or a phone is connected."""
    found: dict[str, Pair] = {}
    for connection in connections:
        side = getattr(connection, "side", None)
        if side is None or not connection.can_send:
            continue
        uuid = connection.uuid
        pair = found.setdefault(uuid, Pair(uuid=uuid, headset=False, phone=False))
        pair.headset |= side.is_headset
        pair.phone |= not side.is_headset
    return Listing(found=[found[uuid] for uuid in sorted(found)], total=len(found))
