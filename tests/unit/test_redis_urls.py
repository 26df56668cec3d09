"""Redis URLs: every form, and every mistake in one sentence that shows no password."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.redis.urls import (
    TCP,
    Credentials,
    Sentinels,
    Server,
    Target,
    Unix,
    parse,
    parse_all,
)

ALICE = Credentials("alice", "s3cret")


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("redis://host", Server(TCP("host", 6379))),
        ("redis://Host.Example:7000/", Server(TCP("host.example", 7000))),
        ("redis://host/15", Server(TCP("host", 6379), db=15)),
        ("redis://alice:s3cret@host:7000/2", Server(TCP("host", 7000), ALICE, 2)),
        ("redis://:s3cret@host", Server(TCP("host", 6379), Credentials("", "s3cret"))),
        ("redis://:@host", Server(TCP("host", 6379))),
        ("redis://[::1]", Server(TCP("::1", 6379))),
        ("redis://[FE80::1]:7000/1", Server(TCP("fe80::1", 7000), db=1)),
        ("rediss://host", Server(TCP("host", 6379, tls=True))),
        ("redis://host?db=3", Server(TCP("host", 6379), db=3)),
        ("redis://host/3?db=3&protocol=3&health_check_interval=9", Server(TCP("host", 6379), db=3)),
        ("rediss://host?ssl_cert_reqs=required", Server(TCP("host", 6379, tls=True))),
        ("unix:///run/redis.sock", Server(Unix("/run/redis.sock"))),
        ("unix:///run/re%20dis.sock?db=3", Server(Unix("/run/re dis.sock"), db=3)),
        ("unix://alice:s3cret@/a?db=0", Server(Unix("/a"), ALICE)),
        ("sentinel://a/s", Sentinels((TCP("a", 26379),), "s")),
        (
            "sentinel://alice:s3cret@a,b:1,[::1]:2/my%20service/4",
            Sentinels((TCP("a", 26379), TCP("b", 1), TCP("::1", 2)), "my service", ALICE, db=4),
        ),
        (
            "sentinel://a/s?sentinel_user=alice&sentinel_password=s3cret",
            Sentinels((TCP("a", 26379),), "s", sentinel_credentials=ALICE),
        ),
        (
            "sentinels://a/s?sentinel_password=x&tls_name=r.example",
            Sentinels(
                (TCP("a", 26379, tls=True),),
                "s",
                sentinel_credentials=Credentials("", "x"),
                tls=True,
                tls_name="r.example",
            ),
        ),
        ("sentinels://a/s?tls=sentinels", Sentinels((TCP("a", 26379, tls=True),), "s")),
        ("sentinels://a/s?tls=master", Sentinels((TCP("a", 26379),), "s", tls=True)),
    ],
)
def test_a_url_is_parsed_into_its_parts(url: str, target: Target) -> None:
    assert parse(url) == target


@pytest.mark.parametrize("text", ["a:b", "a@b", "ü/?#&% ", ",;=+", "%41", "\x7f\x00\n"])
def test_a_percent_encoded_password_is_decoded(text: str) -> None:
    written = "".join(f"%{byte:02x}" for byte in text.encode())
    for url in (f"redis://u:{written}@h", f"unix://u:{written}@/s", f"sentinel://u:{written}@h/s"):
        assert parse(url).credentials == Credentials("u", text)
    target = parse(f"sentinel://h/s?sentinel_password={written}")
    assert isinstance(target, Sentinels)
    assert target.sentinel_credentials.password == text


@pytest.mark.parametrize("password", ["a:b@c", "a#b", "a?b&c=d", "[a]", "a\\b", "@:#?[&;,"])
def test_a_password_may_hold_every_character_but_slash_percent_and_space(password: str) -> None:
    for url in (
        "redis://:{}@host",
        "redis://:{}@host/0?db=0",
        "unix://:{}@/s",
        "sentinel://:{}@h/s",
    ):
        assert parse(url.format(password)).credentials == Credentials("", password)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "no ://"),
        ("localhost:6379", "no ://"),
        ("http://h", "begins with something else"),
        ("REDIS://h", "begins with something else"),
        ("redis://", "host"),
        ("redis:///0", "host"),
        ("redis://h:", "host"),
        ("redis://h:0", "port"),
        ("redis://h:65536", "port"),
        ("redis://h:port", "port"),
        ("redis://h h", "%20"),
        ("redis://h\n", "%20"),
        ("redis://h#1", "%23"),
        ("redis://[::1", "host"),
        ("redis://::1", "host"),
        ("redis://[h]", "IPv6"),
        ("redis://a,b", "host"),
        ("redis://h/x", "database"),
        ("redis://h/-1", "database"),
        ("redis://h/1/2", "database"),
        ("redis://h/٣", "database"),
        ("redis://h?tls=1", "parameters of this kind of URL are db"),
        ("redis://h/1?db=2", "named twice"),
        ("rediss://h?ssl_cert_reqs=none", "[redis] ca_file and verify"),
        ("rediss://h?ssl_cert_reqs=CERT_NONE", "[redis] ca_file and verify"),
        ("rediss://h?ssl_ca_certs=/ca.pem", "[redis] ca_file and verify"),
        ("h:6380,password=s3cret,ssl=True,abortConnect=False", "rediss://:PASSWORD@HOST:PORT"),
        ("redis://user@h", "password"),
        ("redis://u:100%@h", "%25"),
        ("redis://u:%ff@h", "UTF-8"),
        ("unix://h/s", "three slashes"),
        ("unix://", "three slashes"),
        ("unix:///s?tls=1", "parameters of this kind of URL are db"),
        ("unix:///s?db=1&db=2", "each once"),
        ("unix:///s?db", "name=value"),
        ("sentinel://h", "service"),
        ("sentinel://h//0", "service"),
        ("sentinel:///s", "host"),
        ("sentinel://h,/s", "host"),
        ("sentinel://h/s/x", "database"),
        ("sentinel://h/s?sentinel_pass=x", "sentinel_password"),
        ("sentinel://h/s?sentinel_user=x", "sentinel_password="),
        ("sentinel://u:1/2@h/s", "%2F"),
        ("sentinel://h/s?tls=both", "sentinels://"),
        ("sentinels://h/s?tls=none", "tls="),
        ("sentinel://h/s?tls_name=x", "TLS to the master"),
        ("sentinels://h/s?tls=sentinels&tls_name=x", "TLS to the master"),
    ],
)
def test_a_wrong_url_is_refused_with_the_allowed_forms(url: str, says: str) -> None:
    with pytest.raises(ValueError, match="allowed is redis://") as caught:
        parse(url)
    assert says in str(caught.value).partition("; allowed is")[0]


@given(
    scheme=st.sampled_from(["redis", "sentinel", "sentinels", "ftp"]),
    before=st.text("ab:/@?#%&=,[]", max_size=6),
    after=st.text("ab:/@?#%&=,[]1", max_size=12),
)
def test_no_error_and_no_repr_shows_a_password(scheme: str, before: str, after: str) -> None:
    """Wherever the parser takes the password for something else."""
    for url in (
        f"{scheme}://u:{before}HUNTER{after}@h/0",
        f"{scheme}://h/s?sentinel_password={before}HUNTER{after}",
    ):
        try:
            target = parse(url)
        except ValueError as error:
            shown = str(error)
        else:
            shown = repr(target) + target.name
        assert "HUNTER" not in shown


def test_several_urls_are_parsed_as_shards() -> None:
    targets = parse_all(
        ["redis://a", "redis://a/1", "redis://[::1]:7", "unix:///s", "sentinel://a,b/s/2"]
    )
    assert [target.name for target in targets] == ["a:6379", "a:6379/1", "[::1]:7", "/s", "s/2"]


@pytest.mark.parametrize(
    ("urls", "says"),
    [
        ([], "no Redis URL"),
        (["redis://a", "redis://:s3cret@h:x"], "Redis URL 2: "),
        (["redis://a", "rediss://:s3cret@A:6379/0"], "the same server: a:6379"),
        (["sentinel://a/s", "sentinel://b/s"], "the same server: s"),
    ],
)
def test_wrong_shards_are_refused(urls: list[str], says: str) -> None:
    with pytest.raises(ValueError, match="Redis URL") as caught:
        parse_all(urls)
    assert says in str(caught.value)
    assert "s3cret" not in str(caught.value)
