"""The output of `relayctl bench`: a table of one run; lines of a search, its conclusion. Pure."""

import math
from typing import Any

from relayd.close_codes import CloseCode
from relayd.ctl.bench.fit import Bound, Search, Step
from relayd.ctl.bench.results import BUSY, Figures, Profile

NO_CODE = 1006  # RFC 6455 section 7.1.5: a connection ended without a close frame


def duration(seconds: float) -> str:
    """A time with a suitable unit; infinity is that of a lost pose."""
    if math.isinf(seconds):
        return "lost"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.{2 if seconds < 0.01 else 0}f} ms"
    return f"{seconds:.1f} s"


def in_words(code: int) -> str:
    """A close code with its name."""
    if code == NO_CODE:
        return "without a close frame"
    try:
        return f"{code}, {CloseCode(code).name.lower().replace('_', ' ')}"
    except ValueError:
        return str(code)


def load(profile: Profile) -> str:
    """The profile in words."""
    each = " in each of {profile.groups:,} groups" if profile.groups > 1 else ""
    return (
        f"{_count(profile.cameras, 'camera')} at {_rate(profile)} and "
        f"{_count(profile.viewers, 'viewer')}{each.format(profile=profile)}"
    )


def table(figures: Figures, server: str) -> str:
    """The figures of one run.

    Args:
        figures: the run.
        server: the facts about the server's processes.
    """
    rows = [
        ("connected", f"{figures.connected:,}"),
        ("sent", f"{figures.sent:,} poses, {_a_second(figures.sent_in_window, figures)}"),
        ("deliveries", f"{figures.delivered:,}, {figures.per_second:,.0f} a second"),
        ("p50", duration(figures.p50)),
        ("p99", duration(figures.p99)),
        ("worst", duration(figures.worst)),
        ("lost", _lost(figures)),
        ("closed", _closed(figures)),
        ("server CPU", _server(figures, server)),
        ("generator", f"{_share(figures.generator)} of a core"),
    ]
    return "\n".join(f"{name:12}{value}" for name, value in rows)


def verdict(figures: Figures) -> str:
    """Whether the load of one run fits."""
    if figures.fits:
        return f"This load fits: p99 within {duration(figures.profile.limit)}, nothing lost."
    limit = f" The limit is {duration(figures.profile.limit)} (--p99)." if _late(figures) else ""
    return f"This load does not fit: {trouble(figures)}.{limit}"


def trouble(figures: Figures) -> str:
    """Why a load does not fit."""
    reasons = []
    if figures.closed:
        words = ", ".join(in_words(code) for code in sorted(figures.closed))
        closed = sum(figures.closed.values())
        reasons.append(f"{_count(closed, 'connection')} closed ({words})")
    if figures.lost:
        reasons.append(f"{figures.lost:,} lost")
    if _late(figures):
        reasons.append(f"p99 {duration(figures.p99)}")
    return ", ".join(reasons)


def warnings(figures: Figures) -> list[str]:
    """Warnings about circumstances that spoil the figures."""
    found = []
    if figures.generator > BUSY:
        found.append(
            f"the load generator itself was the limit ({_share(figures.generator)} of its core): "
            "these figures say nothing about the server. Take a smaller load, or several machines"
        )
    elif figures.generator_limited:
        found.append(
            f"the load generator had no CPU for {_share(figures.waited)} of the time: these "
            "figures say little about the server. Run it on another machine"
        )
    if figures.extra:
        found.append(
            f"{figures.extra:,} poses more came than were sent: somebody else sends in these "
            "groups, which can hide losses"
        )
    return found


HEADER = (
    f"{'viewers':>8}{'deliveries/s':>14}{'p99':>10}{'lost':>9}{'server CPU':>12}{'generator':>11}"
)


def line(step: Step) -> str:
    """One step of a search, under `HEADER`."""
    figures = step.figures
    if figures is None:
        return f"{step.viewers:8,}  not all could connect"
    share = "?" if figures.server_share is None else _share(figures.server_share)
    word = "fits" if step.fits else "closed" if figures.closed else "lost" if figures.lost else ""
    return (
        f"{step.viewers:8,}{figures.per_second:14,.0f}{duration(figures.p99):>10}"
        f"{figures.lost:9,}{share:>12}{_share(figures.generator):>11}  {word or 'too slow'}"
    )


