"""`relayctl quiz` and `relayctl action`: import and export of CSV. Sits under `ctl.main`."""

import io

import click

from relayd.ctl.common import (
    WrongInput,
    counted,
    database_url,
    echo_json,
    expected,
    json_option,
    progress,
)
from relayd.ctl.output import written
from relayd.storage import tables
from relayd.storage.tables import Table


def table_commands(name: str, table: Table) -> click.Group:
    """`relayctl NAME import FILE` and `relayctl NAME export FILE`."""

    @click.group(name, help=f"The table {table.name}, as CSV.")
    def group() -> None:
        pass

    @group.command("import")
    @click.argument("file")
    @json_option
    @click.pass_context
    @expected
    def import_(context: click.Context, file: str, as_json: bool) -> None:
        try:
            with click.open_file(file, "rb") as stream:
                data = stream.read()
        except OSError as error:
            raise WrongInput(f"{file}: {error.strerror}") from error
        try:
            with database_url(context) as url, progress("importing") as update:
                done = tables.import_rows(url, table, data, update)
        except tables.CSVError as error:
            raise WrongInput(f"{file}: {error}; nothing was imported") from error
        if as_json:
            echo_json({"added": done.added, "changed": done.changed})
        else:
            click.echo(f"{done.added} added, {done.changed} changed")

    import_.help = (
        f"Reads {table.name} from a CSV file (- is stdin), all rows or none.\n\n"
        f"UTF-8 with a header row; columns: {', '.join(table.columns)}, in any order. A row with "
        "an id changes the row with this id, or adds it; a row without one gets a new id."
    )

    @group.command("export", help=f"Writes all {table.name} to a CSV file (- is stdout).")
    @click.argument("file")
    @json_option
    @click.pass_context
    @expected
    def export(context: click.Context, file: str, as_json: bool) -> None:
        try:
            with written(file) as stream:
                text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
                with database_url(context) as url:
                    count = tables.export_rows(url, table, text)
                text.flush()
                text.detach()
        except OSError as error:
            raise WrongInput(f"{file}: {error.strerror}") from error
        if as_json and file != "-":
            echo_json({"rows": count})
        else:
            click.echo(f"{counted(count, 'row', 'rows')} written", err=True)

    return group


quiz = table_commands("quiz", tables.QUIZZES)
action = table_commands("action", tables.ACTIONS)
