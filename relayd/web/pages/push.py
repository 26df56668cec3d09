"""The pages of server push: the form for a topic, and the progress of the jobs that publish to it.

A module of `pages`. The page of a topic is only a frame: `static/push.js` connects to
`/ws/push/{topic}`.
"""

from urllib.parse import quote

from twisted.internet.interfaces import IReactorTime

from relayd.relays.paths import KINDS
from relayd.web.answers import Answer, host_of, redirect
from relayd.web.backend import Backend
from relayd.web.pages.forms import answer_form
from relayd.web.request import Request
from relayd.web.routes import Route
from relayd.web.templates import View

_KIND = KINDS["push"]


class Push:
    """`/push/` and `/push/{topic}/`."""

    def __init__(self, backend: Backend, clock: IReactorTime) -> None:
        self._backend = backend

    def routes(self) -> list[Route]:
        """The routes of the pages."""
        return [
            Route.at("/push", GET=self.to_topics),
            Route.at("/push/", GET=self.topics),
            Route.at("/push/{topic}", GET=self.to_topic),
            Route.at("/push/{topic}/", GET=self.topic),
        ]

    def to_topics(self, request: Request) -> Answer:
        """Redirects `/push` to `/push/`."""
        return redirect("push/" + request.safe_query)

    def topics(self, request: Request) -> Answer:
        """The form for a topic; with `?topic=`, which the form sends, a redirect to the topic."""
        return answer_form(request, _KIND, _fill_form)

    def to_topic(self, request: Request, topic: str) -> Answer:
        """Redirects `/push/{topic}` to `/push/{topic}/`."""
        return redirect(quote(_KIND.parse(topic)) + "/" + request.safe_query)

    def topic(self, request: Request, topic: str) -> Answer:
        """The page of a topic."""
        view, name = View.of(request), _KIND.parse(topic)
        config = self._backend.config
        content = view.fill(
            "push",
            topic=name,
            host=host_of(request.header("Host")) or "relay.example",
            api="" if config.api.key else view.text("developers.api_off"),
            tokens="no" if config.auth.push == "django" else "yes",
            html_values=view.connection_parts(),
        )
        title = f"{name} · {view.text('nav.push')} · relayd"
        return view.page(content, title=title, section="push", script="push.js")


def _fill_form(view: View, name: str, problem: str) -> str:
    return view.fill(
        "choose",
        path="/push/",
        argument=_KIND.variable,
        asked=name,
        title=view.text("push.title"),
        about=view.text("push.about"),
        label=view.text("push.topic"),
        go=view.text("push.watch"),
        html_values={"problem": problem},
    )
