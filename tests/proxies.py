"""nginx, HAProxy and Caddy in front of a relayd, with the configurations of etc/examples/.

Each runs in a temporary folder, on free ports of 127.0.0.1, and serves TLS with a certificate that
the test's own authority signed. A context manager: the proxy runs inside the block.
"""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.daemon import tls_client
from tests.ports import free_port
from tests.redis_servers import Certificates

EXAMPLES = Path(__file__).parents[1] / "etc" / "examples"
NAME = "relay.example.org"
_START = 20.0  # seconds a proxy has to start

# What Debian's nginx.conf has around the site, as far as it matters here.
_NGINX = """
daemon off; worker_processes 2; pid {folder}/nginx.pid; {user}
error_log {folder}/error.log info;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    include {folder}/site.conf;
}}
"""

_FAILURES = "max_fails=0"


def find(program: str) -> str:
    """Where a program is; proxies stand in sbin."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise RuntimeError(f"these tests need {program} (apt: {program})")
    return found


def adapted(text: str, changes: Mapping[str, str]) -> str:
    """An example with some of its words replaced; each of them must stand there."""
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


class Proxy:
    """A proxy in front of some relayds.

    Args:
        folder: where its files go.
        upstreams: where the relayds are: `127.0.0.1:8080`, or the path of a unix socket.
        changes: further words of the example, and what stands in their place.
        days: until its certificate expires.
    """

    def __init__(
        self,
        folder: Path,
        upstreams: Sequence[str],
        changes: Mapping[str, str] | None = None,
        *,
        days: float = 60,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port, self.plain_port = free_port(), free_port()
        self.upstreams = upstreams
        self.changes = dict(changes or {})
        self.certificates = Certificates(folder / "certificates", NAME, "127.0.0.1", days=days)
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self) -> None:
        """Writes its configuration."""
        raise NotImplementedError

    def check(self) -> list[str]:
        """The command that checks the configuration."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """The command that runs it in the foreground."""
        raise NotImplementedError

    def __enter__(self) -> Any:
        self.configure()
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder)},
                start_new_session=True,  # Ctrl-C at the tests is not for it
            )
        until = time.monotonic() + _START
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > until:
                    self.__exit__()
                    log_text = (self.folder / "log").read_text()
                    raise RuntimeError(
                        f"{type(self).__name__} does not start: {log_text}"
                    ) from error
                time.sleep(0.02)

    def __exit__(self, *error: object) -> None:
        if self.process is not None:
            self.process.terminate()  # at once, with whatever is connected
            try:
                self.process.wait(20)
            finally:
                self.process.kill()

    @property
    def url(self) -> str:
        """Where its pages are, without a slash at the end."""
        return f"https://127.0.0.1:{self.port}"

    def tls(self) -> ssl.SSLContext:
        """What trusts the test's authority alone."""
        return tls_client(self.certificates.ca_file)

    def connect(self, path: str, **options: Any) -> ClientConnection:
        """A WebSocket client over TLS that is not Autobahn's."""
        options = {
            "open_timeout": 20, "close_timeout": 5, "compression": None, "max_queue": None,
            "ping_interval": None, "ssl": self.tls(), **options,
        }  # fmt: skip
        return connect(f"wss://127.0.0.1:{self.port}{path}", proxy=None, legacy=True, **options)

    def curl(self, path: str, *options: str) -> str:
        """What curl prints for a page; it speaks HTTP/2 where the proxy does."""
        command = [find("curl"), "-sS", "--max-time", "20", "--noproxy", "*"]
        command += ["--cacert", str(self.certificates.ca_file), *options, self.url + path]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Nginx(Proxy):
    """nginx with the example's site."""

    def configure(self) -> None:
        """The site, and an nginx.conf around it."""
        servers = "\n".join(
            f"    server {'unix:' * upstream.startswith('/')}{upstream} {_FAILURES};"
            for upstream in self.upstreams
        )
        text = (EXAMPLES / "nginx" / "relayd.conf").read_text(encoding="utf-8")
        live = "/etc/letsencrypt/live/relay.example.org"
        site = adapted(
            text,
            {
                f"    server 127.0.0.1:8080 {_FAILURES};": servers,
                "    listen 80;": f"    listen 127.0.0.1:{self.plain_port};",
                "    listen [::]:80;": "",
                "    listen 443 ssl http2;": f"    listen 127.0.0.1:{self.port} ssl http2;",
                "    listen [::]:443 ssl http2;": "",
                f"{live}/fullchain.pem": str(self.certificates.certificate),
                f"{live}/privkey.pem": str(self.certificates.key),
                "/var/log/nginx/": f"{self.folder}/",
                **self.changes,
            },
        )
        user = "user root;" if os.geteuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(_NGINX.format(folder=self.folder, user=user))
        (self.folder / "site.conf").write_text(site)

    def check(self) -> list[str]:
        """`nginx -t`."""
        return [*self.command(), "-t"]

    def command(self) -> list[str]:
        """nginx in the foreground."""
        conf, log = self.folder / "nginx.conf", self.folder / "error.log"
        return [find("nginx"), "-p", str(self.folder), "-e", str(log), "-c", str(conf)]

    def workers(self) -> set[int]:
        """Process ids of its workers, those that are on their way out too."""
        assert self.process is not None
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return set(map(int, path.read_text().split()))

    def reload(self) -> None:
        """`nginx -s reload`; returns when new workers have taken over."""
        before = self.workers()
        subprocess.run([*self.command(), "-s", "reload"], check=True, capture_output=True)
        until = time.monotonic() + _START
        while len(self.workers() - before) < 2:
            assert time.monotonic() < until, "no new workers"
            time.sleep(0.02)

    def __exit__(self, *error: object) -> None:
        """Old workers that still have connections go, too."""
        workers = self.workers() if self.process is not None and self.process.poll() is None else ()
        super().__exit__()
        for pid in workers:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


