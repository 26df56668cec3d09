"""Brings a request head into the form in which Autobahn takes it, where the RFCs allow others.

Beside `opening`, which reads heads of the usual form; `handshake` has all others mended here.
"""

import re

_EXTENSIONS, _PROTOCOLS = b"sec-websocket-extensions", b"sec-websocket-protocol"
_ORIGIN = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9.-]+(?::\d{1,4})?|null")


def mend_head(head: bytes) -> tuple[bytes, str | None]:
    """A head with the same meaning that Autobahn takes.

    - A list of extensions or subprotocols may have several lines (RFC 6455 sections 11.3.2 and
      11.3.4), one of subprotocols empty elements (RFC 9110 section 5.6.1).
    - A port may be missing behind its colon (RFC 3986 section 3.2.3).
    - `Origin` may have a form that Autobahn does not know: `hosts.origins` decides about it.

    Args:
        head: a whole request head, with the empty line at its end.

    Returns:
        The head, and the origin that was taken out of it; None if none was.
    """
    request, *lines = head[:-4].split(b"\r\n")
    values: dict[bytes, list[bytes]] = {}
    for line in lines:
        key, value = _split(line)
        values.setdefault(key, []).append(value)
    mended: dict[bytes, bytes] = {}
    if len(values.get(_EXTENSIONS, ())) > 1:
        mended[_EXTENSIONS] = b", ".join(filter(None, values[_EXTENSIONS]))
    offered = [each.strip() for value in values.get(_PROTOCOLS, ()) for each in value.split(b",")]
    if b"" in offered:
        mended[_PROTOCOLS] = b", ".join(filter(None, offered))
    hosts, origins = values.get(b"host", []), values.get(b"origin", [])
    if len(hosts) == 1 and hosts[0].endswith(b":"):
        mended[b"host"] = hosts[0][:-1]
    odd = len(origins) == 1 and not _ORIGIN.fullmatch(origins[0])
    if odd:
        mended[b"origin"] = b""
    if not mended:
        return head, None
    kept = []
    for line in lines:
        key, _ = _split(line)
        if key not in mended:
            kept.append(line)
        elif value := mended[key]:
            kept.append(key + b": " + value)
            mended[key] = b""
    return b"\r\n".join([request, *kept, b"", b""]), origins[0].decode("latin-1") if odd else None


def _split(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.strip().lower(), value.strip()
