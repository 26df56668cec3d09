"""The driver of clients/python: asyncio, or Twisted with `library=twisted`. See `driver.py`."""

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "clients" / "python"))

import relayd_client as kit

KINDS: dict[str, Any] = {
    "camera": kit.Camera,
    "chat": kit.Chat,
    "phone": kit.Phone,
    "headset": kit.Headset,
    "push": kit.Push,
}


def tell(event: str, **members: object) -> None:
    """Writes an event."""
    print(json.dumps({"event": event, **members}), flush=True)


def tell_problem(error: kit.RelaydError) -> None:
    """Writes an error that is about what was sent."""
    tell("problem", error=error.code, message=error.message)


def notice(event: kit.Event) -> None:
    """Writes what the kit says."""
    match event:
        case kit.State(name, error, again_in):
            told = {"error": "", "status": 0, "close_code": 0, "message": ""}
            if error is not None:
                told |= {"error": error.code, "message": error.message}
                told |= {"status": error.status, "close_code": error.close_code}
            tell("state", name=name, again_in=again_in, **told)
        case kit.Problem(error):
            tell_problem(error)
        case kit.Message(text, number, _, _, tag, mine):
            tell("message", message=text, id=str(number), tag=tag, mine=mine)
        case kit.Assignment(quiz_ids, action_id):
            tell("assignment", quiz_id=quiz_ids, action_id=action_id)
        case kit.HeadsetPresence(here):
            tell("headset", here=here)
        case kit.Published(data):
            tell("push", data=data)
        case _:
            tell(type(event).__name__.lower(), **asdict(event))


class Client:
    """The client, and its commands."""

    def __init__(self, network: Any, run: Callable[[Any], Any]) -> None:
        self.run = run
        kind, url, name, *rest = sys.argv[1:]
        options = dict(option.split("=", 1) for option in rest)
        self.token = options.get("token")
        further = {"since": int(options["since"])} if "since" in options else {}
        self.kit = KINDS[kind](
            url,
            name,
            token=lambda renew: self.token,
            on_event=notice,
            network=network,
            pace=1 / 20 if options.get("fast") == "1" else 1,
            **further,
        )
        self.kit.connect()

    def obey(self, line: str) -> None:
        """Does what a command says."""
        command = json.loads(line)
        for _ in range(command.get("times", 1) if "send" in command else 0):
            self.send(command["send"])
        self.token = command.get("token", self.token)
        if "close" in command:
            self.kit.close()

    def send(self, what: dict[str, Any]) -> None:
        """Sends a pose, a message or a request."""
        if isinstance(self.kit, kit.Camera):
            self.kit.move(**what)
        elif isinstance(self.kit, kit.Chat):
            self.kit.say(what["message"])
        elif isinstance(self.kit, kit.Phone):
            self.run(self.ask(what["difficulty"]))

    async def ask(self, difficulty: int) -> None:
        """Asks for quizzes, and writes the answer."""
        try:
            await self.kit.ask(difficulty)
        except kit.RelaydError as error:
            tell_problem(error)
        else:
            tell("received")


def read_commands(obey: Callable[[str], Any], end: Callable[[], Any]) -> None:
    """Reads all commands, in a thread."""

    def read() -> None:
        for line in sys.stdin:
            obey(line)
        end()

    threading.Thread(target=read, daemon=True).start()


async def run_asyncio() -> None:
    """Runs the client in asyncio until the commands end."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    tasks = set()
    client = Client(None, lambda coroutine: tasks.add(asyncio.ensure_future(coroutine)))
    read_commands(
        lambda line: loop.call_soon_threadsafe(client.obey, line),
        lambda: loop.call_soon_threadsafe(ended.set),
    )
    await ended.wait()


def run_twisted() -> None:
    """Runs the client in Twisted until the commands end."""
    from relayd_twisted import TwistedNetwork
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred

    reactor: Any = installed
    client = Client(TwistedNetwork(reactor), Deferred.fromCoroutine)
    read_commands(
        lambda line: reactor.callFromThread(client.obey, line),
        lambda: reactor.callFromThread(reactor.stop),
    )
    reactor.run()


if __name__ == "__main__":
    if "library=twisted" in sys.argv:
        run_twisted()
    else:
        asyncio.run(run_asyncio())
