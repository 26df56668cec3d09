"""Stylesheet, scripts and icon, read once at the start and served from memory.

A name is looked up in a table, never in the file system, so a request cannot leave the folder or
list it. Folders go one deep. Only files with a type in `TYPES` are served. A client that accepts it
gets a file in gzip (RFC 9110 section 8.4.1.3), compressed once; nothing in these files is secret.
"""

import gzip
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from relayd.errors import ErrorCode, Refusal
from relayd.web.answers import Answer, tagged_answer
from relayd.web.request import Request

FOLDER = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ts": "text/plain; charset=utf-8",
}
_GZIP = re.compile(
    r"(?:^|,)[ \t]*gzip[ \t]*(?:$|,|;[ \t]*q=(?!0(?:\.0*)?[ \t]*(?:$|,)))", re.IGNORECASE
)


class _File:
    """A file.

    Attributes:
        whole: the answer with the file as it is.
        packed: the answer with it in gzip, made at the first request for it.
    """

    def __init__(self, path: Path, more: Mapping[str, str]) -> None:
        self._type = TYPES[path.suffix]
        self._headers = {**more, "Vary": "Accept-Encoding"}
        self.whole = tagged_answer(path.read_bytes(), self._type, self._headers)

    @cached_property
    def packed(self) -> Answer:
        data = gzip.compress(self.whole.body, mtime=0)
        return tagged_answer(data, self._type, {**self._headers, "Content-Encoding": "gzip"})


def clients_folder() -> Path:
    """The module for pages of other sites: in the package if it is installed, else at the root."""
    package = Path(__file__).parents[1]
    installed = package / "_clients"
    return installed if installed.is_dir() else package.parent / "clients" / "web"


class StaticFiles:
    """The files of a folder.

    Args:
        folder: the folder.
        headers: further headers of each of them.
    """

    def __init__(self, folder: Path = FOLDER, headers: Mapping[str, str] | None = None) -> None:
        self._files = {
            path.relative_to(folder).as_posix(): _File(path, headers or {})
            for path in folder.rglob("*")
            if path.suffix in TYPES
        }

    def serve(self, request: Request, name: str, inside: str = "") -> Answer:
        """Serves a file, or 304 if the client has it already (RFC 9110 section 13.1.2).

        Browsers cache a file but revalidate it each time (`no-cache`), so that a page never runs
        with the script of an older relayd.

        Args:
            request: the request.
            name: of the file.
            inside: of its folder; empty for a file that stands flat.
        """
        file = self._files.get(f"{inside}/{name}" if inside else name)
        if file is None:
            raise Refusal(ErrorCode.NOT_FOUND, "There is no such file.")
        packed = accepts_gzip(request.whole_header("Accept-Encoding"))
        answer = file.packed if packed else file.whole
        return answer.unless_known(request.header("If-None-Match"))


def accepts_gzip(accepted: str | None) -> bool:
    """Whether a client lists gzip in `Accept-Encoding` (RFC 9110 section 12.5.3)."""
    return _GZIP.search(accepted or "") is not None
