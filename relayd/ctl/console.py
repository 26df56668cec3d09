"""`relayctl console password`: the hash of a password for the operator's pages.

Sits under `ctl.main`.
"""

import sys

import click

from relayd.console.passwords import LONGEST, SHORTEST, hash_password
from relayd.ctl.common import WrongInput, expected

_HINT = """\
Put this line into the file /etc/relayd/credentials/console_password_hash and run relayctl
restart, or set it as password_hash under [console] in the configuration and run relayctl reload.
The console is at /console/, beside the other pages of relayd."""


@click.group("console", short_help="The password of the operator's pages at /console/.")
def console() -> None:
    """The operator's pages at /console/, which are off without a password."""


@console.command("password", short_help="Hash a new password.")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read it from stdin, a line, unasked.")
@expected
def password(from_stdin: bool) -> None:
    """Asks for a new password, and prints its hash for [console] password_hash.

    The hash goes to stdout, all else to stderr. Keep it secret: whoever has it can sign a session.
    A new hash ends all sessions.
    """
    if from_stdin:
        text = sys.stdin.readline().rstrip("\n")
    else:
        text = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    if len(text) < SHORTEST:
        raise WrongInput(f"a password has {SHORTEST} characters at least")
    if len(text.encode()) > LONGEST:
        raise WrongInput(f"a password has {LONGEST} bytes at most")
    click.echo(hash_password(text))
    if sys.stderr.isatty():
        click.echo(_HINT, err=True)
