"""`relayctl db`: the schema of the database. Sits under `ctl.main`."""

from collections.abc import Sequence
from dataclasses import asdict

import click

from relayd.ctl.common import (
    FAILED,
    Failed,
    database_url,
    echo_json,
    expected,
    json_option,
    progress,
)
from relayd.storage import schema

_HISTORY = "0003.history"  # its rollback deletes the chat history


@click.group()
def db() -> None:
    """The schema: numbered migrations."""


@db.command()
@json_option
@click.pass_context
@expected
def migrate(context: click.Context, as_json: bool) -> None:
    """Applies every pending migration."""
    with database_url(context) as url, progress("migrating") as update:
        done = schema.migrate(url, update)
    if as_json:
        echo_json({"applied": done})
        return
    for id in done:
        click.echo(f"applied {id}")
    if not done:
        click.echo("nothing to do: the schema is up to date")


@db.command()
@click.option(
    "--steps", default=1, show_default=True, type=click.IntRange(min=1),
    help="The number of migrations to roll back.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask before the chat history is deleted.")
@json_option
@click.pass_context
@expected
def rollback(context: click.Context, steps: int, yes: bool, as_json: bool) -> None:
    """Rolls the newest migrations back. Quizzes and actions always stay.

    Only the version of relayd that has applied a migration can roll it back: do this before you
    install an older version.
    """
    with database_url(context) as url:
        newer = [step.id for step in schema.status(url) if not step.known]
        if newer:
            raise Failed(
                f"{', '.join(newer)} belong to a newer version of relayd: install that version, "
                "and roll them back with it"
            )
        chosen = schema.to_roll_back(url, steps)
        if not chosen and not as_json:
            click.echo("nothing to do: no migration is applied")
            return
        if chosen:
            click.echo(f"rolls back {', '.join(chosen)}", err=True)
        if _HISTORY in chosen and not yes:
            click.confirm("The chat history will be deleted. Continue?", abort=True, err=True)
        done = schema.rollback(url, steps) if chosen else []
    if as_json:
        echo_json({"taken_back": done})
        return
    for id in done:
        click.echo(f"rolled back {id}")


@db.command()
@json_option
@click.pass_context
@expected
def status(context: click.Context, as_json: bool) -> None:
    """Lists the migrations and when they were applied. Exit code 1 if one is pending."""
    with database_url(context) as url:
        steps = schema.status(url)
    if as_json:
        echo_json({"migrations": [asdict(step) for step in steps]})
    else:
        _print(steps)
    if any(step.applied is None for step in steps):
        context.exit(FAILED)


def _print(steps: Sequence[schema.Step]) -> None:
    width = max(len(step.id) for step in steps)
    for step in steps:
        when = f"applied {step.applied:%Y-%m-%d %H:%M:%S} UTC" if step.applied else "pending"
        unknown = "" if step.known else " (by another version of relayd)"
        click.echo(f"{step.id:{width}}  {when}{unknown}")
