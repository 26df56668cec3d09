"""The client behind proxies: what trusted ones say counts, what clients write does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.forwarded import Proxies, parse_trusted, proxies

TRUSTED = ("127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48", "unix:")


@pytest.mark.parametrize(
    ("host", "value", "client"),
    [
        # no header, or one from somebody who is not trusted
        ("127.0.0.1", None, "127.0.0.1"),
        ("203.0.113.1", "198.51.100.1", "203.0.113.1"),
        ("2001:db8:2::1", "198.51.100.1", "2001:db8:2::1"),
        # one proxy, whatever the client wrote before it
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("unix:", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "10.0.0.7, 198.51.100.1", "198.51.100.1"),
        ("::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"),
        # two proxies
        ("127.0.0.1", "1.1.1.1, 198.51.100.1, 10.1.2.3", "198.51.100.1"),
        ("127.0.0.1", "198.51.100.1, unix:", "198.51.100.1"),
        ("10.0.0.1", "2001:db8:2::9, 2001:db8:1::1", "2001:db8:2::9"),
        # all of them ours: the farthest
        ("127.0.0.1", "10.0.0.7, 10.0.0.8", "10.0.0.7"),
        # with ports, and forms that mean the same
        ("127.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("127.0.0.1", "[2001:db8:2::9]:443", "2001:db8:2::9"),
        ("127.0.0.1", "[2001:DB8:2:0::9]", "2001:db8:2::9"),
        ("127.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        # no address: the one who says so is known
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1, ", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1, \x1b[31m, 10.0.0.8", "10.0.0.8"),
    ],
)
def test_the_client_is_read_from_x_forwarded_for(host: str, value: str | None, client: str) -> None:
    assert Proxies(TRUSTED, "x-forwarded-for").client(host, value) == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("for=198.51.100.1", "198.51.100.1"),
        ("For=198.51.100.1;proto=https;by=10.0.0.1", "198.51.100.1"),
        ('for="198.51.100.1:4711"', "198.51.100.1"),
        ('proto=http; for="[2001:db8:2::9]:4711"', "2001:db8:2::9"),
        ("for=1.1.1.1, for=198.51.100.1", "198.51.100.1"),
        ("for=1.1.1.1,for=198.51.100.1 , for=10.0.0.2;proto=https", "198.51.100.1"),
        ('for="1\\98.51.100.1"', "198.51.100.1"),
        # obfuscated, unknown, absent (RFC 7239 section 6)
        ("for=198.51.100.1, for=_hidden", "127.0.0.1"),
        ("for=unknown", "127.0.0.1"),
        ("for=198.51.100.1, proto=https", "127.0.0.1"),
        # a client that opens a quote hides nothing and makes nothing up
        ('for=1.1.1.1, for=", for=198.51.100.1', "127.0.0.1"),
        ('for="1.1.1.1, for="[2001:db8:2::9]"', "127.0.0.1"),
        ('for="1.1.1.1", for=198.51.100.1', "198.51.100.1"),
        ("198.51.100.1", "127.0.0.1"),
        ("", "127.0.0.1"),
    ],
)
def test_the_client_is_read_from_forwarded(value: str, client: str) -> None:
    assert Proxies(TRUSTED, "forwarded").client("127.0.0.1", value) == client


@given(st.text(), st.sampled_from(["x-forwarded-for", "forwarded"]))
def test_addresses_that_a_client_writes_before_the_trusted_one_never_count(
    forged: str, header: str
) -> None:
    """If the client's part breaks the header, the proxy's own address is used."""
    seen = "198.51.100.1" if header == "x-forwarded-for" else "for=198.51.100.1"
    found = Proxies(TRUSTED, header).client("127.0.0.1", f"{forged}, {seen}")
    assert found == "198.51.100.1" or (found == "127.0.0.1" and header == "forwarded")


def test_a_proxy_on_this_machine_that_is_not_trusted_is_noticed() -> None:
    for host, noticed in [("203.0.113.1", False), ("127.0.0.1", True), ("unix:", True)]:
        nobody = Proxies((), "x-forwarded-for")
        assert nobody.client(host, None) == host
        assert not nobody.ignored
        assert nobody.client(host, "198.51.100.1") == host
        assert nobody.ignored == noticed


@pytest.mark.parametrize("text", ["", "nginx", "10.0.0.1/8", "127.0.0.1:80", "unix", "1.2.3.4/33"])
def test_a_value_that_is_no_network_is_refused_with_the_allowed_forms(text: str) -> None:
    with pytest.raises(ValueError, match="allowed are such as"):
        parse_trusted(text)


def test_equal_settings_share_one_object() -> None:
    assert proxies(TRUSTED, "forwarded") is proxies(TRUSTED, "forwarded")
    assert proxies(TRUSTED, "forwarded") is not proxies((), "forwarded")
