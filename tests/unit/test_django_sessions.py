"""What Django signs and pickles of a session, read without Django; Django itself writes it here."""

import contextlib
import os
import pickle
from typing import Any

import pytest
from django.core.signing import TimestampSigner
from hypothesis import given, settings
from hypothesis import strategies as st

from relayd.access.django_signing import (
    COOKIE_SALT,
    LARGEST,
    STORED_SALT,
    read_pickled,
    read_signed,
)
from relayd.config import Config, read
from relayd.errors import ConfigError

KEY = "k" * 50
NOW = 1_800_000_000.0
SESSION = {"_auth_user_id": "7", "list": [1, 2.5, None, True, "é" * 300], "big": 2**70}


def signed(session: Any, *, key: str = KEY, salt: str = STORED_SALT, compress: bool = True) -> str:
    """As Django signs it, now."""
    signer = TimestampSigner(key=key, salt=salt, fallback_keys=[])
    return signer.sign_object(session, compress=compress)


@pytest.mark.parametrize("compress", [True, False])
def test_a_signed_session_is_read_with_each_key_of_the_site(compress: bool) -> None:
    text = signed(SESSION, compress=compress)
    for keys in ((KEY,), ("new" * 20, KEY)):
        assert read_signed(text, STORED_SALT, keys, NOW) == SESSION


def test_a_session_of_another_key_salt_or_text_is_invalid() -> None:
    text = signed(SESSION)
    for changed in (
        *("", ":", "::", text + "x", text[1:], text.replace(":", ""), f"x{text}", text.swapcase()),
        *(signed(SESSION, key="other" * 10), signed(SESSION, salt=COOKIE_SALT), signed([1])),
        signed({"a": "x" * LARGEST}),  # what it inflates to is bounded
    ):
        with pytest.raises(ValueError, match=r"session|signature"):
            read_signed(changed, STORED_SALT, (KEY,), NOW)


def test_a_signed_cookie_has_an_age(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)
    text = signed(SESSION, salt=COOKIE_SALT)
    assert read_signed(text, COOKIE_SALT, (KEY,), NOW + 100, 100) == SESSION
    with pytest.raises(ValueError, match="too old"):
        read_signed(text, COOKIE_SALT, (KEY,), NOW + 101, 100)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary(max_size=300),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=30)
@given(st.dictionaries(st.text(), PLAIN), st.integers(3, pickle.HIGHEST_PROTOCOL))
def test_a_pickle_of_plain_values_is_read(session: dict[str, Any], protocol: int) -> None:
    assert read_pickled(pickle.dumps(session, protocol)) == session


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("/nonexistent/evil",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", [Evil(), os.mkdir, {1, 2}], ids=["call", "name", "set"])
def test_a_pickle_that_imports_or_calls_is_refused(protocol: int, value: Any) -> None:
    data = pickle.dumps({"a": value}, protocol)
    with pytest.raises(ValueError, match="cached session"):
        read_pickled(data)


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for start in (b"", pickle.dumps(SESSION)[:40]):
        with contextlib.suppress(ValueError):
            read_pickled(start + data)


def test_a_pickle_with_a_huge_index_of_its_memo_takes_no_memory() -> None:
    assert read_pickled(b"\x80\x04}r\xff\xff\xff\x7f.") == {}
    with pytest.raises(ValueError, match="too large"):
        read_pickled(b"x" * (LARGEST + 1))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, r"AUTH_CHAT = 'django': needs \[django\] secret_key and url"),
        ({"RELAYD_DJANGO_SESSIONS": "cache"}, "cache_url"),
        ({"RELAYD_SERVER_ALLOWED_ORIGINS": "*"}, "from a page of anybody"),
        ({"RELAYD_SERVER_ALLOWED_ORIGINS": "https://a.example,null"}, "from a page of anybody"),
        ({"RELAYD_DJANGO_USER_TABLE": 'x" --'}, "regex"),
        ({"RELAYD_DJANGO_URL": "mysql://x"}, "postgresql://"),
    ],
)  # fmt: skip
def test_settings_that_would_let_strangers_in_are_refused_at_the_start(
    changes: dict[str, str], why: str
) -> None:
    site = {"RELAYD_DJANGO_SECRET_KEY": KEY, "RELAYD_DJANGO_URL": "sqlite:////site.db"}
    given_ = {"RELAYD_AUTH_CHAT": "django", **(site if changes else {}), **changes}
    with pytest.raises(ConfigError, match=why) as caught:
        read(None, given_)
    assert KEY not in str(caught.value)


def test_the_keys_of_a_site_are_shown_to_nobody() -> None:
    loaded = read(
        None,
        {
            "RELAYD_DJANGO_SECRET_KEY": KEY,
            "RELAYD_DJANGO_SECRET_KEY_FALLBACKS": f"{KEY}a,{KEY}b",
            "RELAYD_DJANGO_URL": "postgresql://u:hunter2@h/d",
            "RELAYD_DJANGO_CACHE_URL": "redis://:hunter2@h/1",
        },
    )
    assert loaded.config.django != Config().django
    shown = "\n".join(map(str, loaded.lines()))
    assert KEY not in shown
    assert "hunter2" not in shown
