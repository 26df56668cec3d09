"""`relayctl doctor`: runs the checks and prints their findings, faults with their remedies.

The top of `doctor`.
"""

import contextlib
import json
import os
from collections.abc import Iterable
from typing import Any

import click

from relayd.ctl import service
from relayd.ctl.common import WrongInput, load, token_option
from relayd.ctl.doctor import nginx_config
from relayd.ctl.doctor.checks import CHECKS
from relayd.ctl.doctor.facts import Facts, Options
from relayd.ctl.doctor.findings import Check, Finding, State, fault, warn
from relayd.errors import ConfigError
from relayd.urls.masking import mask_url

FAULTY = 1
_BAD = (State.WARN, State.FAULT)

Found = list[tuple[Check, Finding]]


@click.command(short_help="Find faults and their remedies.")
@click.option(
    "--url", default="", metavar="URL", help="The public URL of relayd: https://NAME.",
)  # fmt: skip
@token_option
@click.option(
    "--ca", metavar="FILE", type=click.Path(exists=True, dir_okay=False),
    help="Authorities (PEM) to trust for URL instead of the system's.",
)  # fmt: skip
@click.option(
    "--nginx-config", metavar="FILE", type=click.Path(exists=True, dir_okay=False),
    help="nginx's configuration, or the output of `nginx -T`; by default nginx itself prints it.",
)  # fmt: skip
@click.option(
    "--hold", default=0.0, metavar="SECONDS", type=click.FloatRange(0, 3600),
    help="How long the WebSocket through URL stays idle; 60 finds most timeouts.",
)  # fmt: skip
@click.option(
    "--days", default=30.0, show_default=True, metavar="N",
    help="Warn of certificates that expire within N days; within 7 it is a fault.",
)  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="Also show checks without a fault.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def doctor(context: click.Context, verbose: bool, as_json: bool, **chosen: Any) -> None:
    """Looks for common faults, and prints the remedies.

    It checks the configuration, the running relayd and its limits, database, Redis, nginx,
    certificates, and, with --url, a real WebSocket through the public URL. It changes nothing. Run
    it on relayd's machine, as root or as relayd's user: other users may not see everything.

    Exit codes: 0 no fault (warnings do not count), 1 a fault was found, 2 wrong usage.
    """
    given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    try:
        service.require_secrets(os.environ)
    except ConfigError as error:
        raise WrongInput(str(error)) from error
    if mask_url(given["url"]) != given["url"]:
        raise WrongInput(
            "--url is a URL such as https://relay.example.org, without a user and a query"
        )
    found = examine(context, Options(**given))
    click.echo(_json(found) if as_json else _text(found, verbose=verbose))
    if any(finding.state is State.FAULT for _, finding in found):
        context.exit(FAULTY)


def examine(context: click.Context, options: Options) -> Found:
    """Runs all checks. If the configuration is wrong, this is the only finding."""
    try:
        loaded = load(context)
    except ConfigError as error:
        return [(CHECKS[0], fault(str(error), "correct it; relayd does not start with it"))]
    facts = Facts(loaded, options)
    return [(check, finding) for check in CHECKS for finding in _look(check, facts)]


def _look(check: Check, facts: Facts) -> Iterable[Finding]:
    # as relayd's user, who may use PostgreSQL or the SQLite file
    is_database = check.name.startswith("database")
    user = service.as_its_user(os.environ) if is_database else contextlib.nullcontext()
    try:
        with user:
            return list(check.look(facts))
    except nginx_config.Unreadable as error:
        if check.name != "nginx":
            return [Finding(State.SKIPPED, "nginx's configuration cannot be read")]
        if isinstance(error, nginx_config.Refused) and os.geteuid() == 0:
            return [fault(str(error), "correct it; nginx does not start again with it")]
        return [warn(str(error), "run doctor as root, or --nginx-config FILE")]
    except Exception as error:
        return [
            warn(
                f"the check itself failed: {type(error).__name__}: {error}",
                "a bug of relayctl doctor; it does not affect the other checks",
            )
        ]


def _text(found: Found, *, verbose: bool) -> str:
    lines = []
    width = max(len(check.name) for check, _ in found)
    order = list(State)[::-1]
    for check, finding in sorted(found, key=lambda one: order.index(one[1].state)):
        if finding.state in _BAD or verbose:
            lines.append(f"{finding.state:7}  {check.name:{width}}  {finding.text}")
        if finding.remedy:
            lines.append(f"{'':7}  {'':{width}}  → {finding.remedy}")
    return "\n".join([*lines, *([""] if lines else []), _summary(found)])


def _summary(found: Found) -> str:
    """The number of checks by state; the worst finding of a check counts."""
    worst: dict[str, State] = {}
    order = list(State)
    for check, finding in found:
        before = worst.get(check.name, State.OK if finding.state is State.OK else finding.state)
        worst[check.name] = max(before, finding.state, key=order.index)
    counts = {state: sum(one is state for one in worst.values()) for state in State}
    faults, warnings = counts[State.FAULT], counts[State.WARN]
    parts = [
        f"{faults} {'fault' if faults == 1 else 'faults'}" if faults else "no fault",
        f"{warnings} {'warning' if warnings == 1 else 'warnings'}" if warnings else "",
        f"{counts[State.OK]} sound",
        f"{counts[State.SKIPPED]} skipped" if counts[State.SKIPPED] else "",
    ]
    return f"{len(worst)} checks: {', '.join(part for part in parts if part)}"


def _json(found: Found) -> str:
    findings = [
        {
            "check": check.name,
            "looks_at": check.looks_at,
            "state": finding.state.value.lower(),
            "finding": finding.text,
            "remedy": finding.remedy,
        }
        for check, finding in found
    ]
    faulty = any(one["state"] == "fault" for one in findings)
    return json.dumps({"findings": findings, "fault": faulty})
