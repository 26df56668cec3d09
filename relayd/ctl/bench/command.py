"""`relayctl bench`: puts the camera load on one running relayd and prints how many clients fit.

Under `entry`: from the options to a run or a search, and its output. The modules that need the
client library, an extra, are imported only when the command runs.
"""

import asyncio
import contextlib
import json
import resource
import secrets
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import click

from relayd import names
from relayd.config import Config
from relayd.ctl.bench import procfs as process
from relayd.ctl.bench import report as report
from relayd.ctl.bench.fit import Bound, Search
from relayd.ctl.bench.options import Options
from relayd.ctl.bench.results import Figures, Profile
from relayd.ctl.bench.target import BenchFailed, Target, listening_url, parse_target
from relayd.ctl.common import progress
from relayd.errors import ConfigError, Refusal

DONE, FAILED, INTERRUPTED = 0, 1, 130
_TICK = 0.5  # seconds between two updates of the progress bar
_SPARE_FILES = 32  # open files of this process beside its connections
T = TypeVar("T")
Measure = Callable[[Target, Profile, Sequence[int]], Coroutine[Any, Any, Figures]]


def run(options: Options, config: Callable[[], Config]) -> int:
    """Runs the load that the options describe, and prints the results.

    Args:
        options: the command line.
        config: reads the configuration; called only without a URL.

    Returns:
        The exit code.

    Raises:
        ConfigError: the options, or the configuration, are wrong, or the extra is not installed.
        BenchFailed: the server cannot be reached, refuses, or ends.
    """
    measure = _load_generator()
    url = options.url or listening_url(config().server.listen[0])
    target = parse_target(url, token=options.token, ca=options.ca, insecure=options.insecure)
    profile = _profile(options)
    files = _open_files()
    room = files // profile.groups - profile.cameras
    if room < (1 if options.fit else profile.viewers):
        raise ConfigError(
            f"{profile.connections:,} connections need as many open files, and this process may "
            f"have {files:,} (ulimit -n)"
        )
    pids, server = _server(target, options.pid)
    if options.fit:
        cap, bound = min((options.cap, Bound.CAP), (room, Bound.FILES), key=lambda each: each[0])
        return _search(options, target, profile, pids, Search(cap, bound), measure)
    return _once(options, target, profile, pids, server, measure)


def _load_generator() -> Measure:
    """Imports `load.measure`. Raises ConfigError: the extra is not installed."""
    try:
        from relayd.ctl.bench.load import measure
    except ModuleNotFoundError as error:
        if error.name != "picows":
            raise
        raise ConfigError(
            "relayctl bench needs a further library: pip install 'relayd[bench]'"
        ) from error
    return measure


def _profile(options: Options) -> Profile:
    prefix = options.group or f"bench-{secrets.token_hex(4)}"
    try:
        prefix = names.parse_group(f"{prefix}-{options.groups}").rpartition("-")[0]
    except Refusal as refusal:
        raise ConfigError(f"--group {prefix}: {refusal.message}") from refusal
    seconds, warmup, grace = (2.0, 0.5, 2.0) if options.fit else (5.0, 1.0, 5.0)
    return Profile(
        cameras=options.cameras,
        viewers=options.viewers,
        rate=options.rate,
        groups=options.groups,
        group=prefix,
        seconds=options.seconds or seconds,
        warmup=options.warmup or warmup,
        grace=grace,
        limit=options.p99 / 1000,
    )


def _once(
    options: Options,
    target: Target,
    profile: Profile,
    pids: list[int],
    server: str,
    measure: Measure,
) -> int:
    """One run: prints its figures."""
    if not options.json:
        click.echo(f"{target.shown}: {report.load(profile)}\n")
    try:
        figures = _run(_with_bar(measure(target, profile, pids), profile.warmup + profile.seconds))
    except KeyboardInterrupt:
        click.echo("Interrupted; every connection is closed.", err=True)
        return INTERRUPTED
    if options.json:
        click.echo(json.dumps(_about(target, profile, pids) | figures.to_dict()))
    else:
        click.echo(f"{report.table(figures, server)}\n")
        _print(report.verdict(figures))
    for warning in report.warnings(figures):
        _print(f"Warning: {warning}.", err=True)
    return DONE if figures.complete else FAILED


