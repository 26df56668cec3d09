"""The host of a request and the origin of its page: what is understood, and what is served."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.config.checks import check_names, check_origins
from relayd.errors import Refusal
from relayd.forwarded import Proxies
from relayd.hosts.authority import Asked, Authority, check_hosts, parse_authority, read_asked
from relayd.hosts.origins import is_allowed

PROXIES = Proxies(("10.0.0.0/8", "unix:"), "x-forwarded-for")
ELEMENTS = Proxies(("10.0.0.0/8", "unix:"), "forwarded")


def asked(
    peer: str = "203.0.113.1",
    absolute: str | None = None,
    proxies: Proxies = PROXIES,
    **headers: str,
) -> Asked:
    """What a request with these headers names."""
    lines = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_asked(lines.get, absolute, proxies, peer)


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("example.org", Authority("example.org")),
        ("Example.ORG:8080", Authority("example.org", 8080)),
        ("example.org:", Authority("example.org")),
        ("[2001:DB8:0::1]:443", Authority("2001:db8::1", 443)),
        ("127.0.0.1", Authority("127.0.0.1")),
        *(
            (wrong, None)
            for wrong in ("", "a:b", "a:65536", "[::1", "[x]", "::1", "a/b", "é", "a,b")
        ),
    ],
)
def test_a_host_has_a_name_or_an_address_and_maybe_a_port(
    text: str, authority: Authority | None
) -> None:
    assert parse_authority(text) == authority


@pytest.mark.parametrize(
    ("request_", "own", "any_port"),
    [
        (asked(host="a.example:8080"), Authority("a.example", 8080), False),
        (asked(host="a.example"), Authority("a.example"), False),
        (asked(), None, False),
        (asked(absolute="b.example", host="a.example"), Authority("b.example"), False),
        # nobody believes a client about its host
        (asked(host="a.example", x_forwarded_host="b.example"), Authority("a.example"), False),
        # a trusted proxy is believed
        (asked("10.1.1.1", host="a:80", x_forwarded_host="B"), Authority("b"), True),
        (asked("10.1.1.1", host="a:80", x_forwarded_host="x, b:1"), Authority("b", 1), False),
        (asked("unix:", host="a.example"), Authority("a.example"), True),
        (asked("10.1.1.1", host="a.example:1"), Authority("a.example", 1), False),
        # Forwarded: what the outermost trusted proxy has received
        (
            asked("10.1.1.1", proxies=ELEMENTS, host="a", forwarded="for=1.2.3.4;host=b"),
            Authority("b"),
            True,
        ),
        (
            asked(
                "10.1.1.1",
                proxies=ELEMENTS,
                host="a",
                forwarded='host=evil, for=1.2.3.4;Host="b:443", for=10.0.0.2;host=c',
            ),
            Authority("b", 443),
            False,
        ),
        (
            asked("10.1.1.1", proxies=ELEMENTS, host="a", x_forwarded_host="b", forwarded="for=_x"),
            Authority("a"),
            True,
        ),
    ],
)
def test_the_host_of_a_request_comes_from_its_head_or_from_a_trusted_proxy(
    request_: Asked, own: Authority | None, any_port: bool
) -> None:
    assert (request_.own, request_.any_port) == (own, any_port)


NAMES = ("Relay.example", "*.example.org", "xn--bcher-kva.example")


@pytest.mark.parametrize(
    ("request_", "served"),
    [
        (asked(host="relay.example"), True),
        (asked(host="RELAY.example.:8080"), True),
        (asked(host="a.b.example.org"), True),
        (asked(host="example.org"), False),
        (asked(host="badexample.org"), False),
        (asked(host="relay.example.evil.example"), False),
        (asked(host="evil.example"), False),
        (asked(host="relay.example, evil.example"), False),
        # health checks
        (asked(host="127.0.0.1:8080"), True),
        (asked(host="[2001:db8::1]"), True),
        (asked(host="localhost:8080"), True),
        (asked(), True),
        # names that are no addresses, though they look so
        (asked(host="127.0.0.1.evil.example"), False),
        (asked(host="localhost.evil.example"), False),
        # each host in the request has to be served: a page can set headers of its own
        (asked("10.1.1.1", host="evil.example", x_forwarded_host="relay.example"), False),
        (asked("10.1.1.1", host="relay.example", x_forwarded_host="evil.example"), False),
        (asked(absolute="evil.example", host="relay.example"), False),
        (asked(absolute="relay.example", host="evil.example"), False),
    ],
)
def test_a_request_for_another_name_is_misdirected(request_: Asked, served: bool) -> None:
    check_hosts(request_, ())
    if served:
        check_hosts(request_, NAMES)
    else:
        with pytest.raises(Refusal) as caught:
            check_hosts(request_, NAMES)
        assert (caught.value.status, caught.value.code) == (421, "host_not_allowed")


ALLOWED = (
    *("https://Example.org:443", "http://b.example:8000", "https://*.example.net", "null"),
    *("capacitor://localhost", "https://[2001:DB8::1]:8443", "file://", "http://192.0.2.7"),
)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("https://example.org", True),
        ("HTTPS://EXAMPLE.ORG:443", True),
        ("http://example.org", False),
        ("https://example.org:444", False),
        ("https://example.org.evil.example", False),
        ("https://example.org/", False),
        ("https://user@example.org", False),
        ("http://b.example:8000", True),
        ("http://b.example", False),
        ("https://a.example.net", True),
        ("https://a.b.example.net", True),
        ("https://example.net", False),
        ("https://evilexample.net", False),
        ("https://.example.net:1", False),
        ("http://a.example.net", False),
        ("null", True),
        ("capacitor://localhost", True),
        ("capacitor://other", False),
        ("file://", True),
        ("https://[2001:db8:0::1]:8443", True),
        ("http://192.0.2.7:80", True),
        ("*", False),
        ("", False),
        ("self", False),
        ("https://", False),
        # a list, which RFC 6454 allows
        ("https://example.org null", True),
        ("https://example.org https://evil.example", False),
    ],
)
def test_pages_of_the_listed_origins_connect(origin: str | None, allowed: bool) -> None:
    check_origins(ALLOWED)
    assert is_allowed(Asked(origin), ALLOWED) is allowed
    assert is_allowed(Asked(origin), ("*",))


@pytest.mark.parametrize(
    ("origin", "request_", "allowed"),
    [
        ("http://a.example:8080", asked(host="A.example:8080"), True),
        ("https://a.example", asked(host="a.example"), True),
        ("https://a.example", asked(host="a.example:443"), True),
        ("http://a.example", asked(host="a.example:80"), True),
        ("http://[::1]:8080", asked(host="[0::1]:8080"), True),
        ("http://a.example:8081", asked(host="a.example:8080"), False),
        ("http://a.example:8080", asked(host="a.example"), False),
        ("http://b.example", asked(host="a.example"), False),
        ("null", asked(host="a.example"), False),
        ("capacitor://a.example", asked(host="a.example"), False),
        ("https://a.example", asked(), False),
        # nginx with `proxy_set_header Host $host` leaves the port out
        ("https://a.example:8443", asked("10.1.1.1", host="a.example"), True),
        ("https://b.example:8443", asked("10.1.1.1", host="a.example"), False),
        ("https://a.example:8443", asked("10.1.1.1", host="a.example:8444"), False),
        ("https://a.example", asked("10.1.1.1", host="up:80", x_forwarded_host="a.example"), True),
        ("http://up", asked("10.1.1.1", host="up:80", x_forwarded_host="a.example"), False),
        ("https://a.example", asked(host="up:80", x_forwarded_host="a.example"), False),
    ],
)
def test_by_default_pages_of_the_own_host_connect(
    origin: str, request_: Asked, allowed: bool
) -> None:
    assert is_allowed(request_._replace(origin=origin), ("self",)) is allowed


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("example.org", "begins with a scheme"),
        ("https://example.org/", "no path"),
        ("https://example.org/a", "no path"),
        ("https://example.org?x", "no path"),
        ("https://", "the host is missing"),
        ("https://user:password@example.org", "no user"),
        ("wss://example.org", "https://example.org, not of the WebSocket"),
        ("ws://example.org:8080", "http://example.org:8080, not of the WebSocket"),
        ("https://*", "the whole entry is *"),
        ("*://example.org", "begins with a scheme"),
        ("https://a.*.example.org", "whole first label"),
        ("https://a*.example.org", "whole first label"),
        ("https://*.*.example.org", "whole first label"),
        ("https://*.0.0.1", "ends in a number"),
        ("https://1.2.3.400", "ends in a number"),
        ("https://example.org:*", "from 1 to 65535"),
        ("https://example.org:0", "from 1 to 65535"),
        ("https://example.org:65536", "from 1 to 65535"),
        ("https://example.org:", "from 1 to 65535"),
        ("https://[::1", "IPv6"),
        ("https://[fe80::1%eth0]", "IPv6"),
        ("https://::1", "from 1 to 65535"),
        ("https://bücher.example", "xn--bcher-kva.example"),
        ("https://a..example", "no name"),
        ("https://-a.example", "no name"),
        ("https://a b", "an entry of its own"),
        ("NULL", "begins with a scheme"),
        ("", "begins with a scheme"),
    ],
)
def test_an_entry_that_no_browser_could_send_is_refused(entry: str, why: str) -> None:
    with pytest.raises(ValueError, match="no origin that a browser sends") as caught:
        check_origins((entry,))
    assert why in str(caught.value)
    assert "https://*.example.org:8443" in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["https://a.example", "a.example:8080", "a.*", "bücher.example", "", "*", "a b", "1.2.3"],
)
def test_a_name_that_no_request_could_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"allowed are such as relay.example.org"):
        check_names((name,))


@given(st.text(), st.text(), st.text())
def test_any_header_is_decided_upon(origin: str, host: str, forwarded: str) -> None:
    for proxies in (PROXIES, ELEMENTS):
        lines = {"origin": origin, "host": host}
        lines |= {"x-forwarded-host": forwarded, "forwarded": forwarded}
        request = read_asked(lines.get, None, proxies, "unix:")
        is_allowed(request, ALLOWED)
        with contextlib.suppress(Refusal):
            check_hosts(request, NAMES)
