"""The pages for people: one small module here, and one template in `html/`, for each.

Between `templates` and `site`. **A page is added** so:

1. `pages/<name>.py`: a class whose `routes` returns its routes, and an entry in `PAGES` below; its
   handlers fill a template and wrap it: `view = View.of(request)`, `view.page(view.fill(…), …)`;
2. `html/<name>.html`: the inside of `<main>`, with one `<h1>`; texts as `$<name>.title`;
3. the texts, in every file of `languages/`; those that its script needs begin with `<name>.js.`;
4. `static/<name>.js`, if it has a script, which imports `text` from `./texts.js`. A page with a
   connection imports a class of `/clients/relayd.js`, fills `view.connection_parts()` into its
   template and calls `follow` of `static/status.js`;
5. `templates.NAVIGATION`, if the head of every page links it; `pages.home.CARDS` if `/` shows it,
   with a picture in `html/look_<name>.html`; `tests/web_pages.py`, the table of pages that the
   tests open: both languages, light and dark, phone and desktop, axe-core.

A page whose links are relative has a slash at its end; without it, it redirects there.
"""

from twisted.internet.interfaces import IReactorTime

from relayd.web.backend import Backend
from relayd.web.pages.camera import Camera
from relayd.web.pages.chat import Chat
from relayd.web.pages.developers import Developers
from relayd.web.pages.home import Home
from relayd.web.pages.pair import Pair
from relayd.web.pages.push import Push
from relayd.web.routes import Route

PAGES = (Home, Developers, Camera, Pair, Push, Chat)


def page_routes(backend: Backend, clock: IReactorTime) -> list[Route]:
    """The routes of all pages."""
    return [route for page in PAGES for route in page(backend, clock).routes()]
