"""The page `/`: what runs here, a card for each page, with its connections.

A module of `pages`.
"""

from twisted.internet.interfaces import IReactorTime

from relayd import __version__
from relayd.relays.paths import KINDS
from relayd.web.answers import Answer
from relayd.web.backend import Backend
from relayd.web.request import Request
from relayd.web.routes import Route
from relayd.web.templates import NAVIGATION, View

CARDS = {"camera": "camera", "pair": "difficulty", "push": "push", "chat": "chat"}
"""The pages that `/` shows, with the kind of path whose connections it counts. Each has the texts
`home.<page>` and `home.<page>_about`, and a picture in `html/look_<page>.html`."""
COUNTS_MEMORY = 1.0
"""Seconds for which the numbers of connections are kept, since strangers may ask for them often."""


class Home:
    """`/`."""

    def __init__(self, backend: Backend, clock: IReactorTime) -> None:
        self._backend = backend
        self._clock = clock
        self._counts: tuple[float, dict[str, int]] | None = None

    def routes(self) -> list[Route]:
        """The route of the page."""
        return [Route.at("/", GET=self.home)]

    def home(self, request: Request) -> Answer:
        """The page that shows what runs here."""
        view = View.of(request)
        cards = "".join(self._card(view, page) for page in CARDS)
        content = view.fill("home", version=__version__, html_values={"cards": cards})
        return view.page(content, title="relayd", section="home", script="home.js")

    def _card(self, view: View, page: str) -> str:
        kind = KINDS[CARDS[page]]
        is_on = kind.is_on(self._backend.config)
        count = self._connections().get(kind.name, 0)
        return view.fill(
            "card",
            path=NAVIGATION[page],
            name=view.text(f"home.{page}"),
            about=view.text(f"home.{page}_about"),
            kind=kind.name,
            count=view.text("home.count", n=count) if is_on else view.text("home.off"),
            html_values={"look": view.fill(f"look_{page}")},
        )

    def _connections(self) -> dict[str, int]:
        now = self._clock.seconds()
        if self._counts is None or now - self._counts[0] >= COUNTS_MEMORY:
            self._counts = now, self._backend.connection_counts()
        return self._counts[1]
