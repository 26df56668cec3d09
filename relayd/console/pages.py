"""The pages of the console: frames that their modules in `static/` fill with data.

Under `console`, on `web.templates`. A page without its session is never built, and no page has data
in it, so that the browser's cache has none either.
"""

import html
from collections.abc import Mapping
from dataclasses import replace

from relayd import __version__
from relayd.console.content import TABLES
from relayd.console.door import PRIVATE, Guarded
from relayd.console.sessions import PATH, Session
from relayd.errors import ErrorCode, Refusal
from relayd.relays.paths import KINDS
from relayd.storage.tables import Table
from relayd.web.answers import Answer
from relayd.web.request import Request
from relayd.web.templates import View

_TABS = ("overview", "clients", *TABLES)


class Pages:
    """The login and the pages for operators.

    Attributes:
        table: the pages for operators by their paths.
    """

    def __init__(self) -> None:
        self.table: dict[str, Guarded] = {PATH: self._overview, f"{PATH}clients": self._clients}
        for table in TABLES.values():
            self.table[PATH + table.name] = self._content(table)

    def login(self, request: Request, refusal: Refusal | None) -> Answer:
        """The form for the password, with the reason why it was refused."""
        problem, status, headers = "", 200, dict(PRIVATE)
        if refusal is not None:
            wrong = refusal.code is ErrorCode.UNAUTHORIZED
            text = "This is not the password." if wrong else refusal.message
            problem = f'<p class="problem" role="alert">{html.escape(text)}</p>'
            status = 403 if wrong else refusal.status
            headers |= {name: value for name, value in refusal.headers.items() if not wrong}
        view = View.of(request).english
        content = view.fill("console-login", html_values={"problem": problem})
        page = view.page(content, title="relayd console", status=status, shape="narrow")
        return _private(page, headers)

    def _overview(self, session: Session, request: Request) -> Answer:
        """The processes, charts and warnings."""
        values = {"header": _header("overview")}
        content = View().fill("console", version=__version__, html_values=values)
        return _page(request, "Overview", content, "console.js")

    def _clients(self, session: Session, request: Request) -> Answer:
        """The search for clients."""
        kinds = "".join(f"<option>{html.escape(kind.name)}</option>" for kind in KINDS)
        values = {"header": _header("clients"), "kinds": kinds}
        content = View().fill("console-clients", html_values=values)
        return _page(request, "Clients", content, "console-clients.js")

    def _content(self, table: Table) -> Guarded:
        """The page of a table."""
        title = table.name.capitalize()
        heads = "".join(f"<th{_numeric(name)}>{name}" for name in table.columns)
        fields = "".join(_field(name) for name in table.columns[1:])
        values = {"header": _header(table.name), "heads": heads, "fields": fields}
        content = View().fill("console-content", title=title, table=table.name, html_values=values)

        def page(session: Session, request: Request) -> Answer:
            return _page(request, title, content, "console-content.js")

        return page


def _header(current: str) -> str:
    marks = {name: ' aria-current="page"' if name == current else "" for name in _TABS}
    return View().fill("console-header", html_values=marks)


def _numeric(name: str) -> str:
    return ' class="number"' if name in ("id", "difficulty") else ""


def _field(name: str) -> str:
    """The label and the input of a column."""
    more = ' inputmode="numeric" required' if name == "difficulty" else ' maxlength="255"'
    return (
        f'<label for="field-{name}">{name}</label>'
        f'<input id="field-{name}" name="{name}" autocomplete="off"{more}>'
    )


def _page(request: Request, title: str, content: str, script: str) -> Answer:
    view, title = View.of(request).english, f"{title} · relayd console"
    return _private(view.page(content, title=title, script=script, shape="console"), PRIVATE)


def _private(answer: Answer, headers: Mapping[str, str]) -> Answer:
    return replace(answer, headers={**answer.headers, **headers})
