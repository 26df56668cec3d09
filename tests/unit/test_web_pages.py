"""The pages and static files: what they say, where they lead, what they do not let in or out."""

import json
import re
from html.parser import HTMLParser
from http import HTTPStatus
from pathlib import Path

import pytest

from relayd import __version__
from relayd.config import Api, Auth, Chat, Config, Echo, Limits
from relayd.errors import ErrorCode
from relayd.relays.paths import KINDS
from relayd.web import catalogues, templates
from relayd.web.catalogues import CATALOGUES
from relayd.web.pages.home import CARDS
from relayd.web.static_files import FOLDER, TYPES
from tests.unit.web_fakes import FakeBackend, Reply, ask
from tests.web_pages import PAGES

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

    def by_id(self, name: str) -> dict[str, str | None]:
        [found] = [attributes for _, attributes in self.found if attributes.get("id") == name]
        return found


def get(path: str, config: Config | None = None, status: int = 200) -> str:
    """The text of a page."""
    reply = ask(FakeBackend(config=config or Config()), "GET", path, headers=HTML)
    assert reply.status == status
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    return reply.body.decode()


def test_the_first_page_names_the_version_and_shows_each_page_with_its_connections() -> None:
    page = get("/")
    assert __version__ in page
    links = {link["href"] for link in Tags(page).all("a")}
    assert {*(templates.NAVIGATION[card] for card in CARDS), "/developers", "/readyz"} <= links
    assert [each["data-count"] for each in Tags(page).all("p") if "data-count" in each] == [
        *CARDS.values()
    ]
    assert "Connected now: 12" in page


def test_the_page_for_developers_names_every_path_and_the_host_of_the_request() -> None:
    reply = ask(FakeBackend(), "GET", "/developers", headers=HTML, host="relay.test:81")
    page = reply.body.decode()
    for path in ("/ws/camera", "/ws/difficulty", "/ws/chat", "/ws/push", "/ws/echo", "/api/push"):
        assert path in page
    assert '<span data-origin="ws">ws://relay.test:81</span>/ws/camera/demo' in page
    assert "HOST" not in page


def test_a_host_that_is_no_name_is_not_put_into_the_examples() -> None:
    page = ask(FakeBackend(), "GET", "/developers", headers=HTML, host="<b>").body.decode()
    assert "ws://relay.example" in page
    assert "<b>" not in page


def test_the_page_for_developers_names_disabled_features() -> None:
    off = get("/developers")
    rooms = Chat(list_rooms="open")
    on = get("/developers", Config(echo=Echo(enabled=True), api=Api(key="k"), chat=rooms))
    assert off.count(">off<") == 3
    assert on.count(">off<") == 0


@pytest.mark.parametrize("path", [*PAGES.values(), "/chat/?room=a+b"])
@pytest.mark.parametrize("language", CATALOGUES)
def test_no_page_has_inline_script_or_style(path: str, language: str) -> None:
    headers = f"{HTML}Accept-Language: {language}\r\n"
    page = ask(FakeBackend(), "GET", path, headers=headers).body.decode()
    tags = Tags(page)
    assert tags.all("style") == []
    for script in tags.all("script"):
        if script["type"] == "application/json":  # data, which no browser runs
            assert script.get("src") is None
        else:
            assert re.fullmatch(r"/static/[\w-]+\.js", script["src"] or "")
    for tag, attributes in tags.found:
        assert "style" not in attributes, tag
        assert not any(name.startswith("on") for name in attributes), tag
    assert not re.search(r"\$[a-z]", page)  # no hole is left


@pytest.mark.parametrize("path", PAGES.values())
def test_a_page_with_its_styles_and_scripts_is_below_60_kb(path: str) -> None:
    backend = FakeBackend()
    page = ask(backend, "GET", path, headers=HTML).body
    sizes = {path: len(page)}
    waiting = re.findall(r'(?:src|href)="(/(?:static|clients)/[^"]+)"', page.decode())
    while waiting:
        file = waiting.pop()
        if file not in sizes:
            body = ask(backend, "GET", file).body
            sizes[file] = len(body)
            found = re.findall(rb'from "(\./|/clients/)([\w/.]+)"', body)
            waiting += [
                ("/static/" if where == b"./" else "/clients/") + name.decode()
                for where, name in found
            ]
    assert sum(sizes.values()) < 60 * 1024, sizes