def conclusion(search: Search, profile: Profile) -> str:
    """The conclusion of a search in two or three sentences, of an interrupted one as well."""
    best, worst = search.best, search.worst
    cameras = f"{_count(profile.cameras, 'camera')} at {_rate(profile)}"
    groups = f" in each of {profile.groups:,} groups" if profile.groups > 1 else ""
    refuted = f"{worst.viewers:,} did not: {_why(worst)}" if worst else ""
    if best is None or best.figures is None:
        text = f"Not one viewer fits with {cameras}{groups}"
        if not search.done:
            text = "It is not known yet how many fit"
            refuted = refuted.replace("did not:", "do not:")
        elif worst is not None:
            refuted = _why(worst)
        elif search.bound is Bound.SERVER:
            return f"Not one viewer could connect: {search.note}."
        sentences = [f"{text} ({refuted})." if refuted else f"{text}."]
    else:
        found = [f"p99 {duration(best.figures.p99)}"] + ([refuted] if refuted else [])
        capped = worst is None or worst.generator_limited or not search.done
        one = "viewer fits" if best.viewers == 1 else "viewers fit"
        sentences = [
            f"{'At least ' if capped else ''}{best.viewers:,} {one} with {cameras}{groups} "
            f"({'; '.join(found)})."
        ]
        if (share := best.figures.server_share) is not None:
            sentences.append(f"The server used {_share(share)} of a core.")
    if search.done and best is not None and best.viewers >= search.cap:
        sentences.append(_BOUNDS[search.bound].format(search=search))
    if worst is not None and worst.generator_limited:
        sentences.append(
            f"With {worst.viewers:,} the load generator was the limit, not the server, which may "
            "carry more."
        )
    return " ".join(sentences)


_BOUNDS = {
    Bound.CAP: "The search ended at its cap of {search.cap:,} (--cap).",
    Bound.FILES: "The search ended there: this process may not open more files (ulimit -n).",
    Bound.SERVER: "The search ended there: {search.note}.",
}


def search_to_dict(search: Search) -> dict[str, Any]:
    """As --json shows it."""
    best, worst = search.best, search.worst
    ended = "interrupted" if not search.done else None
    if search.done and (best.viewers if best else 0) >= search.cap:
        ended = search.bound.value
    elif search.done and worst is not None:
        ended = "generator" if worst.generator_limited else "server"
    return {
        "fits": best.viewers if best else 0,
        "does_not_fit": worst.viewers if worst else None,
        "ended_by": ended,
        "steps": [step.to_dict() for step in search.steps],
    }


def _late(figures: Figures) -> bool:
    """Whether poses arrived too late; lost ones are reported elsewhere."""
    return figures.profile.limit < figures.p99 < math.inf


def _why(step: Step) -> str:
    return trouble(step.figures) if step.figures else step.trouble


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _rate(profile: Profile) -> str:
    return f"{profile.rate:g} pose{'' if profile.rate == 1 else 's'} a second"


def _a_second(count: int, figures: Figures) -> str:
    return f"{count / figures.seconds if figures.seconds else 0:,.0f} a second"


def _share(share: float) -> str:
    return f"{share * 100:.{0 if share >= 0.0995 else 1}f} %"


def _lost(figures: Figures) -> str:
    expected = figures.sent * figures.profile.size
    return f"{figures.lost:,}" + (f" ({_share(figures.lost / expected)})" if figures.lost else "")


def _closed(figures: Figures) -> str:
    if not figures.closed:
        return "0"
    return "; ".join(
        f"{count:,} ({in_words(code)})" for code, count in sorted(figures.closed.items())
    )


def _server(figures: Figures, server: str) -> str:
    share, per_cpu = figures.server_share, figures.per_cpu_second
    if share is None:
        return server
    per = f"\n{'':12}{per_cpu:,.0f} deliveries a CPU second" if per_cpu else ""
    return f"{_share(share)} of a core ({server}){per}"