class HAProxy(Proxy):
    """HAProxy with the example."""

    def configure(self) -> None:
        """The example with the test's ports, files and servers."""
        pem = self.folder / "both.pem"
        pem.write_bytes(
            self.certificates.certificate.read_bytes() + self.certificates.key.read_bytes()
        )
        servers = "\n".join(
            f"    server relayd{number} {'unix@' * upstream.startswith('/')}{upstream}"
            for number, upstream in enumerate(self.upstreams, 1)
        )
        text = (EXAMPLES / "haproxy" / "haproxy.cfg").read_text(encoding="utf-8")
        changed = adapted(
            text,
            {
                "    server relayd1 127.0.0.1:8080": servers,
                "bind :80\n": f"bind 127.0.0.1:{self.plain_port}\n",
                "bind :443": f"bind 127.0.0.1:{self.port}",
                "/etc/haproxy/certs/relay.example.org.pem": str(pem),
                "log /dev/log local0": "log stdout format raw local0",
                "maxconn 20000": "maxconn 500",
                **self.changes,
            },
        )
        (self.folder / "haproxy.cfg").write_text(changed)

    def check(self) -> list[str]:
        """`haproxy -c`."""
        return [find("haproxy"), "-c", "-f", str(self.folder / "haproxy.cfg")]

    def command(self) -> list[str]:
        """HAProxy in the foreground."""
        return [find("haproxy"), "-db", "-f", str(self.folder / "haproxy.cfg")]


class Caddy(Proxy):
    """Caddy with the example."""

    def configure(self) -> None:
        """The example with the test's ports, files and upstreams; without its administration."""
        upstreams = " ".join(
            f"{'unix/' * upstream.startswith('/')}{upstream}" for upstream in self.upstreams
        )
        text = (EXAMPLES / "caddy" / "Caddyfile").read_text(encoding="utf-8")
        files = f"{self.certificates.certificate} {self.certificates.key}"
        address = f"https://127.0.0.1:{self.port}, https://{NAME}:{self.port}"
        options = f"admin off\n\tauto_https disable_redirects\n\thttp_port {self.plain_port}"
        changed = adapted(
            text,
            {
                "\n{\n": f"\n{{\n\t{options}\n",
                f"\n{NAME} {{": f"\n{address} {{\n\ttls {files}",
                "reverse_proxy 127.0.0.1:8080": f"reverse_proxy {upstreams}",
                **self.changes,
            },
        )
        (self.folder / "Caddyfile").write_text(changed)

    def check(self) -> list[str]:
        """`caddy validate`."""
        return [*self._with("validate")]

    def command(self) -> list[str]:
        """Caddy in the foreground."""
        return self._with("run")

    def _with(self, verb: str) -> list[str]:
        config = str(self.folder / "Caddyfile")
        return [find("caddy"), verb, "--adapter", "caddyfile", "--config", config]