# Languages


def texts(tag: str) -> set[str]:
    return set(CATALOGUES[tag].texts)


@pytest.mark.parametrize("tag", CATALOGUES)
def test_all_catalogues_have_the_same_keys_with_the_same_holes(tag: str) -> None:
    assert texts(tag) == texts("en")
    for key, text in CATALOGUES[tag].texts.items():
        holes = re.findall(r"\{\w+\}", CATALOGUES["en"].texts[key])
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(holes), key


def test_every_text_that_is_used_exists_and_every_text_is_used() -> None:
    used = {f"nav.{name}" for name in templates.NAVIGATION} | {"language"}
    used |= {f"theme.{theme}" for theme in templates.THEMES}
    used |= {f"home.{card}{end}" for card in CARDS for end in ("", "_about")}
    used |= {f"example.{path.stem[8:]}" for path in templates.FOLDER.glob("example_*.txt")}
    for path in templates.FOLDER.glob("*.html"):
        used |= set(re.findall(r"\$([a-z_]+\.[a-z0-9_.]*[a-z0-9_])", path.read_text("utf-8")))
    for path in [*FOLDER.rglob("*.js"), *templates.FOLDER.parents[1].rglob("*.py")]:
        used |= set(re.findall(r'"([a-z]+\.(?:js\.)?[a-z_.]+)"', path.read_text("utf-8"))) & texts(
            "en"
        )
        called = re.findall(r'\b(?:text|inLanguage)\("([\w.]+)"', path.read_text("utf-8"))
        used |= set(called)
    used |= {key for key in texts("en") if key.startswith("js.refusal.")}  # by the error's code
    assert used == texts("en")


def test_a_refusal_with_a_text_of_its_own_has_a_code_of_relayd() -> None:
    codes = {key.rpartition(".")[2] for key in texts("en") if key.startswith("js.refusal.")}
    assert codes <= {code.value for code in ErrorCode}


@pytest.mark.parametrize("tag", set(CATALOGUES) - {"en"})
def test_a_translated_sentence_is_one_that_relayd_says(tag: str) -> None:
    said = {phrase.phrase for phrase in HTTPStatus} | {code.sentence for code in ErrorCode}
    for kind in KINDS:
        said |= {kind.purpose, kind.example, kind.published}
    sources = "".join(path.read_text("utf-8") for path in templates.FOLDER.parents[1].rglob("*.py"))
    joined = re.sub(r'"\n\s+"', "", sources)
    for sentence in CATALOGUES[tag].sentences:
        assert sentence in said or f'"{sentence}"' in joined, sentence
    assert {kind.purpose for kind in KINDS} - {""} <= set(CATALOGUES[tag].sentences)


@pytest.mark.parametrize(
    ("accepted", "tag"),
    [
        (None, "en"),
        ("", "en"),
        ("ja", "ja"),
        ("ja-JP", "ja"),
        ("JA", "ja"),
        ("de, ja;q=0.5, en;q=0.4", "ja"),
        ("en;q=0.4,ja;q=0.5", "ja"),
        ("en-GB, ja", "en"),
        ("ja;q=0, *", "en"),
        ("en;q=0, *;q=0.1", "ja"),
        ("*", "en"),
        ("fr, de", "en"),
        ("ja;q=1.5, en", "en"),
        (";;;,ja;q=,\xff", "en"),
        ("ja;q=0.001", "ja"),
        ("-", "en"),
    ],
)
def test_the_language_follows_accept_language(accepted: str | None, tag: str) -> None:
    assert catalogues.choose(accepted).tag == tag


def ask_page(path: str, headers: str) -> Reply:
    return ask(FakeBackend(), "GET", path, headers=HTML + headers)


def test_a_page_says_its_language_and_that_it_depends_on_the_visitor() -> None:
    reply = ask_page("/chat/", "Accept-Language: ja\r\n")
    assert '<html lang="ja" data-theme="system">' in reply.body.decode()
    assert reply.headers["content-language"] == "ja"
    assert reply.headers["vary"] == "Accept-Language, Cookie"
    assert reply.headers["cache-control"] == "private, no-cache"
    assert "set-cookie" not in reply.headers


