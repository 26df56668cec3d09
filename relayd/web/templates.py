"""Pages from templates, in the language and colours of a visitor; every value is escaped.

Sits below `request` (errors as pages) and `pages`. A template is a file in `html/`; in it, `$name`
is a value and `$home.title`, with a dot, a text of the catalogue, in which `` `code` `` becomes
`<code>`. There are no inline scripts or styles, because the policy in `answers` forbids both.

Language and colours come from the query (`?lang=ja`, `?theme=dark`: the links in the head of a
page), else from the cookie that such a link sets, else from `Accept-Language` and the system.
"""

import html
import json
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from string import Template
from typing import Protocol

from relayd.web.answers import HTML, Answer
from relayd.web.catalogues import CATALOGUES, DEFAULT, Catalogue, choose

NAVIGATION = {
    "camera": "/camera/",
    "pair": "/pair/",
    "push": "/push/",
    "chat": "/chat/",
    "developers": "/developers",
}
"""The pages in the head of every page, with their paths; the key `nav.<name>` has the text."""
THEMES = ("system", "dark", "light")

_COOKIES = {"lang": "relayd_lang", "theme": "relayd_theme"}
_YEAR = 365 * 24 * 3600
_BACKTICKS = re.compile("`([^`]*)`")


class _Html(Template):
    idpattern = r"(?a:[a-z_][a-z0-9_]*(?:\.[a-z0-9_]+)*)"


