"""Which state of the table holds for one store: begins with a refusal, ends by a probe.

Sits on `states`; `redis` and `storage` have one for each store and report to it what the store
refuses. While a state lasts, and only then, the store is probed once a second with what relayd
needs of it, so that the state ends by itself when its cause does, also while no client writes.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from relayd.stores.states import State, Store, remedy

INTERVAL = 1.0
"""Seconds between two probes."""
_REMIND = 60.0
"""Seconds after which a state that lasts is logged again."""
_RELAPSE, _LONGEST_QUIET = 60.0, 60.0
"""A state that begins again within these seconds ends only when nothing was refused for twice as
long as the last time, up to this many seconds: a store at its limit does not fill the log."""
_FIRST_QUIET = 2.0
_OUTAGES = (State.AWAY, State.LOADING)


class Trouble(NamedTuple):
    """A state other than OK, for outputs.

    Attributes:
        state: the state.
        sentence: one sentence without the store's words, for everybody.
        details: the store, its words and the remedy, for the operator.
    """

    state: State
    sentence: str
    details: str


class Health:
    """The state of one store.

    Args:
        store: its kind.
        label: its name in the log, without a secret.
        clock: provides IReactorTime.
        log: of the part that reaches the store.
        probe: does what relayd needs of the store, and reports what is refused to `refused`;
            returns whether nothing was.
        advice: the remedy of every state, in place of those of the table.

    Attributes:
        state: the state that holds.
        words: the store's own words for it.
    """

    def __init__(
        self,
        store: Store,
        label: str,
        clock: Any,
        log: Logger,
        *,
        probe: Callable[[], Awaitable[bool]],
        advice: str = "",
    ) -> None:
        self.log = log
        self.state = State.OK
        self.words = ""
        self._store = store
        self._advice = advice
        self._probe = probe
        self._label = label
        self._clock = clock
        self._began = 0.0
        self._told = 0.0
        self._said: set[State] = set()
        self._refused = 0.0
        self._ended: tuple[State, float] | None = None
        self._quiet = 0.0
        self._watchers: list[Callable[[], None]] = []
        self._next: IDelayedCall | None = None
        self._probing = False
        self._stopped = False

    def trouble(self, what: str) -> Trouble | None:
        """The state for outputs, if it is not OK.

        Args:
            what: the store in the sentence: "database" or "Redis".
        """
        if self.state is State.OK:
            return None
        name = "Redis" if what == "Redis" else f"The {what}"
        return Trouble(self.state, f"{name} {self.state.words}.", self.details)

    @property
    def details(self) -> str:
        """The store, the state, the store's own words and the remedy."""
        text = f"{self._label} {self.state.words}: {self.words}"
        return f"{text}; {self._remedy}" if self._remedy else text

    @property
    def _remedy(self) -> str:
        return self._advice or remedy(self._store, self.state)

    def watch(self, callback: Callable[[], None]) -> None:
        """Registers a callback for each change of the state."""
        self._watchers.append(callback)

    def refused(self, state: State, words: str) -> None:
        """The store has refused something, or does not answer.

        Args:
            state: the state that its error shows.
            words: the error in its own words.
        """
        told = self.state not in (State.OK, *_OUTAGES)
        if self._stopped or (state is State.UNPREPARED and told):
            return  # the state that is told may be why the tables are missing
        now = self._refused = self._clock.seconds()
        if self.state is State.OK:
            self._began = now
            self._said.clear()
            ended, relapsed = self._ended, False
            if ended is not None:
                relapsed = ended[0] is state and now - ended[1] < _RELAPSE
            doubled = max(_FIRST_QUIET, 2 * self._quiet)
            self._quiet = min(doubled, _LONGEST_QUIET) if relapsed else 0.0
        lasting = state in self._said
        self.words = words.removeprefix(f"{self._label}: ")
        changed, self.state = state is not self.state, state
        if not lasting:
            self._said.add(state)
            self._told = now
            self.log.warn(
                "{store} {state}: {reason}; {remedy}",
                store=self._label, state=state.words, reason=self.words,
                remedy=self._remedy or "relayd goes on by itself",
            )  # fmt: skip
        elif now - self._told >= _REMIND:
            self._told = now
            self.log.warn(
                "{store} {state} for {seconds:.0f} s now: {reason}",
                store=self._label, state=state.words, reason=self.words, seconds=now - self._began,
            )  # fmt: skip
        self._plan()
        if changed:
            self._notify()

    def works(self) -> None:
        """The store does again what relayd needs."""
        if self.state is State.OK:
            return
        now = self._clock.seconds()
        self.log.info(
            "{store} is back after {seconds:.1f} s", store=self._label, seconds=now - self._began
        )
        if self.state not in _OUTAGES:
            self._ended = (self.state, now)
        self.state, self.words = State.OK, ""
        self._notify()

    def ask_soon(self) -> None:
        """Probes the store now, rather than in a second; it has just come back, say."""
        self._begin()

    def stop(self) -> None:
        """Ends the probes; nothing is noted from now on."""
        self._stopped = True
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _notify(self) -> None:
        for callback in tuple(self._watchers):
            callback()

    def _plan(self) -> None:
        if self._next is None and not self._probing and not self._stopped:
            self._next = self._clock.callLater(INTERVAL, self._begin)

    def _begin(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None
        if not self._probing and not self._stopped:
            self._probing = True
            Deferred.fromCoroutine(self._ask())

    async def _ask(self) -> None:
        began, works = self._clock.seconds(), False
        try:
            works = await self._probe()
        except Exception:
            self.log.failure("probing {store} failed", store=self._label)
        finally:
            self._probing = False
        quiet = began - self._refused >= self._quiet or self.state in _OUTAGES
        if works and quiet and not self._stopped:
            self.works()
        if self.state is not State.OK:
            self._plan()


def first_trouble(what: str, *healths: Health) -> Trouble | None:
    """The first trouble of several stores of one use, such as the shards of Redis."""
    return next((found for each in healths if (found := each.trouble(what)) is not None), None)