def test_a_switch_in_the_page_sets_a_cookie_that_holds_on_the_next_page() -> None:
    reply = ask_page("/?lang=ja&x=1", "")
    cookie = reply.headers["set-cookie"]
    assert cookie == "relayd_lang=ja; Path=/; Max-Age=31536000; SameSite=Lax; HttpOnly"
    assert reply.headers["content-language"] == "ja"
    kept = ask_page("/chat/", f"Cookie: a=b; {cookie.partition(';')[0]}\r\nAccept-Language: en\r\n")
    assert kept.headers["content-language"] == "ja"
    dark = ask_page("/chat/?theme=dark", "")
    assert 'data-theme="dark"' in dark.body.decode()
    assert 'href="?theme=light"' in dark.body.decode()


@pytest.mark.parametrize("asked", ["xx", "", "../en", "ja%0d%0aSet-Cookie:%20a=b"])
def test_an_unknown_choice_is_ignored(asked: str) -> None:
    reply = ask_page(f"/?lang={asked}&theme={asked}", f"Cookie: relayd_lang={asked}; ;=;x\r\n")
    assert reply.status == 200
    assert reply.headers["content-language"] == "en"
    assert "set-cookie" not in reply.headers


def test_an_error_page_is_in_the_language_of_the_visitor() -> None:
    reply = ask_page("/nowhere", "Accept-Language: ja\r\n")
    page = reply.body.decode()
    assert reply.status == 404
    assert "<h1>404 見つかりません</h1>" in page
    assert reply.headers["cache-control"] == "no-store"


def test_a_script_gets_the_texts_of_its_page_as_data_that_cannot_end_early() -> None:
    page = ask_page("/chat/lobby/", "Accept-Language: ja\r\n").body.decode()
    [data] = re.findall(r'<script type="application/json" id="texts">(.*?)</script>', page)
    assert json.loads(data)["js.connected"] == CATALOGUES["ja"].texts["js.connected"]
    assert not any(key.startswith("developers.") for key in json.loads(data))


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/chat", "chat/"),
        ("/camera", "camera/"),
        ("/camera/a.b?x=1", "a.b/?x=1"),
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
    assert "<script" not in page
    [room] = [field for field in Tags(page).all("input") if field["id"] == "room"]
    assert room["value"] == '"><script>alert(1)</script>'


def test_a_room_hands_its_settings_to_its_script() -> None:
    config = Config(limits=Limits(max_message_size=77))
    room = Tags(get("/chat/Gr%C3%BC%C3%9Fe/", config)).by_id("chat")
    assert room["data-room"] == "Grüße"
    assert room["data-limit"] == "77"
    assert room["data-tokens"] == "yes"


def test_a_room_for_users_of_a_site_asks_for_no_token() -> None:
    room = Tags(get("/chat/lobby/", Config(auth=Auth(chat="django")))).by_id("chat")
    assert room["data-tokens"] == "no"


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        (Config(), None),
        (Config(chat=Chat(list_rooms="open")), "no"),
        (Config(auth=Auth(secret="s" * 32)), "yes"),
        (Config(auth=Auth(secret="s" * 32, required=True)), "needed"),
        (Config(auth=Auth(secret="s" * 32, required=True), chat=Chat(list_rooms="off")), None),
        (Config(auth=Auth(chat="django")), "site"),
    ],
)
def test_the_page_of_the_chat_lists_rooms_where_the_configuration_does(
    config: Config, tokens: str | None
) -> None:
    page = get("/chat/", config)
    assert ("/static/lobby.js" in page) is ('id="live"' in page) is (tokens is not None)
    if tokens is not None:
        assert Tags(page).by_id("live")["data-tokens"] == tokens


