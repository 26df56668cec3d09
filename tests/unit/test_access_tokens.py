"""Tokens and their keys: the table of who gets in, confusion of algorithms, key files."""

import datetime
import json
import re
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relayd.access.denials import Denial
from relayd.access.rights import Right
from relayd.config import Auth, Config
from relayd.config.checks import check_keys
from relayd.config.current import Current
from relayd.connection.admission import Admission
from relayd.errors import Refusal
from relayd.hosts.authority import Asked
from relayd.jose.keys import parse_jwks, parse_keys
from relayd.names import Place
from relayd.relays.paths import KINDS
from tests.unit.fakes import NOW, success

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
SECRET = "a secret of at least thirty-two bytes"
RSA = rsa.generate_private_key(65537, 2048)
EC, EC2 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def pem(key: Any, *, private: bool = False) -> str:
    """A key in PEM."""
    if private:
        return str(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ).decode()
        )
    return str(
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def jwk(algorithm: str, key: Any, **more: Any) -> dict[str, Any]:
    """A public key as a JWK."""
    found: Any = jwt.get_algorithm_by_name(algorithm)
    public = key if isinstance(key, bytes) else key.public_key()
    return {**found.to_jwk(public, as_dict=True), **more}


def admit(auth: Auth, token: str | None, denials: tuple[Denial, ...] = ()) -> Any:
    """The identity of a client of `/ws/camera/stage1` at the time NOW."""
    admission = Admission(Current(Config(auth=auth)), Clock(), lambda: NOW, KINDS)
    for denial in denials:
        admission.denials.add(denial)

    async def enter() -> Any:
        identity = await admission.admit("camera", asked=Asked(), token=token, connections=0)
        admission.check_rights(identity, KINDS["camera"], Place("", "stage1"))
        return identity

    return success(Deferred.fromCoroutine(enter()))


def status(auth: Auth, token: str | None, denials: tuple[Denial, ...] = ()) -> int:
    """The status of such a handshake."""
    try:
        admit(auth, token, denials)
    except Refusal as refusal:
        shown = token is not None and token in refusal.message
        return 0 if shown else refusal.status
    return 101


def sign(claims: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256", **head: Any) -> str:
    """A token; also one whose claims PyJWT would not sign."""
    return jwt.PyJWS().encode(json.dumps(claims).encode(), key, algorithm, headers=head or None)


# The table of the protocol

GOOD = {"sub": "ada", "jti": "t1", "aud": "relay", "iss": "me"}
TOKENS: dict[str, str | None] = {
    "none": None,
    "valid, without rights": sign(GOOD),
    "valid, with a right for the path": sign({**GOOD, "rights": ["camera/stage1:view"]}),
    "valid, with rights for other paths": sign({**GOOD, "rights": ["camera/a"], "scope": "chat"}),
    "valid, with `rights: []`": sign({**GOOD, "rights": []}),
    "expired 31 s ago": sign({**GOOD, "exp": NOW - 31}),
    "expired 29 s ago": sign({**GOOD, "exp": NOW - 29}),
    "valid in 31 s": sign({**GOOD, "nbf": NOW + 31}),
    "`exp` without end": sign({**GOOD, "exp": float("inf")}),
    "for another audience": sign({**GOOD, "aud": ["other"]}),
    "from another issuer": sign({**GOOD, "iss": "you"}),
    "unknown `kid`": sign(GOOD, EC, "ES256", kid="unknown"),
    "signed with another key": sign(GOOD, "another secret, long enough for HS256"),
    "`alg` of another key": sign(GOOD, SECRET * 2, "HS512"),
    "`alg` none": sign(GOOD, "", "none"),
    "revoked by its id": sign({**GOOD, "jti": "revoked"}),
    "of a revoked user": sign({**GOOD, "sub": "eve"}),
    "no JWT": "nonsense",
}
KEYS = json.dumps({"keys": [jwk("ES256", EC2, kid="known")]})
STRICT = {"secret": SECRET, "keys": KEYS, "audience": ("relay",), "issuer": ("me", "you-too")}
COLUMNS = (Auth(**STRICT, camera="open"), Auth(**STRICT, camera="token"), Auth())  # type: ignore[arg-type]
DENIALS = (
    Denial(kind="token", value="revoked", until=NOW + 9, made=NOW),
    Denial(kind="user", value="eve", until=NOW + 9, made=NOW),
)
TABLE = PAGE.read_text().partition("| token | kind `open`")[2].partition("\n\n")[0].splitlines()[2:]


@pytest.mark.parametrize("row", TABLE)
def test_the_documented_table_says_who_gets_in(row: str) -> None:
    name, *cells = [cell.strip() for cell in row.strip("|").split("|")]
    for auth, cell in zip(COLUMNS, cells, strict=True):
        assert status(auth, TOKENS[name], DENIALS) == (101 if cell == "yes" else int(cell))


def test_every_token_of_this_test_is_in_the_documented_table() -> None:
    assert [re.split(r"\s*\|\s*", row)[1] for row in TABLE] == list(TOKENS)


# Kinds of path


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("kind", KINDS.names)
def test_each_kind_of_path_is_open_or_needs_a_token(kind: str, required: bool) -> None:
    for word, needed in (("", required), ("open", False), ("token", True)):
        auth = Auth(secret=SECRET, required=required, **{kind: word})  # type: ignore[arg-type]
        assert auth.needs_token(kind) == needed
        assert all(auth.needs_token(other) == required for other in KINDS.names if other != kind)


def test_a_kind_of_path_without_a_setting_needs_a_token_as_required_says() -> None:
    assert Auth(required=True).needs_token("secret")
    assert not Auth().needs_token("required")


# Keys and algorithms

SIGNERS: dict[str, tuple[Any, str]] = {
    "HS256": (SECRET, jwk("HS256", SECRET.encode(), kid="HS256").__repr__()),
    "RS256": (RSA, pem(RSA)),
    "ES256": (EC, pem(EC)),
    "EdDSA": (ED, pem(ED)),
}
PUBLIC = [
    jwk("RS256", RSA, kid="RS256"),
    jwk("ES256", EC, kid="ES256"),
    jwk("EdDSA", ED, kid="EdDSA"),
]
ALL = Auth(keys=json.dumps({"keys": [*PUBLIC, jwk("HS256", SECRET.encode(), kid="HS256")]}))
PEMS = Auth(secret=SECRET, keys="".join(map(pem, (RSA, EC, ED))))


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_each_algorithm_is_accepted_with_its_own_key_alone(algorithm: str) -> None:
    key = SIGNERS[algorithm][0]
    assert status(ALL, sign({}, key, algorithm, kid=algorithm)) == 101
    assert status(PEMS, sign({}, key, algorithm)) == 101
    for other in SIGNERS:
        if other != algorithm:
            assert status(ALL, sign({}, key, algorithm, kid=other)) == 401


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_public_key_is_no_shared_secret(algorithm: str) -> None:
    """The confusion of HS256 and RS256: an attacker signs with the public key as the secret."""
    public = pem(SIGNERS[algorithm][0]).encode()
    hmac: Any = jwt.get_algorithm_by_name("HS256")
    for secret in (public, public.strip(), json.dumps(PUBLIC[0]).encode()):
        head = {"alg": "HS256", "typ": "JWT", "kid": algorithm}
        parts = [json.dumps(part).encode() for part in (head, {"sub": "eve"})]
        signing = b".".join(map(jwt.utils.base64url_encode, parts))
        signature = jwt.utils.base64url_encode(hmac.sign(signing, secret))
        token = (signing + b"." + signature).decode()
        for auth in (ALL, PEMS, Auth(keys=pem(SIGNERS[algorithm][0]))):
            assert status(auth, token) == 401


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
def test_another_algorithm_of_the_same_key_is_refused(algorithm: str) -> None:
    for auth in (ALL, PEMS):
        for head in ({}, {"kid": "RS256"}):
            assert status(auth, sign({}, RSA, algorithm, **head)) == 401


def test_a_key_in_the_header_of_a_token_is_not_used() -> None:
    head = {"jwk": jwk("ES256", EC2), "jku": "https://evil.example/", "x5c": ["a"]}
    assert status(ALL, sign({}, EC2, "ES256", kid="ES256", **head)) == 401
    assert status(Auth(keys=pem(EC)), sign({}, EC2, "ES256", **head)) == 401


@pytest.mark.parametrize("kid", [5, None, ["ES256"], {"a": 1}, "", "../../dev/null", "ES256\x00"])
def test_an_odd_kid_is_refused(kid: Any) -> None:
    head = json.dumps({"alg": "ES256", "kid": kid}).encode()
    signing = b".".join(jwt.utils.base64url_encode(part) for part in (head, b"{}"))
    signature = jwt.get_algorithm_by_name("ES256").sign(signing, EC)
    token = (signing + b"." + jwt.utils.base64url_encode(signature)).decode()
    assert status(ALL, token) == 401


def test_a_kid_chooses_among_several_keys_of_one_algorithm() -> None:
    auth = Auth(keys=json.dumps({"keys": [jwk("ES256", EC, kid="a"), jwk("ES256", EC2, kid="b")]}))
    assert status(auth, sign({}, EC, "ES256", kid="a")) == 101
    assert status(auth, sign({}, EC2, "ES256", kid="b")) == 101
    assert status(auth, sign({}, EC2, "ES256", kid="a")) == 401
    assert status(auth, sign({}, EC2, "ES256")) == 401


def test_a_token_without_kid_is_checked_with_each_key_that_has_no_name() -> None:
    auth = Auth(keys=pem(EC) + pem(EC2))
    for key in (EC, EC2):
        assert status(auth, sign({}, key, "ES256")) == 101
        assert status(auth, sign({}, key, "ES256", kid="anything")) == 101


def test_the_only_key_of_a_set_needs_no_kid() -> None:
    assert status(Auth(keys=json.dumps(jwk("EdDSA", ED, kid="a"))), sign({}, ED, "EdDSA")) == 101


def test_a_private_key_signs_and_a_certificate_verifies() -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
    moment = datetime.datetime(2026, 1, 1)
    certificate = (
        x509.CertificateBuilder(name, name, EC.public_key(), 1, moment, moment)
        .sign(EC, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )
    (key,) = parse_keys(pem(EC, private=True))
    token = sign({}, key.signing, key.algorithm)
    assert status(Auth(keys=certificate), token) == 101
    assert status(Auth(keys=pem(EC, private=True)), token) == 101


WRONG_KEYS = {
    "nothing": "nonsense",
    "half a block": "-----BEGIN PUBLIC KEY-----\nAAAA",
    "no key in a block": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    "a short RSA key": pem(rsa.generate_private_key(65537, 1024)),
    "another curve": pem(ec.generate_private_key(ec.SECP384R1())),
    "Ed448": pem(ed448.Ed448PrivateKey.generate()),
    "an empty set": '{"keys": []}',
    "a set that is none": '{"keys": {}}',
    "no JSON": "{",
    "a short secret": json.dumps(jwk("HS256", b"short")),
    "for encryption": json.dumps(jwk("RS256", RSA, use="enc")),
    "for deriving": json.dumps(jwk("ES256", EC, key_ops=["deriveKey"])),
    "for another algorithm": json.dumps(jwk("RS256", RSA, alg="RS512")),
    "a number as kid": json.dumps(jwk("RS256", RSA, kid=5)),
    "a key without numbers": '{"keys": [{"kty": "RSA"}, 5, null]}',
}


@pytest.mark.parametrize("text", WRONG_KEYS.values(), ids=list(WRONG_KEYS))
def test_keys_that_cannot_be_used_are_an_error_of_the_configuration(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_keys(text)


def test_a_set_from_a_url_gives_no_shared_secrets() -> None:
    secret, public = jwk("HS256", SECRET.encode(), kid="a"), jwk("ES256", EC, kid="b")
    (key,) = parse_jwks(json.dumps({"keys": [secret, public]}).encode(), secrets=False)
    assert key.algorithm == "ES256"
    with pytest.raises(ValueError, match="shared secrets"):
        parse_jwks(json.dumps({"keys": [secret]}).encode(), secrets=False)


def test_new_keys_are_used_after_a_reload() -> None:
    current = Current(Config(auth=Auth(keys=pem(EC))))
    admission = Admission(current, Clock(), lambda: NOW, KINDS)

    def enter(key: Any) -> object:
        token = sign({}, key, "ES256")
        entering = admission.admit("camera", asked=Asked(), token=token, connections=0)
        return success(Deferred.fromCoroutine(entering))

    enter(EC)
    current.replace(Config(auth=Auth(keys=pem(EC2))))
    enter(EC2)
    with pytest.raises(Refusal):
        enter(EC)


# Claims

LISTS: list[tuple[dict[str, Any], int]] = [
    ({"aud": "relay", "iss": "me"}, 101),
    ({"aud": ["x", "relay"], "iss": "you-too"}, 101),
    ({"aud": ["x"], "iss": "me"}, 401),
    ({"iss": "me"}, 401),
    ({"aud": "relay"}, 401),
    ({"aud": [], "iss": "me"}, 401),
    ({"aud": {"relay": 1}, "iss": "me"}, 401),
    ({"aud": "relay", "iss": ["me"]}, 401),
    ({"aud": "relay", "iss": None}, 401),
]


@pytest.mark.parametrize(("claims", "expected"), LISTS)
def test_audience_and_issuer_are_checked_where_they_are_configured(
    claims: dict[str, Any], expected: int
) -> None:
    assert status(COLUMNS[0], sign(claims)) == expected
    if expected == 401 and isinstance(claims.get("aud", ""), str | list):
        assert status(Auth(secret=SECRET), sign(claims)) == 101


@pytest.mark.parametrize("claim", ["exp", "nbf"])
@pytest.mark.parametrize(
    "value", [float("inf"), float("-inf"), float("nan"), "1", None, True, [1], 10**400]
)
def test_a_time_that_is_no_finite_number_is_refused(claim: str, value: Any) -> None:
    assert status(Auth(secret=SECRET), sign({claim: value})) == 401


@pytest.mark.parametrize("rights", ["camera", 5, None, {"camera": 1}, [1], ["camera", None]])
def test_rights_of_a_wrong_kind_are_refused(rights: Any) -> None:
    assert status(Auth(secret=SECRET), sign({"rights": rights})) == 401


@pytest.mark.parametrize("name", ["sub", "jti"])
def test_a_name_that_no_denial_could_hold_is_refused(name: str) -> None:
    assert status(Auth(secret=SECRET), sign({name: "x" * 255})) == 101
    assert status(Auth(secret=SECRET), sign({name: "x" * 256})) == 401


@pytest.mark.parametrize("jti", [5, ["a"], {}])
def test_an_id_that_is_no_text_is_refused(jti: Any) -> None:
    assert status(Auth(secret=SECRET), sign({"jti": jti})) == 401


def test_scope_and_rights_add_up() -> None:
    token = sign({"scope": "chat openid", "rights": ["camera/stage1:send"]})
    rights = admit(Auth(secret=SECRET), token).rights
    assert rights == (Right("chat"), Right("camera", "*", "stage1", frozenset({"send"})))


def test_checking_a_token_takes_less_than_a_millisecond_of_cpu_time() -> None:
    """So that a storm of handshakes with tokens is no attack."""
    auth, token = ALL, sign({"rights": ["camera"]}, ED, "EdDSA", kid="EdDSA")
    current = Current(Config(auth=auth))
    admission = Admission(current, Clock(), lambda: NOW, KINDS)
    begun = time.process_time()
    for _ in range(100):
        entering = admission.admit("camera", asked=Asked(), token=token, connections=0)
        success(Deferred.fromCoroutine(entering))
    assert time.process_time() - begun < 0.5
