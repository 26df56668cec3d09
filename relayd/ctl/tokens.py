"""`relayctl token`: creates and shows the tokens that clients send in their handshake.

Sits under `ctl.main`. Needs no running relayd: tokens are signed with `[auth] secret` (JWT,
RFC 7519, HS256).
"""

import re
import sys
import time
from typing import Any

import click
import jwt

from relayd.config import Config
from relayd.config.current import Current
from relayd.connection.admission import Admission
from relayd.ctl.common import (
    FAILED,
    WrongInput,
    echo_json,
    expected,
    json_option,
    moment,
    read_config,
)
from relayd.errors import Refusal
from relayd.hosts.authority import Asked
from relayd.logs import printable
from relayd.relays.paths import KINDS

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.group()
def token() -> None:
    """Tokens for clients, signed with [auth] secret."""


class _Lifetime(click.ParamType[float]):
    """A lifetime: `90s`, `15m`, `12h`, `30d`, or `never`."""

    name = "lifetime"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if value == "never":
            return 0.0
        found = re.fullmatch(r"([0-9]{1,9})([smhd])", str(value))
        if found is None or not int(found[1]):
            self.fail(f"{value!r} is no lifetime; write 90s, 15m, 12h, 30d or never", param, ctx)
        return float(int(found[1]) * _UNITS[found[2]])


@token.command(short_help="Create a token.")
@click.option("--user", metavar="NAME", help="The name of the client's user.")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(KINDS.names),
    help="A kind of path for which it is valid; may be given more than once. Default: all.",
)  # fmt: skip
@click.option(
    "--expires", type=_Lifetime(), default="30d", show_default=True, metavar="LIFETIME",
    help="Its lifetime: 90s, 15m, 12h, 30d or never.",
)  # fmt: skip
@json_option
@click.pass_context
@expected
def create(
    context: click.Context, user: str | None, scopes: tuple[str, ...], expires: float, as_json: bool
) -> None:
    """Creates a token; clients send it as ?token= or as Authorization: Bearer."""
    secret = _secret(read_config(context))
    claims: dict[str, Any] = {"iat": int(time.time())}
    if user is not None:
        claims["sub"] = user
    if scopes:
        claims["scope"] = " ".join(scopes)
    if expires:
        claims["exp"] = int(time.time() + expires)
    encoded = jwt.encode(claims, secret, algorithm="HS256")
    if as_json:
        echo_json({"token": encoded, "claims": claims})
    else:
        click.echo(encoded)


@token.command(short_help="Show the claims of a token, and whether it is valid.")
@click.argument("token")
@json_option
@click.pass_context
@expected
def show(context: click.Context, token: str, as_json: bool) -> None:
    """Shows the claims of a token (- reads it from stdin), and whether relayd accepts it.

    Exit codes: 0 the token is valid; 1 it is not; 2 the text is no token.
    """
    text = (sys.stdin.readline() if token == "-" else token).strip()
    try:
        head = jwt.get_unverified_header(text)
        claims = jwt.decode(text, options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        raise WrongInput(f"this is no token (JWT): {error}") from error
    why = _why_not(read_config(context), text, head, claims)
    if as_json:
        echo_json({"good": not why, "why": why, "claims": claims})
    else:
        for name, value in claims.items():
            click.echo(f"{name + ':':7} {_shown(name, value)}")
        click.echo("the token is valid" if not why else f"the token is not valid: {why}")
    if why:
        context.exit(FAILED)


def _secret(config: Config) -> str:
    if not config.auth.secret:
        raise WrongInput(
            "[auth] secret is not set: without it there are no tokens. Set it, or secret_file, to "
            "32 random bytes or more ('openssl rand -hex 32' prints some)"
        )
    return config.auth.secret


def _why_not(config: Config, text: str, head: dict[str, Any], claims: dict[str, Any]) -> str:
    """The reason why relayd refuses a token; empty if relayd accepts it."""
    secret = _secret(config)
    if head.get("alg") != "HS256":
        return f"it is signed with {head.get('alg')}, and relayd accepts HS256 alone"
    try:
        options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
        jwt.decode(text, secret, algorithms=["HS256"], options={**options, "verify_aud": False})
    except jwt.InvalidSignatureError:
        return "it is signed with another secret than [auth] secret"
    except jwt.InvalidTokenError:
        pass  # `Admission` below has the sentence
    scope = claims.get("scope")
    any_kind = KINDS.names[0]
    kinds = scope.split() if isinstance(scope, str) else [any_kind]
    unknown = [kind for kind in kinds if kind not in KINDS.names]
    try:
        admission = Admission(Current(config), time.time)
        kind = (kinds or [any_kind])[0]
        admission.admit(kind, asked=Asked(), token=text, connections=0).send(None)
    except StopIteration:
        pass  # nothing had to be waited for
    except Refusal as refusal:
        return refusal.message[0].lower() + refusal.message[1:].rstrip(".")
    if unknown == kinds:
        return f"its scope names no kind of path; there are {', '.join(KINDS.names)}"
    return ""


def _shown(name: str, value: Any) -> str:
    if name in ("exp", "iat", "nbf") and isinstance(value, int | float):
        try:
            return f"{moment(value)} UTC"
        except (ValueError, OverflowError, OSError):
            return f"{value}"
    return printable(f"{value}")
