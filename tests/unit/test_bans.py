"""Bans of addresses: how networks are written and matched, who is spared, who is refused."""

import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from relayd.access.denials import LONGEST_REASON, Denial, Denials
from relayd.access.identity import NOBODY, Identity
from relayd.access.networks import Networks, parse_network
from relayd.config import Auth, Config, Proxy
from relayd.config.current import Current
from relayd.connection.admission import Admission
from relayd.connection.denied import close_denied
from relayd.connection.registry import Connections
from relayd.errors import ErrorCode, Refusal
from relayd.relays.echo import EchoFactory
from relayd.relays.paths import KINDS
from tests.unit.fakes import NOW, make_world
from tests.unit.web_fakes import FakeBackend, ask


class Fake:
    """A connection from an address."""

    kind = "camera"
    identity: Identity = NOBODY

    def __init__(self, address: str) -> None:
        self.address = address
        self.closes: list[tuple[int, str | None]] = []

    def close(self, code: int, reason: str | None = None, *error: object, **told: object) -> None:
        self.closes.append((code, reason))

    def abort(self) -> None:
        pass


def ban(text: str, *, until: float = 60, made: float = 0, lifted: bool = False) -> Denial:
    """An entry; times from NOW on."""
    value = str(parse_network(text))
    return Denial(kind="address", value=value, until=NOW + until, made=NOW + made, lifted=lifted)


@pytest.fixture
def admission() -> Admission:
    """One behind the proxies 10.1.0.0/16 and 2001:db8:99::1."""
    config = Config(proxy=Proxy(trusted=("10.1.0.0/16", "2001:db8:99::1")))
    return Admission(Current(config), Clock(), lambda: NOW, KINDS)


# -- how a network is written


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("203.0.113.7", "203.0.113.7/32"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("203.0.113.0/255.255.255.0", "203.0.113.0/24"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::7/128", "2001:db8:1:2::7/128"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7/32"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
    ],
)
def test_an_address_or_a_network_has_one_form(text: str, network: str) -> None:
    assert str(parse_network(text)) == network
    assert str(parse_network(network)) == network


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no address and no network"),
        ("example.org", "no address and no network"),
        ("203.0.113", "no address and no network"),
        ("203.0.113.7:443", "no address and no network"),
        ("203.0.113.0/33", "no address and no network"),
        ("203.0.113.0/", "no address and no network"),
        ("unix:", "no address and no network"),
        ("203.0.113.7/24", "write 203.0.113.0/24 for the whole network, or 203.0.113.7 without"),
        ("2001:db8::1/32", "write 2001:db8::/32 for the whole network"),
    ],
)
def test_nonsense_is_an_error_that_says_what_to_write(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_network(text)


# -- which addresses are in a network


def test_an_address_is_in_all_networks_that_hold_it() -> None:
    networks = Networks()
    for text in ("203.0.113.7/32", "203.0.113.0/24", "198.51.100.0/24", "2001:db8::/64"):
        networks.add(text)
    assert set(networks.find("203.0.113.7")) == {"203.0.113.7/32", "203.0.113.0/24"}
    assert set(networks.find("::ffff:203.0.113.8")) == {"203.0.113.0/24"}
    assert set(networks.find("2001:db8::5%eth0")) == {"2001:db8::/64"}
    for outside in ("203.0.114.7", "2001:db8:0:1::5", "unix:", "", "nobody"):
        assert list(networks.find(outside)) == []


NUMBERS = st.integers(0, 255)
TEXTS = st.builds(
    lambda a, length: str(ipaddress.ip_network((f"10.20.{a}.0", length), strict=False)),
    NUMBERS,
    st.integers(0, 32),
)


@given(st.lists(TEXTS), st.lists(TEXTS), NUMBERS)
def test_a_set_of_networks_says_what_a_look_at_each_would_say(
    added: list[str], removed: list[str], last: int
) -> None:
    networks = Networks()
    for text in added:
        networks.add(text)
    for text in removed:
        networks.discard(text)
    left, address = set(added) - set(removed), ipaddress.ip_address(f"10.20.{last}.{last}")
    assert set(networks.find(str(address))) == {
        text for text in left if address in ipaddress.ip_network(text)
    }
    assert len(networks) == len(left)


def test_ten_thousand_addresses_cost_one_look_up() -> None:
    networks = Networks()
    for number in range(10_000):
        networks.add(f"{ipaddress.ip_address(0xCB007100 + number)}/32")
    asked: list[object] = []

    class Watched(dict):
        def get(self, key: object, default: object = None) -> object:
            asked.append(key)
            return super().get(key, default)

    networks._texts = Watched(networks._texts)
    assert list(networks.find("203.0.113.9")) == ["203.0.113.9/32"]
    assert len(asked) == 1


# -- the list


def test_a_ban_holds_until_its_end_and_a_lifted_one_no_more() -> None:
    time = [NOW]
    denials = Denials(lambda: time[0])
    assert denials.find_address("203.0.113.7") is None
    denials.add(ban("203.0.113.0/24", until=60))
    denials.add(ban("203.0.113.7", until=30))
    assert denials.find_address("203.0.113.7")
    denials.add(ban("203.0.113.0/24", made=1, lifted=True))
    assert denials.find_address("203.0.113.7") == ban("203.0.113.7", until=30)
    assert denials.find_address("203.0.113.8") is None
    assert denials.counts() == {"address": 1}
    time[0] += 30
    assert denials.find_address("203.0.113.7") is None
    assert denials.counts() == {}
    denials.add(ban("203.0.113.7", until=60))
    assert denials.find_address("203.0.113.7")


@pytest.mark.parametrize(
    "wrong",
    [
        Denial(kind="address", value="nobody", until=NOW + 1, made=NOW),
        Denial(kind="address", value="203.0.113.7", until=NOW + 1, made=NOW),
        Denial(kind="address", value="203.0.113.7/24", until=NOW + 1, made=NOW),
        Denial(kind="address", value="2001:DB8::/32", until=NOW + 1, made=NOW),
        Denial(kind="user", value="a", until=NOW + 1, made=NOW, reason="a" * (LONGEST_REASON + 1)),
    ],
)
def test_a_ban_in_another_form_is_refused(wrong: Denial) -> None:
    denials = Denials(lambda: NOW)
    with pytest.raises(Refusal) as caught:
        denials.add(wrong)
    assert caught.value.code is ErrorCode.BAD_REQUEST


# -- who is refused, and who never is


def outcome(try_it: Callable[[], object]) -> ErrorCode | None:
    try:
        try_it()
    except Refusal as refusal:
        return refusal.code
    return None


def test_a_banned_address_is_refused_also_after_its_handshake_waited(admission: Admission) -> None:
    assert outcome(lambda: admission.check_address("203.0.113.7")) is None
    admission.denials.add(ban("203.0.113.7"))
    assert outcome(lambda: admission.check_address("203.0.113.7")) is ErrorCode.BANNED
    assert outcome(lambda: admission.check_address("203.0.113.8")) is None
    again = admission.check_again
    assert outcome(lambda: again(NOBODY, "203.0.113.7", 0)) is ErrorCode.BANNED
    assert outcome(lambda: again(NOBODY, "203.0.113.8", 0)) is None
    assert not Refusal(ErrorCode.BANNED).is_failed_attempt


def test_a_banned_client_is_refused_before_anything_else_is_looked_at() -> None:
    """Not even its token, which is wrong."""
    config = Config(auth=Auth(secret="x" * 32))
    with make_world(config) as (world, _):
        client = world.connect(EchoFactory(world.context), "/ws/echo?token=no")
        assert client.response is not None
        assert client.response.status_code == 401
        peer = client.transport.getPeer().host
        world.context.admission.denials.add(ban(peer))
        client = world.connect(EchoFactory(world.context), "/ws/echo?token=no")
        assert client.response is not None
        assert client.response.status_code == 403
        assert b'"banned"' in (client.response.body or b"")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("127.0.0.1", "this machine"),
        ("127.9.0.0/16", "this machine"),
        ("::1", "this machine"),
        ("::ffff:127.0.0.1", "this machine"),
        ("0.0.0.0/0", "this machine"),
        ("::/0", "this machine"),
        ("10.1.2.3", "proxy"),
        ("10.0.0.0/8", "proxy"),
        ("2001:db8:99::7", "proxy"),  # its /64 holds the proxy
    ],
)
def test_nobody_bans_this_machine_or_a_trusted_proxy(
    admission: Admission, text: str, word: str
) -> None:
    with pytest.raises(Refusal, match=word):
        admission.check_denial(ban(text))
    admission.check_denial(ban(text, lifted=True))


