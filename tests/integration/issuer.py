"""An issuer for the tests: an HTTP(S) server, in a thread of its own, that shows a JWK set."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.redis_servers import Certificates


class Issuer:
    """Keys, and the server that shows them.

    Attributes:
        keys: private ones by `kid`; those that the set shows.
        count: requests so far.
        body: what is answered instead of the set; None for the set.
        status: of the answer.
        hanging: set while no request is answered.
    """

    def __init__(self) -> None:
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.count = 0
        self.body: bytes | None = None
        self.status = 200
        self.free = threading.Event()
        self.free.set()
        self.url = ""

    def rotate(self, *kids: str) -> None:
        """Shows new keys with these names alone."""
        self.keys = {kid: ec.generate_private_key(ec.SECP256R1()) for kid in kids}

    def token(self, kid: str, **claims: Any) -> str:
        """A token signed with one of the keys."""
        return jwt.encode(claims, self.keys[kid], "ES256", headers={"kid": kid})

    def set(self) -> bytes:
        """The JWK set."""
        found = jwt.get_algorithm_by_name("ES256")
        keys: list[Any] = [
            {**found.to_jwk(key.public_key(), as_dict=True), "kid": kid}
            for kid, key in self.keys.items()
        ]
        return json.dumps({"keys": keys}).encode()


@contextmanager
def serving(
    issuer: Issuer, certificates: Certificates | None = None, port: int = 0
) -> Iterator[Issuer]:
    """Serves the keys meanwhile."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.count += 1
            issuer.free.wait(60)
            body = issuer.set() if issuer.body is None else issuer.body
            try:
                self.send_response(issuer.status)
                if issuer.status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # relayd has given up

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: object) -> None:
            pass  # a client that does not trust the certificate

    server = Server(("127.0.0.1", port), Answer)
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.certificate, certificates.key)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    scheme = "http" if certificates is None else "https"
    issuer.url = f"{scheme}://127.0.0.1:{server.server_port}/jwks.json"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        issuer.free.set()
        server.shutdown()
        server.server_close()
