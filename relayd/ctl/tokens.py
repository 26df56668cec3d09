"""`relayctl token`: creates, explains and revokes the tokens that clients send in their handshake.

Sits under `ctl.main`. `create` and `check` need no running relayd: they use the keys of the
configuration. `revoke` and `revoked` ask one.
"""

import secrets
import time
from pathlib import Path
from typing import Any

import click
import jwt

from relayd.access.denials import FOR_EVER, Denial
from relayd.access.rights import parse_right
from relayd.access.tokens import LEEWAY, Tokens, configured_keys, words_of
from relayd.config import Auth, Config
from relayd.config.current import Current
from relayd.ctl.common import (
    FAILED,
    WrongInput,
    counted,
    echo_json,
    expected,
    json_option,
    moment,
    read_config,
    table,
)
from relayd.ctl.control_client import Unreachable
from relayd.ctl.denying import UNITS, Lifetime, denials, deny, end_with
from relayd.ctl.reactor import run_to_the_end
from relayd.ctl.rotation import rotate
from relayd.ctl.signing import sign
from relayd.errors import Refusal
from relayd.jose.keys import Key, parse_keys
from relayd.logs import printable
from relayd.relays.paths import KINDS

_NO_KEYS = (
    "[auth] secret is not set: without keys there are no tokens. Set it, or secret_file, to "
    "32 random bytes or more ('openssl rand -hex 32' prints some)"
)
REVOKED = ("token", "user")
"""The kinds of denial that revoke tokens."""


@click.group()
def token() -> None:
    """Tokens for clients, signed with a key of [auth]."""


token.add_command(rotate)


class _Right(click.ParamType[str]):
    """A right by path and direction, as `access.rights` defines it."""

    name = "right"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            parse_right(str(value), KINDS)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


@token.command(short_help="Create a token.")
@click.option("--user", metavar="NAME", help="The name of the client's user (sub).")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(KINDS.names),
    help="A kind of path for which it is valid; may be given more than once. Default: all.",
)  # fmt: skip
@click.option(
    "--right", "rights", multiple=True, type=_Right(), metavar="RIGHT",
    help="A path and direction for which it is valid, such as camera/stage1:send or chat/lobby; "
    "may be given more than once.",
)  # fmt: skip
@click.option("--audience", metavar="NAME", help="aud. Default: the first of [auth] audience.")
@click.option("--issuer", metavar="NAME", help="iss. Default: the first of [auth] issuer.")
@click.option("--id", "token_id", metavar="ID", help="jti, for revoke. Default: a random one.")
@click.option(
    "--expires", type=Lifetime(), default="30d", show_default=True, metavar="LIFETIME",
    help="Its lifetime: 90s, 15m, 12h, 30d or never.",
)  # fmt: skip
@click.option("--kid", metavar="NAME", help="The configured key to sign with. Default: the first.")
@click.option(
    "--key", "key_file", type=click.Path(path_type=Path), metavar="FILE",
    help="A file with the private key (PEM, JWK or JWK set) to sign with, instead of a configured "
    "one.",
)  # fmt: skip
@json_option
@click.pass_context
@expected
def create(
    context: click.Context,
    user: str | None,
    scopes: tuple[str, ...],
    rights: tuple[str, ...],
    audience: str | None,
    issuer: str | None,
    token_id: str | None,
    expires: float,
    kid: str | None,
    key_file: Path | None,
    as_json: bool,
) -> None:
    """Creates a token.

    Clients send it as Authorization: Bearer, as ?token=, or as the subprotocol beside relayd.
    """
    auth = read_config(context).auth
    key = _signing_key(auth, kid, key_file)
    now = int(time.time())
    claims: dict[str, Any] = {"iat": now, "jti": token_id or secrets.token_hex(8)}
    given = {
        "sub": user,
        "aud": audience or next(iter(auth.audience), None),
        "iss": issuer or next(iter(auth.issuer), None),
        "scope": " ".join(scopes) or None,
        "rights": list(rights) or None,
        "exp": int(now + expires) if expires else None,
    }
    claims |= {name: value for name, value in given.items() if value is not None}
    encoded = sign(key, claims)
    if as_json:
        echo_json({"token": encoded, "claims": claims})
    else:
        click.echo(encoded)


