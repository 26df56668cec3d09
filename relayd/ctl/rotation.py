"""`relayctl token rotate`: a new secret signs tokens; older ones verify theirs until removed.

Sits under `ctl.tokens`. The file of `[auth] secret` has a secret on each line, the newest first.
"""

import os
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from relayd.ctl import service
from relayd.ctl.common import WrongInput, counted, echo_json, expected, json_option, load

BYTES = 32
"""Bytes of a new secret (RFC 7518 section 3.2)."""


@click.command(short_help="Sign tokens with a new secret; the older ones stay good.")
@click.option("--finish", is_flag=True, help="Remove the older secrets instead.")
@json_option
@click.pass_context
@expected
def rotate(context: click.Context, finish: bool, as_json: bool) -> None:
    """Writes a new secret before the others in the file of [auth] secret.

    New tokens are signed with it; tokens of the older secrets are accepted until `--finish` removes
    these, which ends them. Both take effect when relayd reads the file: at a reload, or, for a
    credential of systemd, at a restart.
    """
    service.require_secrets(os.environ)
    path = _file(context)
    old = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if finish and len(old) == 1:
        raise WrongInput(f"{path} has one secret only: there is nothing to remove")
    new = old[:1] if finish else [secrets.token_hex(BYTES), *old]
    replace(path, new)
    if as_json:
        echo_json({"file": str(path), "secrets": len(new)})
        return
    click.echo(f"{path} has {counted(len(new), 'secret', 'secrets')} now; the first one signs")
    looked_after, relayctl = service.find(os.environ), service.command(os.environ)
    if looked_after is not None and path.parent == looked_after.credentials:
        click.echo(f"run {relayctl} restart: systemd passes credentials at a start only")
    else:
        click.echo(f"run {relayctl} reload, so that relayd reads it")
    if not finish:
        click.echo(f"once all clients have new tokens: {relayctl} token rotate --finish")


def _file(context: click.Context) -> Path:
    """The file that has the secret and nothing else. Raises WrongInput: there is none."""
    loaded = load(context, next_start=True)
    if not loaded.config.auth.secret:
        raise WrongInput("[auth] secret is not set: there is nothing to rotate")
    source = next(
        line.source for line in loaded.lines() if (line.section, line.key) == ("auth", "secret")
    )
    path = Path(source)
    try:
        alone = path.read_text(encoding="utf-8").strip() == loaded.config.auth.secret.strip()
    except (OSError, UnicodeDecodeError):
        alone = False
    if not alone:
        raise WrongInput(
            f"[auth] secret is in {source}, among other things: move it to a file of its own "
            "(secret_file, or the credential auth_secret)"
        )
    return path


def replace(path: Path, lines: Sequence[str]) -> None:
    """Writes a file anew, all or nothing, with the owner and the mode that it has."""
    facts = path.stat()
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, facts.st_mode & 0o777)
            os.fchown(descriptor, facts.st_uid, facts.st_gid)
            file.write("".join(f"{line}\n" for line in lines))
            file.flush()
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
