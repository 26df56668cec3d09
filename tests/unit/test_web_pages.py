"""The pages and static files: what they say, where they lead, what they do not let in or out."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from relayd import __version__
from relayd.config import Api, Auth, Config, Echo, Limits
from relayd.web.static_files import FOLDER, TYPES
from tests.unit.web_fakes import FakeBackend, ask

HTML = "Accept: text/html\r\n"


class Tags(HTMLParser):
    """Collects the elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def get(path: str, config: Config | None = None, status: int = 200) -> str:
    """The text of a page."""
    reply = ask(FakeBackend(config=config or Config()), "GET", path, headers=HTML)
    assert reply.status == status
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    return reply.body.decode()


def test_the_first_page_names_the_version_and_links_every_enabled_page() -> None:
    page = get("/")
    assert __version__ in page
    links = {link["href"] for link in Tags(page).all("a")}
    assert {"/chat/", "/chat/lobby/", "/healthz", "/readyz"} <= links
    for path in ("/ws/camera", "/ws/difficulty", "/ws/chat", "/ws/push", "/ws/echo", "/api/push"):
        assert path in page
    assert ">41<" in page  # connections to /ws/camera


def test_the_first_page_names_disabled_features() -> None:
    off = get("/")
    on = get("/", Config(echo=Echo(enabled=True), api=Api(key="k")))
    assert off.count(">off<") == 2
    assert on.count(">off<") == 0


@pytest.mark.parametrize("path", ["/", "/chat/", "/chat/?room=a+b", "/chat/lobby/", "/nothing"])
def test_no_page_has_inline_script_or_style(path: str) -> None:
    page = ask(FakeBackend(), "GET", path, headers=HTML).body.decode()
    tags = Tags(page)
    assert tags.all("style") == []
    for script in tags.all("script"):
        assert re.fullmatch(r"/static/\w+\.js", script["src"] or "")
    for tag, attributes in tags.found:
        assert "style" not in attributes, tag
        assert not any(name.startswith("on") for name in attributes), tag
    assert "$" not in page  # no hole is left


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/chat", "chat/"),
        ("/chat?x=1", "chat/?x=1"),
        ("/chat/lobby", "lobby/"),
        ("/chat/lobby?x=%20", "lobby/?x=%20"),
        ("/chat/Gr%C3%BC%C3%9Fe", "Gr%C3%BC%C3%9Fe/"),
    ],
)
def test_a_page_without_its_slash_redirects_to_it(path: str, location: str) -> None:
    reply = ask(FakeBackend(), "GET", path)
    assert (reply.status, reply.headers["location"]) == (308, location)


@pytest.mark.parametrize(
    ("asked", "location"),
    [("lobby", "lobby/"), ("+lobby+", "lobby/"), ("Gr%C3%BC%C3%9Fe", "Gr%C3%BC%C3%9Fe/")],
)
def test_the_form_leads_to_the_room(asked: str, location: str) -> None:
    reply = ask(FakeBackend(), "GET", f"/chat/?room={asked}")
    assert (reply.status, reply.headers["location"]) == (303, location)


@pytest.mark.parametrize("asked", ["", "a+b", "..", "%2F%2Fevil.example", "%FF", "x" * 101])
def test_the_form_says_what_is_wrong_with_a_name(asked: str) -> None:
    assert 'role="alert"' in get(f"/chat/?room={asked}", status=400)


def test_the_requested_path_is_shown_as_text() -> None:
    page = get("/chat/?room=%22%3E%3Cscript%3Ealert(1)%3C/script%3E", status=400)
    assert Tags(page).all("script") == []
    [room] = [field for field in Tags(page).all("input") if field["id"] == "room"]
    assert room["value"] == '"><script>alert(1)</script>'


def test_a_room_hands_its_settings_to_its_script() -> None:
    config = Config(limits=Limits(max_message_size=77))
    [main] = Tags(get("/chat/Gr%C3%BC%C3%9Fe/", config)).all("main")
    assert main["data-room"] == "Grüße"
    assert main["data-limit"] == "77"
    assert main["data-tokens"] == "yes"


def test_a_room_for_users_of_a_site_asks_for_no_token() -> None:
    [main] = Tags(get("/chat/lobby/", Config(auth=Auth(chat="django")))).all("main")
    assert main["data-tokens"] == "no"


@pytest.mark.parametrize("room", ["a%20b", "%3Cb%3E", "a.b", "x" * 101, "%ff", "%E2%82%AC"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_bad_room_is_answered_400(room: str, slash: str) -> None:
    assert "<h1>400" in get(f"/chat/{room}{slash}", status=400)


# Static files


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_a_file_is_served_with_its_type_or_not_at_all(path: Path) -> None:
    reply = ask(FakeBackend(), "GET", f"/static/{path.name}")
    if path.suffix == ".html":
        assert reply.status == 404
        return
    assert (reply.status, reply.body) == (200, path.read_bytes())
    assert reply.headers["content-type"] == TYPES[path.suffix]


def test_a_file_is_revalidated_each_time_and_sent_once() -> None:
    first = ask(FakeBackend(), "GET", "/static/room.js")
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    for shown in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = ask(FakeBackend(), "GET", "/static/room.js", headers=f"If-None-Match: {shown}\r\n")
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    other = ask(FakeBackend(), "GET", "/static/room.js", headers='If-None-Match: "other"\r\n')
    assert other.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static",
        "/static/../site.py",
        "/static/..%2fsite.py",
        "/static/%2e%2e/site.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/.",
        "/static/room.js%00.css",
        "/static/room.js/",
    ],
)
def test_a_path_cannot_leave_the_folder_and_no_listing_is_served(path: str) -> None:
    reply = ask(FakeBackend(), "GET", path)
    assert (reply.status, reply.json["error"]) == (404, "not_found")


def test_the_scripts_never_turn_text_into_markup() -> None:
    for path in FOLDER.glob("*.js"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b",
            path.read_text(encoding="utf-8"),
        ), path.name
