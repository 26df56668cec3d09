"""Redis servers and sentinels that the tests start themselves, and certificates for them.

All of a server is in a temporary folder of its own. Every server also listens on a Unix socket
there, through which a test gives it orders (`tell`), whatever its port asks for.
"""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hiredis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.certificates import builder, general_name, name, pem
from tests.ports import free_port
from tests.suspension import suspend

_START = 20.0  # seconds a server has to start


def _find(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise RuntimeError(f"these tests need {program} (apt: {program})")
    return found


class Wire:
    """A blocking connection that speaks RESP; errors are returned, not raised."""

    def __init__(self, address: str | int) -> None:
        kind = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self._socket = socket.socket(kind)
        self._socket.settimeout(_START)
        self._socket.connect(address if isinstance(address, str) else ("127.0.0.1", address))
        self._reader = hiredis.Reader()

    def tell(self, *words: str | bytes | int) -> Any:
        """Runs a command and returns its reply."""
        self._socket.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]
        return self.hear()

    def hear(self) -> Any:
        """The next reply or message; an error of the network is raised."""
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("Redis hung up")
            self._reader.feed(data)
        return reply

    def close(self) -> None:
        self._socket.close()


class _Process:
    """A child of the tests in a folder of its own; a context manager that it runs in."""

    program = ""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="relayd-redis-"))
        self.process: subprocess.Popen[bytes] | None = None
        self._orders: Wire | None = None

    def __enter__(self) -> Any:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def socket(self) -> str:
        """Its Unix socket."""
        return f"{self.folder}/redis.sock"

    @property
    def log(self) -> str:
        """Everything it has logged."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Starts it, and waits until it answers, if only with an error."""
        Path(self.socket).unlink(missing_ok=True)
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C at the tests is not for it
            )
        until = time.monotonic() + _START
        while True:
            try:
                self.tell("PING")
                return
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{self.program} does not start:\n{self.log}") from error
                time.sleep(0.01)

    def tell(self, *words: str | bytes | int) -> Any:
        """Runs a command as one who may do anything; errors are returned."""
        if self._orders is not None:
            try:
                return self._orders.tell(*words)
            except OSError:  # whoever makes a replica of it throws all clients out
                self.hang_up()
        self._orders = Wire(self.socket)
        for login in self._logins():
            self._orders.tell(*login)
        return self._orders.tell(*words)

    def hang_up(self) -> None:
        """Closes the connection that `tell` has kept."""
        if self._orders is not None:
            self._orders.close()
            self._orders = None

    def kill(self) -> None:
        """SIGKILL: it gets no chance to say or to save anything."""
        self.hang_up()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Stops it in the middle of whatever it does; its sockets stay open."""
        assert self.process is not None
        suspend(self.process.pid)

    def resume(self) -> None:
        """Lets it run on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _logins(self) -> Sequence[Sequence[str]]:
        return ()


class Redis(_Process):
    """A redis-server on a free port of 127.0.0.1 and on a Unix socket.

    Args:
        *lines: further lines of its configuration.
        password: of the default user.
        tls: certificates; its TCP port then speaks TLS.
    """

    program = "redis-server"

    def __init__(
        self, *lines: str, password: str = "", tls: "Certificates | None" = None, host: str = ""
    ) -> None:
        super().__init__()
        self.port = free_port()
        self.password = password
        self.lines = [
            f"bind {host or '127.0.0.1'}",
            f"unixsocket {self.socket}",
            f"dir {self.folder}",
            'save ""',
            *([f"requirepass {password}"] if password else []),
            *(tls.lines(self.port) if tls else [f"port {self.port}"]),
            *lines,
        ]

    def connections(self) -> int:
        """How many of relayd's connections it has."""
        listed: bytes = self.tell("CLIENT", "LIST")
        return listed.count(b" name=relayd-")

    def _command(self) -> list[str]:
        (self.folder / "redis.conf").write_text("\n".join(self.lines) + "\n")
        return [_find(self.program), str(self.folder / "redis.conf")]

    def _logins(self) -> Sequence[Sequence[str]]:
        return [("AUTH", self.password)] if self.password else ()


