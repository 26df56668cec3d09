"""clients/web/relayd.js in a page of another origin, which imports it from the relay."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chromium import Browser
from tests.daemon import Daemon

PAGE = """<!doctype html><title>elsewhere</title><p id="said"></p>
<script type="module">
  import { Camera } from "RELAY/clients/relayd.js";
  const camera = new Camera("RELAY", "elsewhere");
  const said = document.querySelector("#said");
  camera.addEventListener("state", () => {
    const { name, error } = camera.state;
    said.textContent = [name, error?.status, error?.code].join(" ").trim();
    if (name === "connected") camera.move(0.5, 1.25, -3);
  });
  camera.addEventListener("pose", ({ detail }) => (said.textContent = JSON.stringify(detail)));
  camera.connect();
</script>"""


@pytest.fixture
def elsewhere() -> Iterator[http.server.ThreadingHTTPServer]:
    """A server of another origin; its attribute `page` is what it serves."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.server.page.encode()  # type: ignore[attr-defined]
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("allowed", [True, False])
def test_a_page_of_another_origin_imports_the_module_and_connects_if_its_origin_is_allowed(
    elsewhere: http.server.ThreadingHTTPServer, browser: Browser, tmp_path: Path, allowed: bool
) -> None:
    origin = f"http://127.0.0.1:{elsewhere.server_port}"
    origins = {"RELAYD_SERVER_ALLOWED_ORIGINS": origin} if allowed else {}
    relay = Daemon(tmp_path, origins).start()
    try:
        elsewhere.page = PAGE.replace("RELAY", relay.url)  # type: ignore[attr-defined]
        browser.open(origin)
        said = '{"x":0.5,"y":1.25,"z":-3}' if allowed else "refused 403 origin_not_allowed"
        browser.wait_for(lambda: browser.shown("#said") == said)
    finally:
        relay.stop()