def test_a_ban_of_another_process_spares_the_proxies_of_this_one(admission: Admission) -> None:
    """Its configuration may name other ones."""
    connections = Connections()
    spared = [Fake(one) for one in ("10.1.0.1", "127.0.0.1", "::1", "2001:db8:99::1", "unix:")]
    banned = [Fake(one) for one in ("10.2.0.1", "2001:db8:99::2")]
    other = Fake("192.0.2.1")
    for each in (*spared, *banned, other):
        connections.add(each)
    admission.denials.watch(lambda denial: close_denied(connections, admission.spares, denial))
    for text in ("10.0.0.0/8", "127.0.0.0/8", "::/64", "2001:db8:99::/64"):
        admission.denials.add(ban(text))
    assert [each.closes for each in spared] == [[]] * len(spared)
    assert [each.closes for each in banned] == [[(4403, "banned")]] * 2
    assert other.closes == []
    for each in spared:
        admission.check_address(each.address)
    for each in banned:
        assert outcome(lambda each=each: admission.check_address(each.address)) is ErrorCode.BANNED  # type: ignore[misc]


def test_a_user_who_is_banned_is_closed_like_one_whose_tokens_are_revoked(
    admission: Admission,
) -> None:
    connections, ada = Connections(), Fake("203.0.113.7")
    ada.identity = Identity(user="ada", token=None)
    connections.add(ada)
    close_denied(
        connections, admission.spares, Denial(kind="user", value="ada", until=NOW + 1, made=NOW)
    )
    assert ada.closes == [(4005, "token revoked")]


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics", "/static/room.js", "/api/push/a"])
def test_every_request_of_a_banned_address_is_refused(path: str) -> None:
    backend = FakeBackend(banned=("203.0.113.7",))
    backend.config = Config(proxy=Proxy(trusted=("192.168.1.1",)))
    reply = ask(backend, "GET", path, headers="X-Forwarded-For: 203.0.113.7\r\n")
    assert (reply.status, reply.json["error"]) == (403, "banned")
    other = ask(backend, "GET", path, headers="X-Forwarded-For: 203.0.113.8\r\n")
    assert b"banned" not in other.body
