"""The form for the name in a path: of a camera group, a topic or a chat room.

Under the other modules of `pages`. A form sends the name to its own page, which answers with a
redirect to the page of that name, or with what is wrong with it.
"""

from collections.abc import Callable
from urllib.parse import quote

from relayd.errors import Refusal
from relayd.names import Kind
from relayd.web.answers import Answer, redirect
from relayd.web.request import Request
from relayd.web.templates import View


def answer_form(
    request: Request,
    kind: Kind,
    fill: Callable[[View, str, str], str],
    *,
    default: str = "",
    script: str = "",
) -> Answer:
    """The page with the form, or a redirect from it.

    Args:
        request: the request; its parameter is the kind's variable, such as `?group=`.
        kind: the kind of path, whose grammar the name has, and whose name is the page's section.
        fill: returns the content of the page, from the visitor's view, the name in the form, and
            markup for what is wrong with it, which may be empty.
        default: the name in the form of a visitor who has not asked yet.
        script: as of `View.page`.
    """
    asked = request.argument(kind.variable)
    name = default if asked is None else asked.strip()
    refusal = None
    if asked is not None:
        try:
            return redirect(quote(kind.parse(quote(name))) + "/", 303)
        except Refusal as refused:
            refusal = refused
    view = View.of(request)
    content = fill(view, name, "" if refusal is None else view.problem(refusal))
    status = refusal.status if refusal else 200
    title = f"{view.text(f'nav.{kind.name}')} · relayd"
    return view.page(
        content, title=title, section=kind.name, status=status, script=script, shape="narrow"
    )
