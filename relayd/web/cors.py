"""Which pages of other origins may read answers (Fetch standard, section 3.3). Pure.

Beside `site`, for `/api`, `/sse`, `/healthz` and `/readyz`. A page shows the key of the API by
itself, so no answer allows credentials, which would be the browser's own.
"""

import re
from collections.abc import Sequence

from relayd.errors import ErrorCode
from relayd.hosts.origins import fields_for_readers
from relayd.web.answers import Answer, error_answer
from relayd.web.request import Request

_PATHS = re.compile(r"/(api|sse|healthz|readyz)(/|$)")
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-None-Match, Last-Event-ID",
    "Access-Control-Max-Age": "600",
}


def cors_headers(request: Request, allowed: Sequence[str]) -> dict[str, str]:
    """The headers for every answer to a request, errors too, so that a page sees them.

    Args:
        request: the request.
        allowed: `[api] allowed_origins`; no page is allowed if it is empty.
    """
    if not allowed or not _PATHS.match(request.target):
        return {}
    return fields_for_readers(request.whole_header("Origin"), allowed)


def answer_preflight(request: Request, allowed: Sequence[str]) -> Answer | None:
    """The answer to a browser that asks before the request itself; None if it does not.

    It needs no key, which browsers do not send here, and is the same for every path.
    """
    if (
        not allowed
        or request.method != b"OPTIONS"
        or not _PATHS.match(request.target)
        or request.header("Access-Control-Request-Method") is None
    ):
        return None
    if "Access-Control-Allow-Origin" not in cors_headers(request, allowed):
        return error_answer(ErrorCode.ORIGIN_NOT_ALLOWED)
    return Answer(204, headers=_PREFLIGHT)
