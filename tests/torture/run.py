"""A randomized run: clients write and read while servers fail, and a checker reads the record.

    python -m tests.torture.run [--seconds 900] [--seed SEED] [--keep FILE]

The seed draws the clients' and the faults' decisions; the processes' own timing is what it is. Ends
with status 1 if the record breaks a promise (`tests.torture.checker`). `make torture` runs it.
"""

import argparse
import asyncio
import json
import random
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.torture.checker import violations
from tests.torture.clients import ChatMember, Client, Headset, Phone
from tests.torture.records import Record
from tests.torture.world import DIFFICULTIES, Faults, World

ROOMS, MEMBERS, PAIRS = 3, 4, 3
SETTLING = 60.0
"""Seconds that everything has at the end, when nothing fails any more, to become whole."""
SHOWN = 30
"""Violations that are printed."""


@dataclass
class Result:
    """What came of a run.

    Attributes:
        record: of all clients.
        violations: what it breaks.
        faults: how often each came.
    """

    record: Record
    violations: list[str]
    faults: dict[str, int]

    def summary(self) -> str:
        """A line about how much was tried."""
        frames = [event for event in self.record.events if event.what == "frame"]
        copies = sum("id" in event.data for event in frames)
        receipts = sum(event.data.get("status") == "received" for event in frames)
        gaps = sum(event.data.get("error") == "gap" for event in frames)
        unknown = sum(event.data.get("error") == "outcome_unknown" for event in frames)
        refused = sum("tag" in event.data and "error" in event.data for event in frames) - unknown
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        return (
            f"{copies} copies, {receipts} receipts, {refused} refusals, {unknown} not known, "
            f"{gaps} gaps; {faults or 'no fault'}"
        )


def torture(seconds: float, seed: int) -> Result:
    """Runs it: starts everything, lets it fail for so many seconds, waits until all is whole."""
    world = World()
    try:
        return asyncio.run(_run(world, seconds, random.Random(seed)))
    finally:
        world.close()


async def _run(world: World, seconds: float, chance: random.Random) -> Result:
    record = Record()
    ports = [daemon.port for daemon in world.daemons]

    def draw() -> random.Random:
        return random.Random(chance.random())

    members = [
        ChatMember(f"r{room}", number, ports, record, draw())
        for room in range(ROOMS)
        for number in range(MEMBERS)
    ]
    uuids = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(PAIRS)]
    headsets = [Headset(pair, uuids[pair], ports, record, draw()) for pair in range(PAIRS)]
    phones = [
        Phone(pair, uuids[pair], ports, record, draw(), DIFFICULTIES) for pair in range(PAIRS)
    ]
    clients: list[Client] = [*members, *headsets, *phones]
    running = [asyncio.ensure_future(client.run()) for client in clients]
    faults = Faults(world, record, clients, draw())
    await faults.run(seconds)
    record.add("world", "whole")

    for daemon in world.daemons:
        await asyncio.to_thread(daemon.wait_until_ready, SETTLING)
    found = []
    for speaker in (*members, *phones):
        speaker.quiet = True
    if not await _until(lambda: not any(member.pending for member in members)):
        found.append(f"never answered: {[each.pending for each in members if each.pending]}")
    if not await _until(lambda: not any(phone.waits for phone in phones)):
        found.append(f"never answered: {[each.who for each in phones if each.waits]}")
    for room in range(ROOMS):  # who has the last message has got all before it
        group = members[room * MEMBERS : (room + 1) * MEMBERS]
        last = f"the last message of r{room}"
        group[0].pending[f"last {room}"] = last
        group[0].reset()
        if not await _until(lambda: all(last in member.texts for member in group)):  # noqa: B023
            late = [member.who for member in group if last not in member.texts]
            found.append(f"never got the last message: {late}")
    for client in clients:
        client.leaving = True
        client.reset()
    await asyncio.wait_for(asyncio.gather(*running), SETTLING)
    found.extend(violations(record))
    return Result(record, found, faults.counts)


async def _until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + SETTLING
    while not condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.05)
    return True


def main(words: Sequence[str] | None = None) -> int:
    """Runs it once; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.run")
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--keep", type=Path, help="writes the record there, a line an event")
    options = parser.parse_args(words)
    print(f"torture: {options.seconds:.0f} s with seed {options.seed}", flush=True)
    result = torture(options.seconds, options.seed)
    if options.keep is not None:
        lines = (json.dumps(event) for event in result.record.events)
        options.keep.write_text("\n".join(lines) + "\n")
    print(f"torture: {result.summary()}")
    for line in result.violations[:SHOWN]:
        print(f"torture: BROKEN: {line}")
    print(f"torture: {len(result.violations)} violations, seed {options.seed}")
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
