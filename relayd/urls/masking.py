"""What may be shown of a URL, and of a text that may quote one: never a password or a token. Pure.

The ground of `relayd.urls`. Everything that shows a URL calls `mask_url` or `mask_urls`; every log
line and every error of the configuration goes through `mask_text`, the second line of defence.

A URL is shown only if it matches a strict grammar, in which everything in front of an @ is hidden.
Nobody can say where the password is in a URL that is written in another way (`/` in a password,
a password in place of the host, a keyword string): that one is hidden as a whole.
"""

import re

HIDDEN = "(hidden)"
"""Stands for a URL that is not understood."""

_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|%2[Ff][\w%.-]*|[A-Za-z0-9_][\w.-]*)(?::\d{1,5})?"
_PLACE = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+]*)://(?P<user>[^/]*@)?"
    rf"(?P<hosts>{_HOST}(?:,{_HOST})*)?"
    r"(?P<path>(?:/[\w.~-]*)*)(?P<query>\?.*)?",
    re.ASCII | re.DOTALL | re.IGNORECASE,
)
_LOGIN = re.compile(r"://[^/]*:[^/]*@")
_DATABASES = re.compile(r"postgres(ql)?(\+\w+)?", re.ASCII)
_PATHS = {
    "redis": re.compile(r"(/\d{0,9})?", re.ASCII),
    "rediss": re.compile(r"(/\d{0,9})?", re.ASCII),
    "sentinel": re.compile(r"/[\w.-]+(/\d{0,9})?", re.ASCII),
    "sentinels": re.compile(r"/[\w.-]+(/\d{0,9})?", re.ASCII),
    "unix": re.compile(r"/.+"),
    "http": re.compile(r".*"),
    "https": re.compile(r".*"),
    "ws": re.compile(r".*"),
    "wss": re.compile(r".*"),
}
_SQLITE = re.compile(r"sqlite:///[^?#@\0]+", re.IGNORECASE)
# parameters without a secret; with any other, none is shown, since a secret may contain an &
_HARMLESS = re.compile(
    r"(host|hostaddr|port|db|dbname|sslmode|target_session_attrs|connect_timeout|pgbouncer|schema"
    r"|connection_limit|tls|tls_name)=[\w./,:-]*",
    re.ASCII,
)

# a token or a password as a parameter or in a header, a JWT wherever it stands (in a host in lower
# case, too), whatever is in front of an @ in a URL
SECRETS = (
    (
        re.compile(
            r"((?:token|secret|passwo?r?d|pwd|api_?key)(?:=|%3d)|\bbearer\s+"
            r"|\bauthorization:\s*\S+\s+)('(?:[^'\\]|\\.)*'?|[^\s&'\",;]+)",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*", re.IGNORECASE), "***"),
    (re.compile(r"//\S*@"), "//***@"),
)
_WORDS = ("token", "bearer", "authorization", "secret", "passw", "pwd", "key", "eyj")


def mask_url(url: str) -> str:
    """One URL of a store, of a key set or of a relayd, for people.

    Returns:
        The URL with `***` in place of user and password, and of a query that may hold a secret;
        `HIDDEN` if it is not understood.
    """
    if not url or _SQLITE.fullmatch(url):
        return url
    found = _PLACE.fullmatch(url)
    if found is None:
        return HIDDEN
    scheme, hosts, path, query = (
        found[name] or "" for name in ("scheme", "hosts", "path", "query")
    )
    scheme = scheme.lower()
    if _DATABASES.fullmatch(scheme):
        known = path.count("/") <= 1
    else:
        grammar = _PATHS.get(scheme)
        known = grammar is not None and grammar.fullmatch(path) is not None
        known = known and bool(hosts) != (scheme == "unix")
        known = known and (scheme[0] in "hw" or "/" not in query)
    if not known or "@" in query:
        return HIDDEN
    user = "***@" if found["user"] else ""
    if query and not all(map(_HARMLESS.fullmatch, query[1:].split("&"))):
        query = "?***"
    return f"{scheme}://{user}{hosts}{path}{query}"


def mask_urls(text: str) -> str:
    """Several URLs, separated by blanks, for people; `HIDDEN` if one is not understood."""
    shown = [mask_url(url) for url in text.split()]
    return HIDDEN if HIDDEN in shown else " ".join(shown)


def may_hold_secret(text: str) -> bool:
    """Whether URLs, separated by blanks, have a password, or are not understood."""
    shown = mask_urls(text)
    return (
        shown == HIDDEN or "***" in shown.replace("://***@", "") or _LOGIN.search(text) is not None
    )


def mask_text(text: str) -> str:
    """A text without the tokens and passwords that it may quote.

    The messages of relayd contain none; those of libraries and their exceptions may.
    """
    if _may_be_secret(text):
        for pattern, instead in SECRETS:
            text = pattern.sub(instead, text)
    return text


def _may_be_secret(text: str) -> bool:
    """Whether any of the patterns can match: hardly a line has one of these words."""
    if "@" in text and "//" in text:
        return True
    folded = text.casefold()  # as re.IGNORECASE: `ſ` is an s
    return any(word in folded for word in _WORDS)
