"""`GET /api/quizzes/{ids}` and `/api/actions/{ids}`: the texts of what was drawn, for headsets.

Mounted by `site`, on `visitors` and `storage.lookup`. These paths are for whoever may
connect to `/ws/difficulty`, and for those who have the key of the API.
"""

import re
from functools import partial
from urllib.parse import unquote

from relayd import wire
from relayd.errors import ErrorCode, Refusal
from relayd.names import listed
from relayd.storage.lookup import Lookup
from relayd.storage.tables import ACTIONS, QUIZZES, Table
from relayd.web.answers import Answer, tagged_answer
from relayd.web.request import Request
from relayd.web.routes import Route
from relayd.web.visitors import Visitors

MOST = 50
"""Ids of one request."""
_TABLES = (QUIZZES, ACTIONS)
_PREFIXES = tuple(f"/api/{table.name}/" for table in _TABLES)
_KIND = "difficulty"  # of the path whose rule holds here, too
_IDS = re.compile(r"[0-9]{1,10}(?:,[0-9]{1,10})*", re.ASCII)


class Texts:
    """The paths of the texts (`web.routes.Mounted`).

    Args:
        visitors: finds out who asks.
        lookup: reads the rows.
    """

    quiet = ()

    def __init__(self, visitors: Visitors, lookup: Lookup) -> None:
        self._visitors = visitors
        self._lookup = lookup
        self.routes = [
            Route.at(f"/api/{table.name}/{{ids}}[/]", GET=partial(self._serve, table))
            for table in _TABLES
        ]

    def covers(self, path: str) -> bool:
        """Whether a path begins with one of its two prefixes."""
        return path.startswith(_PREFIXES)

    def admit(self, request: Request) -> Answer | None:
        """Nothing is refused by its head alone: a token may have to wait for its key."""
        return None

    def max_body(self, path: str) -> int | None:
        """None: a body is of no use here, and has the usual size."""
        return None

    async def _serve(self, table: Table, request: Request, ids: str) -> Answer:
        """The rows, in the order of their ids in the path; 304 if the client has them already.

        Args:
            table: which of both.
            request: the request.
            ids: up to `MOST` of them with commas, still percent-encoded.

        Raises:
            Refusal: 401, 403, 429 or 503, as for a handshake; 400, these are no ids; 404, there is
                no row of one of them.
            DatabaseUnavailable: the database does not answer.
        """
        await self._visitors.identify(request, _KIND)
        wanted = _read_ids(unquote(ids))
        found = await self._lookup.find(table, wanted, request.client_host)
        missing = [str(id) for id, row in found.items() if row is None]
        if missing:
            raise Refusal(
                ErrorCode.NOT_FOUND, f"There is no id {listed(missing, 'or')} in {table.name}."
            )
        body = wire.encode({table.name: list(found.values())})
        # no shared cache may keep what needs a token
        answer = tagged_answer(body, headers={"Cache-Control": "private, no-cache"})
        return answer.unless_known(request.header("If-None-Match"))


def _read_ids(text: str) -> list[int]:
    """Different ids in their order. Raises Refusal: 400."""
    if not _IDS.fullmatch(text):
        raise Refusal(ErrorCode.BAD_REQUEST, "Name ids as whole numbers with commas: 3 or 3,8,12.")
    ids = list(dict.fromkeys(map(int, text.split(","))))
    if len(ids) > MOST:
        raise Refusal(ErrorCode.BAD_REQUEST, f"Name {MOST} ids at most.")
    return ids
