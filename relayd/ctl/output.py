"""Files that commands write: all of it, or nothing. Beside `common`, under the commands."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click


@contextlib.contextmanager
def written(name: str, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A file to write to and to read from, which gets its name after a successful block.

    Until then it has no name at all, where the file system can do that: then not even a process
    that is killed leaves anything. `-` is stdout; a device or a pipe is written to directly.

    Args:
        name: of the file.
        mode: of a new file, from which the umask takes.

    Raises:
        OSError: it cannot be written; there is no new file.
    """
    path = Path(name).resolve()
    if name == "-" or (path.exists() and not path.is_file()):
        with click.open_file(name, "wb") as stream:
            yield stream
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _opened(path.parent, part, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if not part.exists():
                # with a descriptor, Python calls linkat() with AT_SYMLINK_FOLLOW
                own = f"/proc/self/fd/{file.fileno()}"
                os.link(own, part, src_dir_fd=file.fileno(), follow_symlinks=True)
        part.replace(path)
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _opened(folder: Path, part: Path, mode: int) -> IO[bytes]:
    """A file without a name; one named `part` where there is no such thing."""
    try:
        number = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)
    except OSError:
        number = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, mode)
    return os.fdopen(number, "w+b")


def _sync(folder: Path) -> None:
    """Puts the new name on the disk, too."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(number)
        finally:
            os.close(number)
