"""The command line of `twistd relayd`: its options, and the service that twistd runs.

The top layer. It imports the reactor, has it go by the monotonic clock, and hands it to `assembly`,
which builds the service.
"""

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from twisted.application.service import IService
from twisted.python import usage

from relayd import __version__, logs
from relayd.config import Config, Loaded, read, read_dotenv
from relayd.errors import ConfigError
from relayd.logs import Logger
from relayd.logs.setup import choose
from relayd.workers import VARIABLE

if TYPE_CHECKING:
    from relayd.workers.worker import Worker

# `assembly` and what it builds are imported when they are needed: `--check` takes half of the CPU
# time without them.

_log = Logger()

EX_CONFIG = 78
"""The exit status for a wrong configuration (sysexits.h)."""


class Options(usage.Options):
    """The command line of `twistd relayd`."""

    synopsis = "[options]"
    longdesc = """relayd relays WebSocket messages between headsets, phones and browsers.

Without options it listens on 127.0.0.1:8080 and keeps its data in ./var/relayd.db.

Settings come from these places; the first that has one wins: an option, the environment
(RELAYD_<SECTION>_<KEY>, such as RELAYD_ECHO_ENABLED=true; also PORT and DATABASE_URL; a .env
file in the working directory is read too), systemd's credentials, the files conf.d/*.toml
beside the file given with --config, that file, the default. etc/relayd.toml shows every
setting."""

    optFlags: ClassVar = [["check", None, "Check the configuration, report errors, and exit."]]
    optParameters: ClassVar = [["config", "c", None, "Read settings from this TOML file."]]
    compData: ClassVar = usage.Completions(
        optActions={"config": usage.CompleteFiles("*.toml", descr="a TOML file")}
    )

    config: Config
    warnings: tuple[str, ...] = ()
    left_alone: tuple[str, ...] = ()
    worker: "Worker | None" = None

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self._folder = os.getcwd()

    def opt_listen(self, endpoint: str) -> None:
        """Listen on this Twisted endpoint, such as tcp:8080; may be given more than once."""
        self["listen"].append(endpoint)

    opt_l = opt_listen

    def opt_version(self) -> None:
        """Show the version of relayd and exit."""
        print(f"relayd {__version__}")
        sys.exit(0)

    def postOptions(self) -> None:
        """Reads the configuration; a wrong one ends the process with EX_CONFIG."""
        if VARIABLE in os.environ:
            from relayd.workers.worker import Worker

            self.worker = Worker.inherited(os.environ)
            self.config = self.worker.config
            self._set_up_log(self.worker.number)
            return
        try:
            loaded = self._read()
        except ConfigError as error:
            print(f"relayd: {error}", file=sys.stderr, flush=True)
            if not self["check"]:
                self._answer_until_right(error)
            sys.exit(EX_CONFIG)
        self.config, self.warnings = loaded.config, loaded.warnings
        self.left_alone = loaded.left_alone
        if self["check"]:
            for warning in self.warnings:
                print(f"relayd: warning: {warning}", file=sys.stderr)
            print("relayd: the configuration is good")
            sys.exit(0)
        self._set_up_log()

    def read_again(self, handed: Mapping[str, str] | None = None) -> Loaded:
        """Reads the configuration from where it came from at the start.

        Args:
            handed: the secrets that root has handed over since (`config.read`).

        Raises:
            ConfigError: the configuration is wrong; the text says where.
        """
        # twistd may have changed the working directory
        return self._read(self._folder, handed)

    def _read(self, folder: str = "", handed: Mapping[str, str] | None = None) -> Loaded:
        """Reads the configuration; `folder` is the base of relative paths, "" the working one."""
        return read(
            self["config"],
            os.environ,
            dotenv=read_dotenv(folder),
            listen=self["listen"],
            folder=folder,
            handed=handed,
        )

    def _answer_until_right(self, error: ConfigError) -> None:
        """Answers those who wait at systemd's sockets; starts anew once the files are right."""
        from relayd.edge.misconfigured import answer_until_right
        from relayd.systemd import Systemd

        environ = dict(os.environ)  # before the variables of systemd are removed from it
        systemd = Systemd.inherited(os.environ)
        if not systemd.sockets:
            return
        systemd.notify(f"STATUS=The configuration is wrong: {error}".replace("\n", " "))

        def is_right() -> bool:
            try:
                self._read()
            except ConfigError:
                return False
            return True

        if answer_until_right(systemd.sockets, is_right):
            print("relayd: the configuration is right now: relayd starts", file=sys.stderr)
            passed = (*systemd.sockets, *systemd.tls_sockets)
            for descriptor in passed:
                os.set_inheritable(descriptor, True)
            # Twisted has removed these two (sd_listen_fds(3))
            environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(passed))}
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)

    def _set_up_log(self, worker: int | None = None) -> None:
        logs.set_level(self.config.log.level)
        if self.parent is not None:
            choose(self.parent, self.config.log.format, os.environ, worker)


def makeService(options: Options) -> IService:
    """Builds the service that `twistd relayd` runs."""
    from twisted.internet import reactor

    from relayd.assembly import assemble, assemble_worker
    from relayd.private.monotonic import use_monotonic_clock
    from relayd.workers.command import command

    use_monotonic_clock(reactor)
    for warning in options.warnings:
        _log.warn("{warning}", warning=warning)
    if options.left_alone:
        _log.debug("service links of Kubernetes: {names}", names=", ".join(options.left_alone))
    if options.worker is not None:
        return assemble_worker(options.worker, reactor)
    start_worker = command(options.parent, sys.argv[0])
    return assemble(options.config, options.read_again, reactor, start_worker)
