"""`relayctl db`: the schema of the database. Sits under `ctl.main`."""

import click

from relayd.ctl.common import FAILED, expected, read_config
from relayd.storage import schema

_HISTORY = "0003.history"  # taking it back loses the chat history


def _url(context: click.Context) -> str:
    return read_config(context).database.url


@click.group()
def db() -> None:
    """The schema: numbered migrations."""


@db.command()
@click.pass_context
@expected
def migrate(context: click.Context) -> None:
    """Applies every pending migration."""
    for id in (done := schema.migrate(_url(context))):
        click.echo(f"applied {id}")
    if not done:
        click.echo("nothing to do: the schema is up to date")


@db.command()
@click.option("--steps", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--yes", is_flag=True, help="Do not ask before the chat history is lost.")
@click.pass_context
@expected
def rollback(context: click.Context, steps: int, yes: bool) -> None:
    """Takes the newest migrations back. Quizzes and actions always stay."""
    url = _url(context)
    going = schema.to_roll_back(url, steps)
    if not going:
        click.echo("nothing to do: no migration is applied")
        return
    click.echo(f"takes back {', '.join(going)}", err=True)
    if _HISTORY in going and not yes:
        click.confirm("The chat history will be lost. Go on?", abort=True, err=True)
    for id in schema.rollback(url, steps):
        click.echo(f"took back {id}")


@db.command()
@click.pass_context
@expected
def status(context: click.Context) -> None:
    """Says of each migration when it was applied. Exit code 1 if one is pending."""
    steps = schema.status(_url(context))
    width = max(len(step.id) for step in steps)
    for step in steps:
        when = f"applied {step.applied:%Y-%m-%d %H:%M:%S} UTC" if step.applied else "pending"
        unknown = "" if step.known else " (by another version of relayd)"
        click.echo(f"{step.id:{width}}  {when}{unknown}")
    if any(step.applied is None for step in steps):
        context.exit(FAILED)
