"""Stylesheet, scripts and icon, read once at the start and served from memory.

A name is looked up in a table, never in the file system, so a request cannot leave the folder or
list it. Folders go one deep. Only files with a type in `TYPES` are served.
"""

from collections.abc import Mapping
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
        self._answers = {
            path.relative_to(folder).as_posix(): _whole(path, headers or {})
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
        whole = self._answers.get(f"{inside}/{name}" if inside else name)
        if whole is None:
            raise Refusal(ErrorCode.NOT_FOUND, "There is no such file.")
        return whole.unless_known(request.header("If-None-Match"))


def _whole(path: Path, more: Mapping[str, str]) -> Answer:
    return tagged_answer(path.read_bytes(), TYPES[path.suffix], more)
