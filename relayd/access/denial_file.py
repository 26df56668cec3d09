"""Keeps denials over a restart, in a file of JSON that the processes of a folder share.

Beside `denial_spread`, on `denials`. The functions block: one is called before the process serves,
the other in a thread.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from relayd.access.denials import Denial

DEFAULT = "var/denials.json"
"""The file in the working directory of relayd."""


def load(path: Path) -> list[Denial]:
    """The entries of a file; none if it does not exist.

    Raises:
        OSError: it cannot be read.
        ValueError: it does not hold denials.
    """
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        return msgspec.json.decode(text, type=list[Denial])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} does not hold denials: {error}") from error


def save(path: Path, entries: Iterable[Denial], now: float) -> None:
    """Merges entries with those of the file, and replaces the file in one step.

    A lock beside the file lets one process write at a time.

    Args:
        path: of the file; its folder is made.
        entries: those to keep.
        now: Unix time; entries that have ended are left out.

    Raises:
        OSError: it cannot be written.
        ValueError: the file there does not hold denials.
    """
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        merged = {one.key: one for one in load(path)}
        for one in entries:
            known = merged.get(one.key)
            if known is None or known.made < one.made:
                merged[one.key] = one
        kept = [one for one in merged.values() if one.until > now]
        _replace(path, msgspec.json.encode(kept))
    finally:
        os.close(lock)


def _replace(path: Path, text: bytes) -> None:
    written = path.with_suffix(".new")
    try:
        descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            written.unlink()