class Sentinel(_Process):
    """A redis-sentinel that watches one master under the name `service`.

    Args:
        port: of the master on 127.0.0.1.
        *lines: further lines of its configuration.
        quorum: how many sentinels must agree.
        password: of the sentinel itself.
        master_password: what it says to the master.
        tls: certificates; then it speaks TLS, and TLS to the master.
    """

    program = "redis-sentinel"

    def __init__(
        self,
        port: int,
        *lines: str,
        quorum: int = 1,
        password: str = "",
        master_password: str = "",
        tls: "Certificates | None" = None,
    ) -> None:
        super().__init__()
        self.port = free_port()
        self.password = password
        configuration = [
            "bind 127.0.0.1",
            f"unixsocket {self.socket}",
            f"dir {self.folder}",
            f"sentinel monitor service 127.0.0.1 {port} {quorum}",
            "sentinel down-after-milliseconds service 500",
            "sentinel failover-timeout service 5000",
            *([f"requirepass {password}"] if password else []),
            *([f"sentinel auth-pass service {master_password}"] if master_password else []),
            *([*tls.lines(self.port), "tls-replication yes"] if tls else [f"port {self.port}"]),
            *lines,
        ]
        # it writes what it learns into the file
        (self.folder / "sentinel.conf").write_text("\n".join(configuration) + "\n")

    def wait_for_replica(self) -> None:
        """Until it knows a replica that it could make the master."""
        until = time.monotonic() + _START
        while time.monotonic() < until:
            for replica in self.tell("SENTINEL", "REPLICAS", "service"):
                facts = dict(zip(replica[::2], replica[1::2], strict=True))
                if facts[b"flags"] == b"slave" and facts[b"master-link-status"] == b"ok":
                    return
            time.sleep(0.02)
        raise AssertionError(f"it found no replica:\n{self.log}")

    def others(self) -> int:
        """How many other sentinels it knows."""
        answer: list[object] = self.tell("SENTINEL", "SENTINELS", "service")
        return len(answer)

    def master(self) -> int:
        """The port of the master, as far as it knows."""
        answer: list[bytes] = self.tell("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "service")
        return int(answer[1])

    def _command(self) -> list[str]:
        return [_find(self.program), str(self.folder / "sentinel.conf")]

    def _logins(self) -> Sequence[Sequence[str]]:
        return [("AUTH", self.password)] if self.password else ()


class Certificates:
    """An authority, and one certificate that it signed.

    Args:
        folder: where the files go.
        *hosts: host names and IP addresses that the certificate is for; without any, it has no
            subjectAltName. An e-mail address is one of its names, too.
        common_name: the common name of its subject.
        days: from now, until the certificate expires; negative for one that has expired.

    Attributes:
        ca_file: the authority, in PEM.
        certificate: what it signed, in PEM.
        key: of that certificate, in PEM.
    """

    def __init__(
        self, folder: Path, *hosts: str, days: float = 60, common_name: str = "a server"
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ca_file = folder / "ca.pem"
        self.certificate, self.key = folder / "server.pem", folder / "server.key"
        authority, key = (
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP256R1()),
        )
        issuer = name(f"authority in {folder.name}")
        root = builder(issuer, issuer, authority, 60).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.ca_file.write_bytes(pem(root.sign(authority, hashes.SHA256())))
        leaf = builder(name(common_name), issuer, key, days)
        if hosts:
            names = x509.SubjectAlternativeName([general_name(host) for host in hosts])
            leaf = leaf.add_extension(names, critical=False)
        self.certificate.write_bytes(pem(leaf.sign(authority, hashes.SHA256())))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def lines(self, port: int) -> list[str]:
        """Configuration of a server that speaks TLS on a port, and asks clients for nothing."""
        return [
            "port 0",
            f"tls-port {port}",
            f"tls-cert-file {self.certificate}",
            f"tls-key-file {self.key}",
            f"tls-ca-cert-file {self.ca_file}",
            "tls-auth-clients no",
        ]
