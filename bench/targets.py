"""What relayd is to reach beside its peers, and whether it does. Sits on `bench.figures`."""

from dataclasses import dataclass

from bench import figures
from bench.figures import KB, Results, Spread


@dataclass(frozen=True)
class Target:
    """Something that relayd is to reach.

    Attributes:
        load: name of the load.
        metric: what is looked at, a key of `METRICS`.
        peer: the server whose figure relayd's is divided by; several with "|" between them for the
            one that is best at this, "channels" for the best layer under uvicorn, "best" for the
            best of all peers; or "" for relayd's figure itself.
        least, most: the bounds; None for none.
        server: whose figure it is, if it is another set-up of relayd.
        over: whether the peer's figure is subtracted instead.
        once: whether one round is enough, since the bound is far away.
    """

    load: str
    metric: str
    peer: str
    least: float | None = None
    most: float | None = None
    server: str = "relayd"
    over: bool = False
    once: bool = False


TARGETS = [
    *(
        Target(load, metric, "best", most=1.0)
        for load in ("fanout", "rooms", "crowd")
        for metric in ("p50", "p99")
    ),
    Target("fanout", "per_cpu", "picows", least=1.0),
    Target("crowd", "per_cpu", "picows", least=1.0),
    Target("crowd", "lost", "", most=0.0),
    Target("rooms", "per_cpu", "gorilla", least=1.25),
    Target("rooms", "per_cpu", "picows", least=1.0),
    Target("rooms", "per_cpu", "channels", least=9.0, once=True),
    Target("pairs-1000", "per_cpu", "gorilla", least=1.0),
    Target("pairs-1000", "p99", "gorilla", most=1.0),
    Target("pairs-1000000", "per_second", "gorilla", least=100.0, once=True),
    Target("idle", "rss", "", most=10 * KB),
    Target("idle", "rss", "daphne-memory", most=1 / 3, once=True),
    Target("quiet", "p50", "gorilla", most=1.0),
    Target("quiet", "p50", "picows", most=1.0),
    *(
        target
        for load in ("rate-20", "rate-100")
        for target in (
            Target(load, "p50", "best", most=1.05),
            Target(load, "p99", "best", most=1.05),
            Target(load, "cpu_each", "picows", most=1.05),
        )
    ),
    Target("rate-300", "p50", "picows|nchan", most=1.1),
    Target("rate-300", "p99", "picows|nchan", most=1.1),
    Target("rate-300", "cpu_each", "picows", most=1.0),
    Target("rate-1000", "p50", "picows|nchan", most=1.0),
    Target("rate-1000", "p99", "picows|nchan", most=1.0),
    Target("rate-1000", "share", "", most=0.6),
    Target("rate-3000", "p99", "", most=0.005),
    Target("rate-3000", "share", "", most=0.7),
    Target("rate-12000", "lost", "", most=0.0),
    Target("rate-12000", "p99", "", most=0.012),
    Target("storm", "unopened", "", most=0.0),
    Target("storm", "last", "gorilla", most=2.0),
    Target("storm", "connect", "", most=0.00015),
    Target("storm", "p99", "", most=0.020),
    Target("neighbour", "p99", "", most=0.003),
    Target("across", "p50", "relayd", most=0.001, server="relayd-two", over=True),
]
_CONTENDERS = 2
"""Where a target names the best peer, so many that were best in the first round stay in."""


def rival(results: Results, target: Target) -> str | None:
    """The server that the target's peer stands for; None if it was not measured."""
    servers = results.get(target.load, {})
    if target.peer == "channels":
        return figures.best_channels(results, target.load)
    if target.peer == "best":
        names = [name for name in servers if figures.is_peer(name)]
    else:
        names = target.peer.split("|")
    able = [name for name in names if not figures.loses(servers.get(name, {}))]
    return figures.best(servers, able, target.metric) or figures.best(servers, names, target.metric)


def is_needed(results: Results, load: str, server: str) -> bool:
    """Whether a target of the load needs the server's figures in every round.

    Args:
        results: what was measured so far; for targets that name the best peer, those that were best
            in the first round are needed.
        load: name of the load.
        server: name of the server.
    """
    if server in ("relayd", "before"):
        return True
    family = "channels" if server.startswith("uvicorn-") else server
    for target in TARGETS:
        if target.load != load or target.once:
            continue
        if server == target.server or family in target.peer.split("|"):
            return True
        if target.peer == "best" and figures.is_peer(server):
            first = {
                name: {0: rounds[0]}
                for name, rounds in results.get(load, {}).items()
                if 0 in rounds
            }
            names = set(filter(figures.is_peer, first))
            for _ in range(_CONTENDERS):
                best = figures.best(first, names, target.metric)
                if best == server:
                    return True
                names.discard(best or "")
    return False


@dataclass(frozen=True)
class Verdict:
    """Whether a target is met.

    Attributes:
        target: which.
        found: the figure, or None if nothing was measured for it.
        peer: the server that it was compared with, if any.
    """

    target: Target
    found: Spread | None
    peer: str | None = None

    @property
    def met(self) -> bool:
        """Whether the median is within the bounds."""
        return self.found is not None and self._within(self.found.median)

    @property
    def clear(self) -> bool:
        """Whether every round says what the median says."""
        found = self.found
        return found is not None and all(
            self._within(value) == self.met for value in (found.low, found.high)
        )

    def _within(self, value: float) -> bool:
        target = self.target
        return (target.least is None or value >= target.least) and (
            target.most is None or value <= target.most
        )


def judge(results: Results) -> list[Verdict]:
    """Holds the results against all targets."""
    verdicts = []
    for target in TARGETS:
        servers = results.get(target.load, {})
        mine = servers.get(target.server, {})
        if not target.peer:
            verdicts.append(Verdict(target, figures.spread(mine, target.metric)))
            continue
        peer = rival(results, target)
        compare = figures.difference if target.over else figures.ratio
        found = compare(mine, servers.get(peer or "", {}), target.metric)
        verdicts.append(Verdict(target, found, peer))
    return verdicts