FOLDER = Path(__file__).parent / "html"
_FILES = {path.stem: _Html(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.html")}


class Visitor(Protocol):
    """The part of a request that says what a visitor prefers."""

    def argument(self, name: str) -> str | None:
        """The first value of a name in the query."""

    def whole_header(self, name: str) -> str | None:
        """A list header, its lines joined."""


@dataclass(frozen=True)
class View:
    """Builds pages for one visitor.

    Attributes:
        catalogue: the texts in the visitor's language.
        theme: one of `THEMES`.
        cookies: those that the answer sets, since the visitor has just chosen.
    """

    catalogue: Catalogue = field(default_factory=lambda: CATALOGUES[DEFAULT])
    theme: str = THEMES[0]
    cookies: tuple[str, ...] = ()

    @classmethod
    def of(cls, visitor: Visitor) -> "View":
        """The view for the sender of a request."""
        kept = _read_cookies(visitor.whole_header("Cookie") or "")
        cookies = []
        chosen = {}
        for name, allowed in (("lang", tuple(CATALOGUES)), ("theme", THEMES)):
            asked, known = visitor.argument(name), kept.get(_COOKIES[name])
            if asked in allowed:
                cookies.append(
                    f"{_COOKIES[name]}={asked}; Path=/; Max-Age={_YEAR}; SameSite=Lax; HttpOnly"
                )
            chosen[name] = next((each for each in (asked, known) if each in allowed), None)
        language, theme = chosen["lang"], chosen["theme"]
        accepted = visitor.whole_header("Accept-Language")
        catalogue = choose(accepted) if language is None else CATALOGUES[language]
        return cls(catalogue, theme or THEMES[0], tuple(cookies))

    def text(self, key: str, **values: object) -> str:
        """A text of the catalogue, not escaped; `{name}` in it is replaced by a value."""
        return self.catalogue.texts[key].format(**values)

    def sentence(self, english: str) -> str:
        """Markup for a sentence of the code, translated if the catalogue has it."""
        text, tag = self.catalogue.sentence(english)
        marked = _mark_code(text)
        return marked if tag == self.catalogue.tag else f'<span lang="{tag}">{marked}</span>'

    def fill(
        self, name: str, /, *, html_values: dict[str, str] | None = None, **values: object
    ) -> str:
        """Fills the placeholders of a template.

        Args:
            name: of the file, without `.html`.
            html_values: values that are markup already, and are inserted unchanged.
            values: all other values; they are escaped.
        """
        texts = _Texts(self.catalogue)
        texts.update({key: html.escape(str(value)) for key, value in values.items()})
        texts.update(html_values or {})
        return _FILES[name].substitute(texts)

    def page(
        self,
        content: str,
        *,
        title: str,
        section: str = "",
        status: int = 200,
        script: str = "",
        shape: str = "",
    ) -> Answer:
        """Builds a whole page.

        Args:
            content: the markup inside its `<main>`.
            title: for the browser's tab.
            section: the entry of `NAVIGATION` that it belongs to.
            status: the HTTP status.
            script: the name of a module in `/static/`, or empty. It gets the texts whose keys
                begin with `<section>.js.` or `<its name>.js.`, if there are any, and `js.` (see
                `static/texts.js`).
            shape: `narrow` for a form, `full` for a page that fills the window, or a class of the
                page's own; the class of `<body>`.
        """
        text = self.fill(
            "layout",
            title=title,
            language=self.catalogue.tag,
            theme=self.theme,
            next_theme=THEMES[(THEMES.index(self.theme) + 1) % len(THEMES)],
            theme_name=self.text(f"theme.{self.theme}"),
            shape=shape,
            html_values={
                "content": content,
                "script": self._script(script, section) if script else "",
                "links": "".join(self._link(name, name == section) for name in NAVIGATION),
                "languages": "".join(map(self._language, CATALOGUES.values())),
            },
        )
        headers = {
            "Cache-Control": "private, no-cache",
            "Vary": "Accept-Language, Cookie",
            "Content-Language": self.catalogue.tag,
        }
        return Answer(status, text.encode(), HTML, headers, self.cookies)

    def error(self, answer: Answer) -> Answer:
        """The page for a flat error object, with the same sentence, status and headers."""
        message = json.loads(answer.body)["message"]
        phrase = HTTPStatus(answer.status).phrase
        content = self.fill(
            "error",
            status=answer.status,
            phrase=self.catalogue.sentence(phrase)[0],
            html_values={"message": self.sentence(message)},
        )
        title = f"{answer.status} {self.catalogue.sentence(phrase)[0]}"
        built = self.page(content, title=title, status=answer.status, shape="narrow")
        headers = {**built.headers, **answer.headers}
        return Answer(built.status, built.body, built.content_type, headers, built.cookies)

    def problem(self, error: Exception) -> str:
        """Markup for what is wrong with a form."""
        return f'<p class="problem" role="alert">{self.sentence(str(error))}</p>'

    def connection_parts(self) -> dict[str, str]:
        """The values `status` and `token` of a template whose script calls `follow`."""
        return {"status": self.fill("status"), "token": self.fill("token")}

    def _script(self, script: str, section: str) -> str:
        own = f"{section}.js.", f"{script.removesuffix('.js')}.js."
        texts = self.catalogue.group(own) and self.catalogue.group(("js.", *own))
        return self.fill(
            "script",
            path=f"/static/{script}",
            html_values={"texts": json.dumps(texts, ensure_ascii=False).replace("<", "\\u003c")},
        )

    def _link(self, name: str, is_current: bool) -> str:
        current = ' aria-current="page"' if is_current else ""
        text = html.escape(self.catalogue.texts[f"nav.{name}"])
        return f'<a href="{NAVIGATION[name]}"{current}>{text}</a>'

    def _language(self, other: Catalogue) -> str:
        if other.tag == self.catalogue.tag:
            return ""
        name = html.escape(other.texts["language"])
        return f'<a href="?lang={other.tag}" lang="{other.tag}" hreflang="{other.tag}">{name}</a>'


class _Texts(dict[str, str]):
    """The values of a template; a name with a dot is a text of the catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__()
        self._catalogue = catalogue

    def __missing__(self, name: str) -> str:
        return _mark_code(self._catalogue.texts[name])


def _mark_code(text: str) -> str:
    return _BACKTICKS.sub(r"<code>\1</code>", html.escape(text))


def _read_cookies(header: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in header.split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs}
