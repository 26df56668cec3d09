"""One example for each kind of client: `python examples.py robot ws://127.0.0.1:8080 demo`."""

import asyncio
import math
import sys

from relayd_client import (
    Assignment,
    Camera,
    Chat,
    Gap,
    Headset,
    Message,
    Phone,
    Pose,
    Problem,
    Published,
    Push,
    RelaydError,
    State,
)


async def robot(relay: str, group: str) -> None:
    """A robot that drives round in a circle and says where it is, ten times a second."""
    async with Camera(relay, group, on_event=print) as camera:
        for step in range(600):
            angle = step / 30
            camera.move(math.cos(angle), 0, math.sin(angle))
            await asyncio.sleep(0.1)


async def viewer(relay: str, group: str) -> None:
    """Prints the poses of a group, and what happens to the connection."""
    async with Camera(relay, group) as camera:
        async for event in camera:
            match event:
                case Pose(x=x, y=y, z=z):
                    print(x, y, z)
                case State(name="lost", again_in=seconds):
                    print(f"lost; again in {seconds:.1f} s")
                case State(name="refused", error=RelaydError() as error):
                    print(f"refused: {error.code}: {error.message}")


async def bot(relay: str, room: str) -> None:
    """A bot in a chat room that answers questions; what it says arrives once."""
    async with Chat(relay, room) as chat:
        async for event in chat:
            match event:
                case Message(text=text, mine=False) if text.endswith("?"):
                    chat.say("I do not know.")
                case Gap():
                    print("Something that was said is missing here.")
                case Problem(error):
                    print(error.message)


async def headset(relay: str, uuid: str) -> None:
    """A headset that prints what it is to show."""
    async with Headset(relay, uuid) as client:
        async for event in client:
            if isinstance(event, Assignment):
                print("quizzes", event.quiz_ids, "and action", event.action_id)


async def phone(relay: str, uuid: str) -> None:
    """A phone that waits for its headset and sends it quizzes of difficulty 1."""
    async with Phone(relay, uuid, on_event=print) as client:
        try:
            await client.ask(1)
        except RelaydError as error:
            print("not sent:", error.message)
        else:
            print("the headset has them")


async def progress(relay: str, topic: str) -> None:
    """Prints what is published to a topic."""
    async with Push(relay, topic) as client:
        async for event in client:
            if isinstance(event, Published):
                print(event.data)


EXAMPLES = {each.__name__: each for each in (robot, viewer, bot, headset, phone, progress)}

if __name__ == "__main__":
    asyncio.run(EXAMPLES[sys.argv[1]](*sys.argv[2:]))
