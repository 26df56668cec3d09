"""A real WebSocket through the public URL, and the causes of its typical failures.

Listed in `checks`; `visitor` is the client.
"""

import asyncio
import secrets
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from relayd.ctl.doctor.facts import Facts
from relayd.ctl.doctor.findings import Finding, fault, ok, skipped, warn
from relayd.ctl.doctor.visitor import Answered, Ended, visit
from relayd.ctl.signing import sign_briefly

_TIMEOUT = 10.0  # seconds


def look(facts: Facts) -> Iterator[Finding]:
    """Opens a WebSocket in a group of its own, sends a pose, receives it, and closes."""
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
            f"{url} is not encrypted: pages from https:// may not connect",
            "TLS in the proxy; clients use wss://",
        )
    path = f"{parts.path.rstrip('/')}/ws/camera/doctor-{secrets.token_hex(8)}"
    address = f"{'wss' if secure else 'ws'}://{parts.netloc}{path}"
    hold = facts.options.hold
    trust = facts.trust() if secure else None
    token = facts.options.token or sign_briefly(facts.config.auth, "camera")
    try:
        asyncio.run(visit(address, trust, token, hold=hold, timeout=_TIMEOUT))
    except Answered as answer:
        yield _diagnose(answer, url)
    except Ended as ended:
        yield fault(
            f"the WebSocket through {url} was ended with the code {ended.code} {ended.when}",
            "relayd's log has the connection under /ws/camera/doctor-...; if the log does not show "
            "its end, a proxy has ended it: check its timeouts",
        )
    except TimeoutError:
        yield fault(
            f"a pose through {url} did not come back in {_TIMEOUT:g} s",
            "does a proxy buffer frames, or forward them to another server?",
        )
    except ssl.SSLError as error:
        # for a newer OpenSSL, Python has no reason code but only the text
        if "application protocol" in str(error).lower().replace("_", " "):
            yield fault(
                f"{url} speaks HTTP/2 only; WebSockets need HTTP/1.1 beside it",
                "offer both in ALPN: h2,http/1.1",
            )
        else:
            yield skipped(f"no TLS connection: {error.reason or error}")
    except OSError as error:
        yield fault(
            f"{url} cannot be reached: {error.strerror or error}",
            "does the name resolve to this server, and do firewall and proxy allow the port?",
        )
    else:
        idle = f", also after {hold:g} s without frames" if hold else ""
        yield ok(f"a pose went through {url} and came back{idle}")


def _diagnose(answer: Answered, url: str) -> Finding:
    try:  # proxies replace relayd's name in the header Server
        message = msgspec.json.decode(answer.body, type=dict[str, str])["message"]
    except (msgspec.MsgspecError, KeyError):
        message = ""
    server = "relayd" if message and answer.status != 503 else answer.server or "a server"
    text = f"the handshake through {url} was answered with {answer.status} by {server}"
    if message:
        text += f": {message.rstrip('.')}"
    return fault(text, _remedy(answer.status, ours=bool(message)))


def _remedy(status: int, *, ours: bool) -> str:
    if status == 0:
        return "the server there does not speak HTTP/1.1; is the port right?"
    if status in (301, 302, 303, 307, 308):
        return "no client follows a redirect: use the URL that it leads to, with https://"
    if status in (400, 426):
        return (
            "the proxy does not forward the upgrade: proxy_http_version 1.1; proxy_set_header "
            "Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;"
        )
    if status in (401, 403):
        return "--token-file FILE, with one that is valid for camera (relayctl token)"
    if status == 404:
        if ours:
            return (
                "relayd got another path than /ws/camera/...: the URL has a prefix that the proxy "
                "does not remove, or proxy_pass adds one"
            )
        return "the proxy does not forward /ws/, or the URL lacks its prefix"
    if status == 429:
        return "too many connections from this address or on this server: wait, or raise the limits"
    if status in (502, 503):
        return "the proxy does not reach a relayd: is it running, and is the upstream right?"
    if status == 504:
        return "relayd does not answer the proxy in time: proxy_connect_timeout, and its log"
    if status == 200:
        return "a page answers there: /ws/ is forwarded to another server than relayd"
    return "the server that answers there is no relayd"
