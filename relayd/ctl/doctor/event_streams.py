"""Server-sent events through the public URL: whether a proxy passes each on at once.

Listed in `checks`. `public` finds the causes of other failures.
"""

import http.client
import secrets
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from relayd.ctl.doctor.facts import Facts
from relayd.ctl.doctor.findings import Finding, fault, ok, skipped, warn
from relayd.ctl.signing import sign_briefly

_TIMEOUT = 5.0  # seconds for the first event, which relayd sends at once
_REMEDY = (
    "in nginx `proxy_buffering off` in the location of /sse/, and no `proxy_ignore_headers "
    "X-Accel-Buffering`; in other proxies, no buffering and no compression of text/event-stream"
)


def look(facts: Facts) -> Iterator[Finding]:
    """Requests the events of a group of its own, and waits for the first."""
    url = facts.options.url
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        yield skipped("no --url with http:// or https:// was given")
        return
    path = f"{parts.path.rstrip('/')}/sse/camera/doctor-{secrets.token_hex(8)}"
    token = facts.options.token or sign_briefly(facts.config.auth, "camera")
    fields = {"Authorization": f"Bearer {token}"} if token else {}
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT)
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=_TIMEOUT, context=facts.trust()
        )
    try:
        connection.connect()
        yield _read(connection, path, fields, url)
    except TimeoutError:
        yield fault(f"{url} does not answer in {_TIMEOUT:g} s", "see the check websocket")
    except (ssl.SSLError, OSError, http.client.HTTPException) as error:
        yield skipped(f"no answer from {url}: {error}")
    finally:
        connection.close()


def _read(
    connection: http.client.HTTPConnection, path: str, fields: dict[str, str], url: str
) -> Finding:
    try:
        connection.request("GET", path, headers=fields)
        answer = connection.getresponse()
        if answer.status == 404:
            return warn(f"{url} has no /sse/: 404", "the proxy has to forward /sse/ to relayd, too")
        if answer.status != 200:
            return skipped(f"the request for events was answered with {answer.status}")
        line = answer.readline()
    except TimeoutError:
        return fault(
            f"no event came through {url} in {_TIMEOUT:g} s: a proxy buffers events", _REMEDY
        )
    if not line.startswith(b"event: hello"):
        return warn(f"{url} answers /sse/ with something else than events", "the proxy's routes")
    return ok(f"an event came through {url} at once")
