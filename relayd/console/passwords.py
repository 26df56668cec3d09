"""The hash of the operator's password: scrypt (RFC 7914) of the standard library. Pure; it blocks.

The ground of `relayd.console`; `login` verifies in a thread, `relayctl console password` hashes.
The text is `scrypt:15:8:1:SALT:HASH`: the logarithm of the cost, block size, parallelization, and
two base64url texts without padding. No character in it needs quotes in a shell or a unit.
"""

import base64
import hashlib
import hmac
import secrets

from relayd.config.checks import PASSWORD_HASH

SHORTEST, LONGEST = 12, 1024
"""Characters of a new password (NIST SP 800-63B section 5.1.1: long, of any characters), and bytes
of one that is tried."""
_LOG, _BLOCK, _PARALLEL = 15, 8, 1  # 32 MiB and about 0.1 s of CPU time
_MOST_MEMORY = 1 << 30


def hash_password(password: str, *, log: int = _LOG) -> str:
    """The line for `[console] password_hash`.

    Args:
        password: of any characters.
        log: the logarithm of the cost (N), 10 to 20.
    """
    salt = secrets.token_bytes(16)
    hashed = _derive(password, salt, log, _BLOCK, _PARALLEL, 32)
    return f"scrypt:{log}:{_BLOCK}:{_PARALLEL}:{_encode(salt)}:{_encode(hashed)}"


def verify(line: str, password: str) -> bool:
    """Whether a password is the one of a hash. The time depends on the hash alone.

    Args:
        line: of `[console] password_hash`, not empty.
        password: of at most `LONGEST` bytes.
    """
    found = PASSWORD_HASH.fullmatch(line)
    assert found is not None  # the configuration is checked
    wanted = _decode(found["hash"])
    log, block, parallel = int(found["log"]), int(found["block"]), int(found["parallel"])
    hashed = _derive(password, _decode(found["salt"]), log, block, parallel, len(wanted))
    return hmac.compare_digest(hashed, wanted)


def _derive(password: str, salt: bytes, log: int, block: int, parallel: int, size: int) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"),
        salt=salt, n=1 << log, r=block, p=parallel, maxmem=_MOST_MEMORY, dklen=size,
    )  # fmt: skip


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
