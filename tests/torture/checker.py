"""Reads the record of a run, and says what the contract does not allow.

The promises, for chat rooms: an id names one message; a client gets ids that grow, none twice; a
message whose sender got its copy reaches every member, or a `gap` after it says that some are
missing, before or among those that follow; a
refused message is never seen; a tag stands for one message, however often it was sent. For pairs:
one answer for each request, in their order; `received` only where the headset got the frame; an
error that is certain only where it did not; no frame twice.

A store that has gone back in time has forgotten tags, too: only then may one be kept again.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from tests.torture.records import Event, Record

NOT_KNOWN = "outcome_unknown"
"""The one error after which a message may have been kept, or a frame delivered, all the same."""


def violations(record: Record) -> list[str]:
    """All sentences of the contract that a run broke, with the client and the time."""
    found: list[str] = []
    rooms = sorted({_room(who) for who in record.clients("chat ")})
    for room in rooms:
        found.extend(_Room(record, room).violations())
    for phone in record.clients("phone "):
        found.extend(_Pair(record, phone.removeprefix("phone ")).violations())
    return found


def _room(who: str) -> str:
    return who.removeprefix("chat ").rpartition("/")[0]


def _lossy(record: Record) -> list[float]:
    """When a store lost something."""
    return [event.at for event in record.events if event.what == "lossy"]


class _Requests:
    """What was sent under each tag, and what was answered."""

    def __init__(self, events: list[Event]) -> None:
        self.sent: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        for event in events:
            if event.what == "sent":
                self.sent[event.data["tag"]] += 1
            elif event.what == "frame" and "tag" in event.data:
                self.refused[event.data["tag"]] += event.data.get("error") not in (None, NOT_KNOWN)

    def never(self) -> set[str]:
        """The tags that must have had no effect: every try was refused, and surely."""
        return {tag for tag, count in self.sent.items() if self.refused[tag] == count}


class _Room:
    """The record of one room.

    Attributes:
        messages: tag and text by id, as they were seen first.
        seen: when each id of a tag was seen first.
        acknowledged: the ids whose senders got their copies, and when.
    """

    def __init__(self, record: Record, room: str) -> None:
        self.members = [who for who in record.clients("chat ") if _room(who) == room]
        self.events = [event for event in record.events if event.who in set(self.members)]
        self.lossy = _lossy(record)
        self.messages: dict[int, tuple[str | None, str]] = {}
        self.seen: dict[str, dict[int, float]] = defaultdict(dict)
        self.acknowledged: dict[int, float] = {}
        self.owners = {each.data["tag"]: each.who for each in self.events if each.what == "sent"}
        self.requests = _Requests(self.events)
        self.room = room

    def violations(self) -> Iterator[str]:
        yield from self._identities()
        for who in self.members:
            yield from self._member(who)
        for tag in sorted(self.requests.never() & self.seen.keys()):
            yield f"{self.room}: {tag} was refused, and seen with the ids {sorted(self.seen[tag])}"
        for tag, ids in self.seen.items():
            first, *others = ids
            for other in others:
                if not any(ids[first] <= at <= ids[other] for at in self.lossy):
                    yield f"{self.room}: {tag} was kept as {first} and as {other}"

    def _identities(self) -> Iterator[str]:
        for event in self.events:
            if event.what != "frame" or "id" not in event.data:
                continue
            number, tag = event.data["id"], event.data.get("tag")
            message = tag, event.data["message"]
            if self.messages.setdefault(number, message) != message:
                yield (
                    f"{self.room} {event.at:.1f} s: {event.who} got {message} as {number}, "
                    f"which was {self.messages[number]}"
                )
            if tag is not None:
                self.seen[tag].setdefault(number, event.at)
                if self.owners.get(tag) == event.who:
                    self.acknowledged.setdefault(number, event.at)

    def _member(self, who: str) -> Iterator[str]:
        last: int | None = None
        gap = False
        told = -1.0  # of what was lost until then, before or among the messages that follow
        known: set[int] = set()
        for event in self.events:
            if event.who != who:
                continue
            if event.what == "joined" and event.data["since"] is None:
                last = None
            if event.what != "frame":
                continue
            if event.data.get("error") == "gap":
                gap, told = True, event.at
            if "id" not in event.data:
                continue
            number, tag = event.data["id"], event.data.get("tag")
            if last is not None and number <= last:
                again = tag and self.owners.get(tag) == who and self.requests.sent[tag] > 1
                if not again:
                    how = "twice" if number in known else "late"
                    yield f"{self.room} {event.at:.1f} s: {who} got {number} {how}, after {last}"
                continue
            if last is not None and not gap:
                yield from self._missing(who, last, number, event.at, told)
            known.add(number)
            last, gap = number, False
        if last is not None and not gap:
            end = self.events[-1].at
            yield from self._missing(who, last, max(self.messages) + 1, end, told)

    def _missing(self, who: str, after: int, before: int, at: float, told: float) -> Iterator[str]:
        missing = [
            number for number, when in self.acknowledged.items()
            if after < number < before and when > told
        ]  # fmt: skip
        if missing:
            yield (
                f"{self.room} {at:.1f} s: {who} never got {len(missing)} acknowledged messages, "
                f"{min(missing)} to {max(missing)}, between {after} and {before}, and no gap"
            )


class _Pair:
    """The record of one headset and its phone. Each request has a difficulty of its own."""

    def __init__(self, record: Record, pair: str) -> None:
        self.pair = pair
        self.phone = record.of(f"phone {pair}")
        self.headset = record.of(f"headset {pair}")
        self.lossy = _lossy(record)
        self.requests = _Requests(self.phone)
        self.frames: dict[int, list[float]] = defaultdict(list)
        for event in self.headset:
            if event.what == "frame" and "action_id" in event.data:
                self.frames[event.data["action_id"]].append(event.at)

    def violations(self) -> Iterator[str]:
        yield from self._answers()
        difficulties = {
            each.data["tag"]: each.data["difficulty"] for each in self.phone if each.what == "sent"
        }
        for tag in sorted(self.requests.never()):
            if self.frames[difficulties[tag]]:
                yield f"pair {self.pair}: {tag} was refused, and the headset got its frame"
        for event in self.phone:
            received = event.what == "frame" and event.data.get("status") == "received"
            if received and not self._handed(event.data.get("tag"), difficulties):
                yield (
                    f"pair {self.pair} {event.at:.1f} s: the receipt of {event.data.get('tag')}, "
                    "and the headset never got its frame"
                )
        for difficulty, times in self.frames.items():
            if len(times) > 1 and not any(times[0] <= at <= times[-1] for at in self.lossy):
                yield f"pair {self.pair}: the headset got {difficulty} {len(times)} times"

    def _handed(self, tag: str | None, difficulties: dict[str, int]) -> bool:
        """Whether the headset got the frame, or its connection ended with the frame on its way."""
        sent = [each.at for each in self.phone if each.what == "sent" and each.data["tag"] == tag]
        if tag is None or not sent:
            return False
        return bool(self.frames[difficulties[tag]]) or any(
            each.what == "ended" and each.at >= sent[0] for each in self.headset
        )

    def _answers(self) -> Iterator[str]:
        waiting: list[Any] = []
        for event in self.phone:
            if event.what == "joined":
                waiting = []
            elif event.what == "sent":
                waiting.append(event.data["tag"])
            elif event.what == "frame" and event.data.get("status") in ("received", "error"):
                if not waiting or event.data.get("tag") != waiting[0]:
                    yield (
                        f"pair {self.pair} {event.at:.1f} s: the answer {event.data}, while "
                        f"{waiting} waited"
                    )
                else:
                    waiting.pop(0)
