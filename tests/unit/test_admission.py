"""Admission of clients: draining, connections, origins, tokens."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relayd.access.identity import Identity
from relayd.access.rights import Right
from relayd.access.tokens import LEEWAY
from relayd.config import Auth, Config, Limits, Server
from relayd.config.current import Current
from relayd.connection.admission import Admission
from relayd.errors import Refusal
from relayd.hosts.authority import Asked
from relayd.relays.paths import KINDS as PATHS
from tests.unit.fakes import NOW, success

SECRET = "a secret of at least thirty-two bytes"
OPTIONAL = Config(auth=Auth(secret=SECRET))
REQUIRED = Config(auth=Auth(secret=SECRET, required=True))

KINDS = ["camera", "difficulty", "chat", "push", "echo"]


def admit(
    config: Config,
    *,
    token: str | None = None,
    kind: str = "chat",
    origin: str | None = None,
    connections: int = 0,
) -> Identity:
    """One handshake at the time NOW."""
    admission = Admission(Current(config), Clock(), lambda: NOW, PATHS)
    admitted = admission.admit(kind, asked=Asked(origin), token=token, connections=connections)
    return success(Deferred.fromCoroutine(admitted))


def refused(try_it: Callable[[], object]) -> tuple[int, str]:
    """Status and code of a refusal."""
    with pytest.raises(Refusal) as caught:
        try_it()
    assert caught.value.message.endswith(".")
    return caught.value.status, caught.value.code.value


def sign(claims: dict[str, Any], *, secret: str = SECRET, algorithm: str = "HS256") -> str:
    """A token."""
    return jwt.encode(claims, secret, algorithm=algorithm)


# Without tokens


def test_every_native_client_is_admitted_by_default() -> None:
    assert admit(Config(), connections=10_000) == Identity()


def test_no_client_is_admitted_while_the_server_drains() -> None:
    admission = Admission(Current(Config()), Clock(), lambda: NOW, PATHS)
    admission.drain()
    waiting = Deferred.fromCoroutine(
        admission.admit("camera", asked=Asked(), token=None, connections=0)
    )
    with pytest.raises(Refusal) as caught:
        success(waiting)
    assert (caught.value.status, caught.value.code) == (503, "draining")
    assert caught.value.retry_after


def test_clients_are_admitted_up_to_the_limit() -> None:
    config = Config(limits=Limits(max_connections=3))
    assert admit(config, connections=2) == Identity()
    for connections in (3, 4):
        with pytest.raises(Refusal) as caught:
            admit(config, connections=connections)
        assert (caught.value.status, caught.value.code) == (429, "too_many_connections")
        assert caught.value.retry_after


def test_pages_of_allowed_origins_are_admitted() -> None:
    config = Config(server=Server(allowed_origins=("https://example.org",)))
    assert admit(config, origin="https://EXAMPLE.org:443") == Identity()
    refusal = refused(lambda: admit(config, origin="https://evil.example"))
    assert refusal == (403, "origin_not_allowed")


def test_clients_that_ask_for_another_host_are_refused() -> None:
    admission = Admission(
        Current(Config(server=Server(names=("a.example",)))), Clock(), lambda: NOW, PATHS
    )

    def ask(host: str) -> Identity:
        asked = Asked(hosts=(host,))
        admitted = admission.admit("chat", asked=asked, token=None, connections=0)
        return success(Deferred.fromCoroutine(admitted))

    assert ask("a.example") == Identity()
    assert refused(lambda: ask("b.example")) == (421, "host_not_allowed")


def test_an_overloaded_process_admits_nobody() -> None:
    overloaded = True
    admission = Admission(
        Current(Config()), Clock(), lambda: NOW, PATHS, overloaded=lambda: overloaded
    )

    def ask() -> Identity:
        admitted = admission.admit("chat", asked=Asked(), token=None, connections=0)
        return success(Deferred.fromCoroutine(admitted))

    assert refused(ask) == (503, "overloaded")
    overloaded = False
    assert ask() == Identity()


def test_only_native_apps_are_admitted_without_a_listed_origin() -> None:
    config = Config(server=Server(allowed_origins=()))
    assert admit(config) == Identity()
    assert refused(lambda: admit(config, origin="null"))[0] == 403


# Tokens


def test_tokens_are_ignored_without_a_secret() -> None:
    for token in (None, "", "nonsense", sign({"exp": NOW - 1, "scope": "push"})):
        assert admit(Config(), token=token) == Identity()


def test_a_token_is_optional_unless_it_is_required() -> None:
    assert admit(OPTIONAL) == Identity()
    assert refused(lambda: admit(REQUIRED)) == (401, "unauthorized")


def test_a_token_gives_the_user_the_expiry_and_the_scope() -> None:
    token = sign({"sub": "ada", "exp": NOW + 60, "nbf": NOW - 60, "scope": "chat camera"})
    for config in (OPTIONAL, REQUIRED):
        identity = admit(config, token=token)
        assert identity == Identity(
            user="ada", expires=NOW + 60 + LEEWAY, rights=(Right("chat"), Right("camera"))
        )


def test_a_token_may_have_no_claims() -> None:
    assert admit(REQUIRED, token=sign({})) == Identity()


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_is_valid_for_the_kinds_of_path_in_its_scope(kind: str) -> None:
    for allowed in KINDS:
        token = sign({"scope": f"other {allowed}"})
        if allowed == kind:
            (right,) = admit(OPTIONAL, token=token, kind=kind).rights or ()
            assert (right.kind, right.side, right.name) == (kind, "*", "*")
        else:
            assert refused(partial(admit, OPTIONAL, token=token, kind=kind)) == (403, "forbidden")


def test_an_empty_scope_is_valid_for_no_path() -> None:
    assert refused(lambda: admit(OPTIONAL, token=sign({"scope": ""}))) == (403, "forbidden")


@pytest.mark.parametrize(
    ("claims", "good"),
    [
        ({"exp": NOW - 29}, True),
        ({"exp": NOW - 30}, False),
        ({"exp": 0}, False),
        ({"nbf": NOW + 30}, True),
        ({"nbf": NOW + 31}, False),
        ({"nbf": NOW - 1, "exp": NOW + 1}, True),
        ({"iat": NOW + 3600}, True),
    ],
)
def test_a_token_is_valid_from_nbf_until_before_exp_with_30_s_of_leeway(
    claims: dict[str, float], good: bool
) -> None:
    """RFC 7519 sections 4.1.4 to 4.1.6; `iat` only says how old a token is."""
    if good:
        admit(OPTIONAL, token=sign(claims))
    else:
        assert refused(lambda: admit(OPTIONAL, token=sign(claims))) == (401, "unauthorized")


@pytest.mark.parametrize(
    "token",
    [
        sign({"sub": "ada"}, secret="another secret of thirty-two bytes!"),
        sign({"sub": "ada"}, secret="", algorithm="none"),
        sign({"sub": "ada"}, secret=SECRET * 2, algorithm="HS384"),
        sign({"sub": "ada"}, algorithm="HS512", secret=SECRET * 2),
        sign({"sub": "ada"}).rsplit(".", 1)[0] + ".",
        sign({"sub": "ada"}).rsplit(".", 1)[0],
        sign({"sub": "ada"})[:-4] + "AAAA",
        ".".join([sign({})[: sign({}).index(".")], *sign({"sub": "eve"}).split(".")[1:2], "AAAA"]),
        "",
        ".",
        "..",
        "a.b.c",
        "é.é.é",
    ],
)
def test_a_token_that_is_not_signed_with_our_secret_is_refused(token: str) -> None:
    """This holds even where no token is required: a client that shows a token wants it checked."""
    for config in (OPTIONAL, REQUIRED):
        assert refused(partial(admit, config, token=token)) == (401, "unauthorized")


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_our_secret_with_another_algorithm_is_refused(algorithm: str) -> None:
    secret = "s" * 64
    config = Config(auth=Auth(secret=secret))
    assert admit(config, token=sign({}, secret=secret)) == Identity()
    token = sign({}, secret=secret, algorithm=algorithm)
    assert refused(lambda: admit(config, token=token)) == (401, "unauthorized")


@given(st.one_of(st.text(), st.text("abcXYZ019-_=."), st.binary().map(lambda b: b.hex())))
def test_arbitrary_text_is_refused_as_a_token(token: str) -> None:
    assert refused(lambda: admit(OPTIONAL, token=token)) == (401, "unauthorized")


claim_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**400), 1e308]),
    st.floats(allow_nan=False),
    st.text(),
    st.lists(st.text(), max_size=2),
    st.dictionaries(st.text(), st.text(), max_size=1),
)


@given(
    st.dictionaries(
        st.sampled_from(["sub", "exp", "nbf", "iat", "scope", "jti", "iss"]), claim_values
    )
)
@example({"exp": 10**400})
@example({"exp": "nan"})
@example({"exp": True, "scope": None})
def test_any_claims_of_a_signed_token_end_in_a_guest_or_a_refusal(claims: dict[str, Any]) -> None:
    try:
        # PyJWT checks some types before it signs; a signer elsewhere does not
        token = jwt.PyJWS().encode(json.dumps(claims).encode(), SECRET, algorithm="HS256")
        identity = admit(OPTIONAL, token=token)
    except Refusal as refusal:
        status = refusal.status
    else:
        status = 101
        assert identity.user is None or isinstance(identity.user, str)
        assert identity.expires is None or identity.expires > NOW
    assert status in (101, 401, 403)