def _signing_key(auth: Auth, kid: str | None, file: Path | None) -> Key:
    """The key to sign with."""
    where = "[auth]"
    keys = configured_keys(auth)
    if file is not None:
        where = str(file)
        try:
            keys = parse_keys(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise WrongInput(f"{file}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise WrongInput(f"{file}: {error}") from error
    found = [key for key in keys if key.signing is not None and kid in (None, key.kid)]
    if found:
        return found[0]
    if not auth.has_keys and file is None:
        raise WrongInput(_NO_KEYS)
    named = "" if kid is None else f" with the kid {kid!r}"
    raise WrongInput(f"{where} has no secret or private key{named}; --key FILE names another one")


@token.command(short_help="Explain a token: whether it is valid, its rights, its time.")
@click.argument("file", default="-")
@json_option
@click.pass_context
@expected
def check(context: click.Context, file: str, as_json: bool) -> None:
    """Explains the token in FILE, or on stdin (-): whether relayd accepts it, and for what.

    Exit codes: 0 the token is valid; 1 it is not; 2 the text is no token.
    """
    config = read_config(context)
    if not config.auth.has_keys:
        raise WrongInput(_NO_KEYS)
    text, claims = _parsed(file)
    why = _why_not(config, text)
    revoked = _is_revoked(context, claims)
    if not why and revoked:
        why = "it has been revoked"
    rights, ignored = _rights(claims)
    if not why and rights == []:
        why = f"it gives no right here; the kinds of path are {', '.join(KINDS.names)}"
    if as_json:
        echo_json(
            {"good": not why, "why": why, "claims": claims, "revoked": revoked, "rights": rights}
        )
    else:
        for name, value in claims.items():
            click.echo(f"{name + ':':7} {_shown(name, value)}")
        for sentence in _explained(claims, rights, ignored, revoked):
            click.echo(sentence)
        click.echo("the token is valid" if not why else f"the token is not valid: {why}")
    if why:
        context.exit(FAILED)


def _parsed(file: str) -> tuple[str, dict[str, Any]]:
    """The text of a token in a file and its claims, which nobody has verified."""
    try:
        with click.open_file(file, encoding="utf-8") as opened:
            text = str(opened.readline()).strip()
    except (OSError, UnicodeDecodeError):
        # the token itself may have been given; other users could read it, so it is not shown
        raise WrongInput(
            "the file cannot be read; a token is not an argument, which every user of this machine "
            "could read: give a file, or - for stdin"
        ) from None
    try:
        return text, jwt.decode(text, options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        raise WrongInput(f"this is no token (JWT): {error}") from error


def _why_not(config: Config, text: str) -> str:
    """The reason why relayd refuses a token; empty if relayd accepts it."""

    async def read(reactor: Any) -> None:
        tokens = Tokens(Current(config), reactor, time.time, KINDS)
        tokens.identify(await tokens.claims(text))

    try:
        run_to_the_end(read, waits=bool(config.auth.jwks_url))
    except Refusal as refusal:
        return refusal.message[0].lower() + refusal.message[1:].rstrip(".")
    return ""


def _is_revoked(context: click.Context, claims: dict[str, Any]) -> bool | None:
    """Whether relayd has a denial for a token; None if none answers."""
    try:
        found = denials(context)
    except Unreachable:
        return None
    values = {"token": claims.get("jti"), "user": claims.get("sub")}
    return any(denial.value == values.get(denial.kind) for denial in found)


def _rights(claims: dict[str, Any]) -> tuple[list[str] | None, list[str]]:
    """The rights of a token, None for all; and the words that are no rights."""
    if "rights" not in claims and "scope" not in claims:
        return None, []
    known, ignored = [], []
    try:
        for word in words_of(claims):
            try:
                parse_right(word, KINDS)
                known.append(word)
            except ValueError:
                ignored.append(word)
    except TypeError:
        pass  # the check above has the sentence
    return known, ignored


def _explained(
    claims: dict[str, Any], rights: list[str] | None, ignored: list[str], revoked: bool | None
) -> list[str]:
    """Rights, remaining time and revocation in sentences."""
    sentences = []
    if rights is None:
        sentences.append("it is good for every path")
    elif rights:
        sentences.append(f"it is good for {', '.join(map(printable, rights))}")
    if ignored:
        sentences.append(f"no rights of relayd: {', '.join(map(printable, ignored))}")
    expires = claims.get("exp")
    if isinstance(expires, int | float) and not isinstance(expires, bool):
        left = expires - time.time()
        if 0 < left < 1e11:
            sentences.append(
                f"it is valid for another {_duration(left)}, and {LEEWAY:g} s of leeway"
            )
    elif "exp" not in claims:
        sentences.append("it never expires")
    if revoked is None:
        sentences.append("no relayd answers here that could say whether it has been revoked")
    return sentences


def _duration(seconds: float) -> str:
    """`3 d 4 h`, `12 m 5 s`: the two largest units."""
    rest, parts = int(seconds), []
    for unit, size in sorted(UNITS.items(), key=lambda each: -each[1]):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


@token.command(short_help="Revoke a token, or all tokens of a user.")
@click.argument("file", required=False)
@click.option("--id", "token_id", metavar="ID", help="The id (jti) of a token, instead of it.")
@click.option("--user", metavar="NAME", help="A user (sub): all tokens of the user.")
@click.option(
    "--for", "lifetime", type=Lifetime(), metavar="LIFETIME",
    help="How long: as long as the token could be valid. Default: until TOKEN expires, else 30d.",
)  # fmt: skip
@click.option("--undo", is_flag=True, help="Accept it again.")
@json_option
@click.pass_context
@expected
def revoke(
    context: click.Context,
    file: str | None,
    token_id: str | None,
    user: str | None,
    lifetime: float | None,
    undo: bool,
    as_json: bool,
) -> None:
    """Revokes the token in FILE (- for stdin), the token with an id, or all tokens of a user.

    Their connections are closed at once with 4005, and new ones are refused, on every process.
    """
    if [file, token_id, user].count(None) != 2:
        raise WrongInput("name one: a FILE, --id or --user")
    now = time.time()
    until = now + 30 * UNITS["d"]
    if file is not None:
        claims = _parsed(file)[1]
        token_id, expires = claims.get("jti"), claims.get("exp")
        if not isinstance(token_id, str):
            raise WrongInput("the token has no id (jti): revoke its user")
        until = expires + LEEWAY if isinstance(expires, int | float) else FOR_EVER
    if lifetime is not None:
        until = now + lifetime if lifetime else FOR_EVER
    denial = Denial(
        kind="token" if user is None else "user",
        value=(token_id if user is None else user) or "",
        until=min(until, FOR_EVER),
        made=now,
        lifted=undo,
    )
    if denial.until <= now:
        raise WrongInput("the token has expired already")
    done = deny(context, denial)
    if undo:
        what = f"the {denial.kind} is accepted again"
    else:
        closed = counted(done.count, "connection is closed", "connections are closed")
        what = f"revoked until {moment(denial.until)} UTC; {closed}"
    end_with(context, done, what, as_json)


@token.command(short_help="List what has been revoked.")
@json_option
@click.pass_context
@expected
def revoked(context: click.Context, as_json: bool) -> None:
    """Lists the tokens and users that have been revoked, and until when."""
    found = [each for each in denials(context) if each.kind in REVOKED]
    if as_json:
        echo_json({"found": found})
    elif not found:
        click.echo("nothing is revoked")
    else:
        rows = [(each.kind, printable(each.value), f"{moment(each.until)} UTC") for each in found]
        click.echo(table([("KIND", "VALUE", "UNTIL"), *sorted(rows)]))


def _shown(name: str, value: Any) -> str:
    if name in ("exp", "iat", "nbf") and isinstance(value, int | float):
        try:
            return f"{moment(value)} UTC"
        except (ValueError, OverflowError, OSError):
            return f"{value}"
    return printable(f"{value}")
