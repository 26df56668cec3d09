"""The HTML templates of the pages: files with `$name` placeholders; every value is escaped.

Sits below `request` (errors as pages) and `pages`. The files are in `static/`, which the package
contains; they have no inline scripts or styles, because the policy in `answers` forbids both.
"""

import html
import json
from http import HTTPStatus
from pathlib import Path
from string import Template

from relayd.web.answers import HTML, Answer

_FOLDER = Path(__file__).parent / "static"
_FILES = {path.stem: Template(path.read_text(encoding="utf-8")) for path in _FOLDER.glob("*.html")}


def fill(name: str, *, html_values: dict[str, str] | None = None, **values: object) -> str:
    """Fills the placeholders of a template.

    Args:
        name: of the file, without `.html`.
        html_values: values that are markup already, and are inserted unchanged.
        values: all other values; they are escaped.
    """
    escaped = {key: html.escape(str(value)) for key, value in values.items()}
    return _FILES[name].substitute(escaped, **(html_values or {}))


def page(title: str, content: str, status: int = 200, *, script: str = "") -> Answer:
    """Builds a whole page.

    Args:
        title: for the browser's tab.
        content: the markup of the page's body.
        status: the HTTP status.
        script: the name of a module in `/static/`, or empty.
    """
    load = f'<script type="module" src="/static/{script}"></script>' if script else ""
    text = fill("layout", title=title, html_values={"content": content, "script": load})
    return Answer(status, text.encode(), HTML, {"Cache-Control": "no-cache"})


def error_page(answer: Answer) -> Answer:
    """The page for a flat error object, with the same sentence, status and headers."""
    error = json.loads(answer.body)
    phrase = HTTPStatus(answer.status).phrase
    content = fill("error", status=answer.status, phrase=phrase, message=error["message"])
    built = page(phrase, content, answer.status)
    return Answer(built.status, built.body, built.content_type, answer.headers)