def _search(
    options: Options,
    target: Target,
    profile: Profile,
    pids: list[int],
    search: Search,
    measure: Measure,
) -> int:
    """A search: prints a line for each step, and its conclusion, also after an interruption."""
    progress = _Progress(search)

    async def step(viewers: int) -> Figures:
        progress.begin(viewers)
        return await measure(target, replace(profile, viewers=viewers), pids)

    def room(connected: int) -> int:
        return max(0, connected // profile.groups - profile.cameras)

    code, failure = DONE, None
    try:
        _run(search.run(max(1, options.viewers), step, room))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BenchFailed as error:
        if not search.steps:
            raise
        failure = error
    finally:
        progress.end()
    if options.json:
        found = report.search_to_dict(search)
        click.echo(json.dumps(_about(target, profile, pids) | found))
    else:
        _print(("Interrupted. " if code else "") + report.conclusion(search, profile))
    if failure is not None:
        raise failure
    return code or (DONE if search.best else FAILED)


class _Progress:
    """The lines of a search on stderr; on a terminal also the present step."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._begun = False
        self._shown = 0
        self._terminal = sys.stderr.isatty()

    def begin(self, viewers: int) -> None:
        """Shows that a step begins."""
        if not self._begun:
            click.echo(report.HEADER, err=True)
        self._begun = True
        self._catch_up()
        if self._terminal:
            click.echo(f"{viewers:8,} ...", err=True, nl=False)

    def end(self) -> None:
        """Shows the last step."""
        if self._begun:
            self._catch_up()
            click.echo(err=True)

    def _catch_up(self) -> None:
        if self._terminal:
            click.echo(f"\r{'':20}\r", err=True, nl=False)
        for step in self._search.steps[self._shown :]:
            click.echo(report.line(step), err=True)
        self._shown = len(self._search.steps)


async def _with_bar(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """Awaits the work, which takes about `seconds`, with a progress bar on a terminal."""

    async def show() -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(_TICK)
            elapsed = min(time.monotonic() - began, seconds)
            update(round(elapsed * 10), round(seconds * 10))

    with progress("measuring") as update:
        showing = asyncio.ensure_future(show())
        try:
            return await work
        finally:
            showing.cancel()


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine; Ctrl-C cancels it and waits for its end."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(work)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The event loop of uvloop, where that is installed; None for that of asyncio."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _print(text: str, *, err: bool = False) -> None:
    """Prints sentences, wrapped to the width of a terminal."""
    if (sys.stderr if err else sys.stdout).isatty():
        text = textwrap.fill(text, shutil.get_terminal_size().columns, break_on_hyphens=False)
    click.echo(text, err=err)


def _about(target: Target, profile: Profile, pids: list[int]) -> dict[str, Any]:
    return {"url": target.shown, "group": profile.group, "pids": pids}


def _server(target: Target, pid: int | None) -> tuple[list[int], str]:
    """The server's processes, and a description of them."""
    if pid is not None:
        pids = process.tree(pid)
        if not pids:
            raise ConfigError(f"--pid {pid}: there is no such process on this machine")
    else:
        pids = process.find(target)
    if not pids:
        return [], "not known: elsewhere, or of another user (see --pid)"
    shown = ", ".join(f"{process.name(each)} {each}" for each in pids[:2])
    return pids, shown + (f" and {len(pids) - 2} more" if len(pids) > 2 else "")


def _open_files() -> int:
    """Raises the limit of open files, and returns the number of possible connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(0, soft - _SPARE_FILES)
