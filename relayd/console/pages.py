"""The pages of the console: frames that their modules in `web/static/` fill with data.

Under `console`, on `web.templates`. No page has data in it, so a browser's cache has none either.
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

_TITLES = {"quizzes": "console.quizzes", "actions": "console.actions"}
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
        view, problem, status, headers = View.of(request), "", 200, dict(PRIVATE)
        if refusal is not None:
            wrong = refusal.code is ErrorCode.UNAUTHORIZED
            told = html.escape(view.text("console.wrong"))
            reason = told if wrong else view.sentence(refusal.message)
            problem = f'<p class="problem" role="alert">{reason}</p>'
            status = 403 if wrong else refusal.status
            headers |= {name: value for name, value in refusal.headers.items() if not wrong}
        content = view.fill("console_login", html_values={"problem": problem})
        title = f"{view.text('console.title')} · relayd"
        answer = view.page(content, title=title, section="console", status=status, shape="narrow")
        return _private(answer, headers)

    def _overview(self, session: Session, request: Request) -> Answer:
        """The processes, charts and warnings."""
        view = View.of(request)
        values = {"tabs": _tabs(view, "overview")}
        content = view.fill("console_overview", version=__version__, html_values=values)
        return _page(view, "console.overview", content, "console.js")

    def _clients(self, session: Session, request: Request) -> Answer:
        """The search for clients."""
        view = View.of(request)
        kinds = "".join(f"<option>{html.escape(kind.name)}</option>" for kind in KINDS)
        values = {"tabs": _tabs(view, "clients"), "kinds": kinds}
        content = view.fill("console_clients", html_values=values)
        return _page(view, "console.clients", content, "console_clients.js")

    def _content(self, table: Table) -> Guarded:
        """The page of a table."""
        heads = "".join(f"<th{_numeric(name)}>{name}" for name in table.columns)
        fields = "".join(_field(name) for name in table.columns[1:])

        def page(session: Session, request: Request) -> Answer:
            view, title = View.of(request), _TITLES[table.name]
            values = {"tabs": _tabs(view, table.name), "heads": heads, "fields": fields}
            content = view.fill(
                "console_content", title=view.text(title), table=table.name, html_values=values
            )
            return _page(view, title, content, "console_content.js")

        return page


def _tabs(view: View, current: str) -> str:
    marks = {name: ' aria-current="page"' if name == current else "" for name in _TABS}
    return view.fill("console_tabs", html_values=marks)


def _numeric(name: str) -> str:
    return ' class="number"' if name in ("id", "difficulty") else ""


def _field(name: str) -> str:
    """The label and the input of a column."""
    more = ' inputmode="numeric" required' if name == "difficulty" else ' maxlength="255"'
    return (
        f'<label for="field-{name}">{name}</label>'
        f'<input id="field-{name}" name="{name}" autocomplete="off"{more}>'
    )


def _page(view: View, title: str, content: str, script: str) -> Answer:
    title = f"{view.text(title)} · {view.text('console.title')} · relayd"
    page = view.page(content, title=title, section="console", script=script, shape="console")
    return _private(page, PRIVATE)


def _private(answer: Answer, headers: Mapping[str, str]) -> Answer:
    """The answer with further headers."""
    return replace(answer, headers={**answer.headers, **headers})