@pytest.mark.parametrize("room", ["a%20b", "%3Cb%3E", "a.b", "x" * 101, "%ff", "%E2%82%AC"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_bad_room_is_answered_400(room: str, slash: str) -> None:
    assert "<h1>400" in get(f"/chat/{room}{slash}", status=400)


def test_the_form_leads_to_the_camera_group() -> None:
    reply = ask(FakeBackend(), "GET", "/camera/?group=+a.b+")
    assert (reply.status, reply.headers["location"]) == (303, "a.b/")
    assert 'role="alert"' in get("/camera/?group=a/b", status=400)
    for slash in ("", "/", "/send"):
        assert "<h1>400" in get(f"/camera/a%20b{slash}", status=400)


# Static files


def test_the_module_for_other_sites_may_be_imported_by_pages_of_any_origin() -> None:
    reply = ask(
        FakeBackend(), "GET", "/clients/relayd.js", headers="Origin: https://other.test\r\n"
    )
    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["content-type"] == "text/javascript; charset=utf-8"
    tag = reply.headers["etag"]
    again = ask(FakeBackend(), "GET", "/clients/relayd.js", headers=f"If-None-Match: {tag}\r\n")
    assert (again.status, again.headers["access-control-allow-origin"]) == (304, "*")
    for path in ("/static/room.js", "/chat/"):
        assert "access-control-allow-origin" not in ask(FakeBackend(), "GET", path).headers
    for path in ("/clients/", "/clients/package.json", "/clients/../setup.py"):
        assert ask(FakeBackend(), "GET", path).status == 404


FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_served_with_its_type(path: Path) -> None:
    reply = ask(FakeBackend(), "GET", f"/static/{path.relative_to(FOLDER).as_posix()}")
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
        "/static/../html/layout.html",
        "/static/layout.html",
    ],
)
def test_a_path_cannot_leave_the_folder_and_no_listing_is_served(path: str) -> None:
    reply = ask(FakeBackend(), "GET", path)
    assert (reply.status, reply.json["error"]) == (404, "not_found")


def test_the_scripts_never_turn_text_into_markup() -> None:
    for path in FOLDER.rglob("*.js"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b",
            path.read_text(encoding="utf-8"),
        ), path.name


# Pairs

UUID = "123e4567-e89b-42d3-a456-426614174000"


def test_each_visit_of_the_first_page_of_pairs_makes_a_new_pair_with_a_secret_behind_the_hash() -> (
    None
):
    replies = [ask(FakeBackend(), "GET", "/pair/") for _ in range(2)]
    assert {reply.status for reply in replies} == {303}
    places = [reply.headers["location"] for reply in replies]
    for place in places:
        assert re.fullmatch(
            r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/headset#secret=.{22}", place
        )
    assert len(set(places)) == 2


def code(address: str, uuid: str = UUID) -> Reply:
    """The answer to the request for the code of an address."""
    return ask(FakeBackend(), "POST", f"/pair/{uuid}/code", address.encode())


@pytest.mark.parametrize(
    "address",
    [
        *(f"http://127.0.0.1:8080/pair/{UUID}/", f"https://[::1]/pair/{UUID}/#secret=a-secret%20"),
        f"https://{'a' * 253}:12345/pair/{UUID}/#secret={'s' * 256}",
    ],
)
def test_the_code_of_a_phones_page_is_a_picture(address: str) -> None:
    reply = code(address)
    assert (reply.status, reply.headers["content-type"]) == (200, "image/svg+xml")
    assert reply.body.startswith(b"<svg ")
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "address",
    [
        *("", "x", "https://evil.example/", f"ftp://a/pair/{UUID}/", f"https://a/pair/{UUID}/x"),
        f"https://a/pair/{UUID.replace('1', '2')}/",  # of another pair
        f"https://a/pair/{UUID}/?secret=in-the-query",
        f"https://a/pair/{UUID}/#secret={'s' * 600}",
        f"https://a/pair/{UUID}/\n",
    ],
)
def test_no_other_text_becomes_a_code(address: str) -> None:
    reply = code(address)
    assert (reply.status, reply.json["error"]) == (400, "bad_request")


@pytest.mark.parametrize("path", ["/pair/x", "/pair/x/", "/pair/x/headset"])
def test_a_pair_without_a_uuid_is_refused_in_the_language_of_the_visitor(path: str) -> None:
    headers = f"{HTML}Accept-Language: ja\r\n"
    reply = ask(FakeBackend(), "GET", path, headers=headers)
    assert reply.status == 400
    assert "UUID が必要です" in reply.body.decode()
