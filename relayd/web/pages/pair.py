"""The pages of a pair: a headset that shows its code, the phone that opens from it, and the code.

A module of `pages`. Both pages are only frames: `static/pair_headset.js` and
`static/pair_phone.js` connect to `/ws/difficulty`. The secret of a pair stands behind the # of
their addresses, which no browser sends; `/pair/` chooses it together with the UUID.
"""

import io
import re
import secrets
import uuid as uuids

import segno
from twisted.internet.interfaces import IReactorTime

from relayd.errors import ErrorCode, Refusal
from relayd.names import parse_uuid
from relayd.web.answers import Answer, redirect
from relayd.web.backend import Backend
from relayd.web.request import Request
from relayd.web.routes import Route
from relayd.web.templates import View

SVG = "image/svg+xml"
MOST = 600
"""Bytes of an address in a code: a host of 255, and a secret of 256 characters."""
_NO_UUID = "The address of a pair has a UUID in it, such as 123e4567-e89b-42d3-a456-426614174000."
_QUIET = 4  # modules of white around a code (ISO/IEC 18004 section 9.1)


class Pair:
    """`/pair/`, `/pair/{uuid}/headset`, `/pair/{uuid}/` for the phone, and `/pair/{uuid}/code`."""

    def __init__(self, backend: Backend, clock: IReactorTime) -> None:
        self._backend = backend

    def routes(self) -> list[Route]:
        """The routes of the pages."""
        return [
            Route.at("/pair", GET=self.to_start),
            Route.at("/pair/", GET=self.start),
            Route.at("/pair/{uuid}", GET=self.to_phone),
            Route.at("/pair/{uuid}/", GET=self.phone),
            Route.at("/pair/{uuid}/headset", GET=self.headset),
            Route.at("/pair/{uuid}/code", POST=self.code),
        ]

    def to_start(self, request: Request) -> Answer:
        """Redirects `/pair` to `/pair/`."""
        return redirect("pair/" + request.safe_query)

    def start(self, request: Request) -> Answer:
        """Redirects to the headset's page of a new pair, with a new secret behind the #.

        A browser keeps the part behind the # of a redirect (Fetch standard, section 4.4).
        """
        return redirect(f"{uuids.uuid4()}/headset#secret={secrets.token_urlsafe(16)}", 303)

    def to_phone(self, request: Request, uuid: str) -> Answer:
        """Redirects `/pair/{uuid}` to `/pair/{uuid}/`."""
        return redirect(_parse(uuid) + "/" + request.safe_query)

    def headset(self, request: Request, uuid: str) -> Answer:
        """The page that is a headset."""
        return self._frame(request, uuid, "headset")

    def phone(self, request: Request, uuid: str) -> Answer:
        """The page that is a phone."""
        return self._frame(request, uuid, "phone")

    def code(self, request: Request, uuid: str) -> Answer:
        """A QR code (ISO/IEC 18004) of the address of the phone's page, as SVG.

        The address is the body of the request: only the browser knows it for sure, since a proxy
        may have taken TLS off, and a secret in a body is in no log.

        Raises:
            Refusal: 400 `bad_uuid`; 400 `bad_request`, the body is no address of this pair.
        """
        pair = re.escape(_parse(uuid))
        body = request.body()
        address = rf"https?://[A-Za-z0-9.:\[\]_-]+/pair/{pair}/(?:#secret=[A-Za-z0-9%.~_-]*)?"
        if len(body) > MOST or not re.fullmatch(address.encode(), body):
            raise Refusal(ErrorCode.BAD_REQUEST, "Send the address of the phone's page.")
        drawn = io.BytesIO()
        segno.make_qr(body.decode(), error="m").save(
            drawn, kind="svg", xmldecl=False, omitsize=True, border=_QUIET, light="#fff"
        )
        return Answer(200, drawn.getvalue(), SVG, {"Cache-Control": "no-store"})

    def _frame(self, request: Request, uuid: str, side: str) -> Answer:
        view, name = View.of(request), _parse(uuid)
        content = view.fill(
            f"pair_{side}",
            uuid=name,
            tokens="no" if self._backend.config.auth.difficulty == "django" else "yes",
            html_values=view.connection_parts(),
        )
        title = f"{view.text(f'pair.{side}')} · {view.text('nav.pair')} · relayd"
        return view.page(content, title=title, section="pair", script=f"pair_{side}.js")


def _parse(uuid: str) -> str:
    """The UUID of a pair, in lower case. Raises Refusal: 400 `bad_uuid`."""
    try:
        return parse_uuid(uuid)
    except Refusal as refusal:
        raise Refusal(refusal.code, _NO_UUID) from refusal
