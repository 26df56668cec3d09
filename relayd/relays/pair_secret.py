"""The secret of a pair, `?secret=`: its form, and the hash that is kept of it. Pure.

Used by `difficulty`. The headset chooses the secret, so that somebody who knows the UUID of a pair
alone can neither take its place nor send to it.
"""

import hashlib
from collections.abc import Mapping, Sequence

from relayd.errors import ErrorCode, Refusal

SHORTEST, LONGEST = 16, 256


def read_secret(uuid: str, params: Mapping[str, Sequence[str]]) -> str:
    """The hash of the secret in a handshake; empty if it has none.

    Args:
        uuid: of the pair; equal secrets of two pairs have different hashes.
        params: the query, as `urllib.parse.parse_qs` returns it with blank values.

    Returns:
        SHA-256 in hexadecimal digits. A salt and a slow hash would not help: the secret is to be
        random (16 characters at least), and the hashes are in no file.

    Raises:
        Refusal: 400 `bad_secret`; it is too short or too long, or there are two.
    """
    if "secret" not in params:
        return ""
    secret, *more = params["secret"]
    if more or not SHORTEST <= len(secret) <= LONGEST:
        raise Refusal(ErrorCode.BAD_SECRET)
    words = f"relayd pair {uuid} {secret}".encode(errors="surrogatepass")
    return hashlib.sha256(words).hexdigest()
