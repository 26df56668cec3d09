"""One entry of the table of private names: what a library may lack, and what relayd does then."""

from relayd.logs import Logger

_log = Logger()


class Private:
    """Names of a library that its next version may lack.

    Args:
        library: as pip knows it.
        names: the names that relayd uses.
        users: the modules of relayd that use them, through a function of this module.
        tried: versions of the library for which they were tried.
        without: what relayd does where one is missing; the end of a sentence in the log.
    """

    def __init__(
        self,
        library: str,
        *names: str,
        users: tuple[str, ...],
        tried: tuple[str, ...],
        without: str,
    ) -> None:
        self.library = library
        self.names = names
        self.users = users
        self.tried = tried
        self.without = without
        self.warned = False

    def are_in(self, place: object, *some: str) -> bool:
        """Whether an instance, a class or a module has the names; warns once if not.

        Args:
            place: the object to search.
            some: the names that it should have already; by default all.
        """
        missing = [name for name in some or self.names if not hasattr(place, name)]
        self.miss(*missing)
        return not missing

    def miss(self, *names: str) -> None:
        """Warns of missing names, once for all names of the entry. No effect without names."""
        if names and not self.warned:
            from importlib.metadata import version  # 10 ms that hardly any start needs

            self.warned = True
            _log.warn(
                "{library} {version} has no {names} that relayd knows, so {without}; it was tried "
                "with {library} {tried}",
                library=self.library,
                version=version(self.library),
                names=", ".join(names),
                without=self.without,
                tried=", ".join(self.tried),
            )
