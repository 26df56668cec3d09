"""The pages of the cameras: the form for a group, the map of a group, and the page that sends.

A module of `pages`. Map and sender are only frames: `static/camera.js` and `static/camera_send.js`
connect to `/ws/camera/{group}`.
"""

from urllib.parse import quote

from twisted.internet.interfaces import IReactorTime

from relayd.relays.paths import KINDS
from relayd.web.answers import Answer, redirect
from relayd.web.backend import Backend
from relayd.web.pages.forms import answer_form
from relayd.web.request import Request
from relayd.web.routes import Route
from relayd.web.templates import View

_KIND = KINDS["camera"]


class Camera:
    """`/camera/`, `/camera/{group}/` and `/camera/{group}/send`."""

    def __init__(self, backend: Backend, clock: IReactorTime) -> None:
        self._backend = backend

    def routes(self) -> list[Route]:
        """The routes of the pages."""
        return [
            Route.at("/camera", GET=self.to_groups),
            Route.at("/camera/", GET=self.groups),
            Route.at("/camera/{group}", GET=self.to_group),
            Route.at("/camera/{group}/", GET=self.group),
            Route.at("/camera/{group}/send", GET=self.send),
        ]

    def to_groups(self, request: Request) -> Answer:
        """Redirects `/camera` to `/camera/`."""
        return redirect("camera/" + request.safe_query)

    def groups(self, request: Request) -> Answer:
        """The form for a group; with `?group=`, which the form sends, a redirect to the group."""
        default = "" if _KIND.default is None else _KIND.default(self._backend.config)
        return answer_form(request, _KIND, _fill_form, default=default)

    def to_group(self, request: Request, group: str) -> Answer:
        """Redirects `/camera/{group}` to `/camera/{group}/`."""
        return redirect(quote(_KIND.parse(group)) + "/" + request.safe_query)

    def group(self, request: Request, group: str) -> Answer:
        """The map of a group."""
        return self._frame(request, group, "camera", "full")

    def send(self, request: Request, group: str) -> Answer:
        """The page that is a camera."""
        return self._frame(request, group, "camera_send", "")

    def _frame(self, request: Request, group: str, page: str, shape: str) -> Answer:
        view, name = View.of(request), _KIND.parse(group)
        content = view.fill(
            page,
            group=name,
            tokens="no" if self._backend.config.auth.camera == "django" else "yes",
            html_values=view.connection_parts(),
        )
        title = f"{name} · {view.text('nav.camera')} · relayd"
        return view.page(content, title=title, section="camera", script=f"{page}.js", shape=shape)


def _fill_form(view: View, name: str, problem: str) -> str:
    return view.fill(
        "choose",
        path="/camera/",
        argument=_KIND.variable,
        asked=name,
        title=view.text("camera.title"),
        about=view.text("camera.about"),
        label=view.text("camera.group"),
        go=view.text("camera.watch"),
        html_values={"problem": problem},
    )
