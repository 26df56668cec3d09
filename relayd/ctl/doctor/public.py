"""A real WebSocket through the public URL, and what its typical failures mean.

Listed in `checks`. The client is picows; like `bench`, it is imported only when it is wanted.
"""

import asyncio
import contextlib
import logging
import re
import secrets
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec

from relayd.ctl.doctor.facts import Facts
from relayd.ctl.doctor.findings import Finding, fault, ok, skipped, warn

_PATIENCE = 10.0
_POSE = b'{"x":1,"y":2,"z":3}'


def look(facts: Facts) -> Iterator[Finding]:
    """Opens one in a group of its own, sends a pose, gets it back, closes."""
    url = facts.options.url
    parts = urlsplit(url)
    if not url:
        yield skipped("no --url was given")
        return
    if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
        yield fault(f"--url {url} is no URL", "--url https://relay.example.org")
        return
    secure = parts.scheme in ("https", "wss")
    if not secure:
        yield warn(
            f"{url} is not encrypted: pages that come over https:// may not connect",
            "TLS in the proxy; clients use wss://",
        )
    path = f"{parts.path.rstrip('/')}/ws/camera/doctor-{secrets.token_hex(8)}"
    address = f"{'wss' if secure else 'ws'}://{parts.netloc}{path}"
    hold = facts.options.hold
    try:
        asyncio.run(_try(address, facts.trust() if secure else None, facts.options.token, hold))
    except _Answered as answer:
        yield _diagnose(answer, url)
    except _Ended as ended:
        yield fault(
            f"the WebSocket through {url} was ended with the code {ended.code} {ended.when}",
            "relayd's log has the connection under /ws/camera/doctor-...; if nothing of this is "
            "there, something in between has ended it: its time-outs",
        )
    except TimeoutError:
        yield fault(
            f"a pose through {url} did not come back in {_PATIENCE:g} s",
            "does something in between keep frames back, or lead elsewhere than it should?",
        )
    except ssl.SSLError as error:
        if "APPLICATION_PROTOCOL" in str(error.reason):
            yield fault(
                f"{url} speaks HTTP/2 only; WebSockets need HTTP/1.1 beside it",
                "offer both in ALPN: h2,http/1.1",
            )
        else:
            yield skipped(f"no TLS connection: {getattr(error, 'reason', error)}")
    except OSError as error:
        yield fault(
            f"{url} cannot be reached: {error.strerror or error}",
            "does the name lead here, and do the firewall and the proxy let it through?",
        )
    else:
        silent = f", also after {hold:g} s of silence" if hold else ""
        yield ok(f"a pose went through {url} and came back{silent}")


class _Answered(Exception):
    """The handshake was answered with something else than 101."""

    def __init__(self, status: int, server: str, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        try:  # proxies put their own name in place of relayd's
            self.message = msgspec.json.decode(body, type=dict[str, str])["message"]
        except (msgspec.MsgspecError, KeyError):
            self.message = ""
        self.who = "relayd" if self.message and status != 503 else server or "somebody"


class _Ended(Exception):
    """The connection ended early."""

    when = "before its pose came back"

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


async def _try(url: str, trust: ssl.SSLContext | None, token: str, hold: float) -> None:
    import picows

    logging.getLogger("picows").addHandler(logging.NullHandler())
    logging.getLogger("picows").propagate = False
    came: asyncio.Queue[_Ended | None] = asyncio.Queue()

    class Listener(picows.WSListener):
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == picows.WSMsgType.TEXT:
                if frame.get_payload_as_bytes() == _POSE:
                    came.put_nowait(None)
            elif frame.msg_type == picows.WSMsgType.CLOSE:
                came.put_nowait(_Ended(int(frame.get_close_code() or 1005)))

        def on_ws_disconnected(self, transport: Any) -> None:
            came.put_nowait(_Ended(1006))

    async def round_trip(transport: Any) -> None:
        transport.send(picows.WSMsgType.TEXT, _POSE)
        async with asyncio.timeout(_PATIENCE):
            ended = await came.get()
        if ended is not None:
            raise ended

    if trust is not None:
        trust.set_alpn_protocols(["http/1.1"])
    try:
        async with asyncio.timeout(_PATIENCE):
            transport, _ = await picows.ws_connect(
                Listener,
                url,
                ssl_context=trust,
                max_redirects=0,
                websocket_handshake_timeout=None,
                extra_headers={"Authorization": f"Bearer {token}"} if token else None,
            )
    except picows.WSHandshakeError as error:
        line = re.match(rb"HTTP/1\.[01] (\d{3})", error.raw_header or b"")
        server = re.search(rb"(?im)^server:[ \t]*([^\r\n]+)", error.raw_header or b"")
        raise _Answered(
            int(line[1]) if line else 0,
            server[1].decode(errors="replace") if server else "",
            error.raw_body or b"",
        ) from error
    try:
        await round_trip(transport)
        if hold:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(_silence(came, hold), hold)
            await round_trip(transport)
        transport.send_close(picows.WSCloseCode.OK)
    finally:
        transport.disconnect()


async def _silence(came: "asyncio.Queue[_Ended | None]", hold: float) -> None:
    """Says and hears nothing; an end in that time is raised."""
    ended = await came.get()
    if ended is not None:
        ended.when = f"while it was silent for {hold:g} s"
        raise ended


def _diagnose(answer: _Answered, url: str) -> Finding:
    said = f"the handshake through {url} was answered with {answer.status} by {answer.who}"
    if answer.message:
        said += f": {answer.message.rstrip('.')}"
    return fault(said, _remedy(answer.status, ours=bool(answer.message)))


def _remedy(status: int, *, ours: bool) -> str:
    if status == 0:
        return "what is there speaks no HTTP/1.1; is the port right?"
    if status in (301, 302, 303, 307, 308):
        return "no client follows a redirect: give the URL that it leads to, with https://"
    if status in (400, 426):
        return (
            "the proxy does not pass the upgrade on: proxy_http_version 1.1; proxy_set_header "
            "Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;"
        )
    if status in (401, 403):
        return "--token TOKEN, one that is good for camera (relayctl token)"
    if status == 404:
        if ours:
            return (
                "relayd got another path than /ws/camera/...: the URL has one that the proxy does "
                "not take away, or proxy_pass adds one"
            )
        return "the proxy passes /ws/ on to nobody, or the URL lacks the path it stands under"
    if status == 429:
        return "too many from this address or on this server: wait, or raise the limits"
    if status in (502, 503):
        return "the proxy does not reach a relayd: is it running, and is the upstream right?"
    if status == 504:
        return "relayd does not answer the proxy in time: proxy_connect_timeout, and its log"
    if status == 200:
        return "a page answers there: /ws/ is passed on to something else than relayd"
    return "what answers there is no relayd"
