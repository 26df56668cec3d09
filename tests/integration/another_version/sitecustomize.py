"""Python begins here, with libraries in which every private name of `relayd.private` has another.

On PYTHONPATH of a `twistd relayd` it makes what a later version of the libraries may be: they work
as ever, but call by other names what they promise to nobody.
"""

import importlib.machinery
import re
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

RENAMED = {
    "autobahn.twisted.websocket": ("_dataReceived",),
    "autobahn.websocket.protocol": (
        "_dataReceived",
        "_perMessageCompress",
        "CONFIG_ATTRS",
        "current_frame",
        "current_frame_masker",
        "http_request_data",
        "http_request_uri",
        "inside_message",
    ),
    "prometheus_client.exposition": ("choose_encoder",),
    "twisted.internet.base": ("_justStopped", "_newTimedCalls", "_pendingTimedCalls"),
    "twisted.internet.epollreactor": ("_poller",),
    "twisted.internet.tcp": ("_shouldShutdown",),
    "twisted.web.http": ("_respondToBadRequestAndDisconnect",),
}
"""What has another name, by the modules in whose source it stands."""


class Renaming(SourceFileLoader):
    """Loads a module in which some names are others."""

    def get_code(self, fullname: str) -> CodeType:
        """Not from `__pycache__`."""
        path = self.get_filename(fullname)
        names = "|".join(map(re.escape, RENAMED[fullname]))
        source = re.sub(rf"\b({names})\b", r"\1_of_another_version", self.get_data(path).decode())
        return self.source_to_code(source.encode(), path)


class Finder:
    """Finds the modules of `RENAMED`."""

    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As `importlib.abc.MetaPathFinder.find_spec`."""
        if fullname not in RENAMED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        assert isinstance(spec.loader, importlib.machinery.SourceFileLoader)
        spec.loader = Renaming(fullname, spec.loader.path)
        return spec


sys.meta_path.insert(0, Finder)
