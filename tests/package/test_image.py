"""The image of the Dockerfile, built and run: each test begins where the last one ended."""

import base64
import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from relayd import __version__
from tests.package.podman import Podman
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "localhost/relayd:test"
LARGEST = 120_000_000
PATIENCE = 30.0
VOLUME = "relayd-test"
KEY = "the-key-of-the-image-test"


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """Podman with the image; its layers stay for the next run, until `make clean`."""
    podman = Podman(ROOT / "build" / "podman")
    if reason := podman.works():
        pytest.skip(f"podman runs no containers here: {reason}")
    podman.build(ROOT, IMAGE)
    podman.try_run("volume", "rm", "--force", VOLUME)
    try:
        yield podman
    finally:
        podman.try_run("rm", "--force", "--time=0", "relayd")
        podman.try_run("volume", "rm", "--force", VOLUME)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the key of the API."""
    folder = tmp_path_factory.mktemp("secrets")
    folder.chmod(0o755)
    (folder / "api_key").write_text(KEY)
    return folder


@pytest.fixture(scope="module")
def port(podman: Podman, secrets: Path) -> int:
    """Where the relayd of a container listens; the container is started, and ready."""
    port = free_port()
    start(podman, port, secrets)
    return port


def start(podman: Podman, port: int, secrets: Path) -> None:
    """Starts a container as an operator does, and waits for its health check."""
    podman.start(
        *("relayd", IMAGE, f"--volume={VOLUME}:/var/lib/relayd", f"--env=PORT={port}"),
        f"--volume={secrets}:/run/secrets:ro",
    )
    podman.eventually("healthcheck", "run", "relayd")


@contextlib.contextmanager
def client(port: int, path: str) -> Iterator[ClientConnection]:
    """A WebSocket to the container."""
    url = f"ws://127.0.0.1:{port}{path}"
    with connect(url, proxy=None, legacy=True, open_timeout=PATIENCE) as connected:
        yield connected


def test_the_image_is_small_and_has_no_shell_and_no_compiler(podman: Podman) -> None:
    size = int(podman.run("image", "inspect", IMAGE, "--format={{.Size}}"))
    print(f"the image has {size / 1e6:.1f} MB")
    assert size < LARGEST
    for program in ("/bin/sh", "/bin/bash", "/usr/bin/gcc", "/usr/lib/relayd/bin/pip"):
        ran = podman.try_run("run", "--rm", "--network=none", f"--entrypoint={program}", IMAGE)
        assert ran.returncode == 127, program  # as a shell says that a command is not there


def test_the_image_runs_as_a_user_with_a_number_that_is_not_root(podman: Podman) -> None:
    config = json.loads(podman.run("image", "inspect", IMAGE))[0]["Config"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert "/var/lib/relayd" in config["Volumes"]
    assert config["Entrypoint"][0] == "twistd", "a shell in between would keep the signal"


def test_a_container_without_any_right_serves(podman: Podman, port: int) -> None:
    with client(port, "/ws/camera/image") as sender, client(port, "/ws/camera/image") as viewer:
        sender.send('{"x": 1, "y": 2, "z": 3}')
        assert json.loads(viewer.recv(timeout=PATIENCE)) == {"x": 1, "y": 2, "z": 3}
    assert f"relayd {__version__} listens on" in podman.logs("relayd")
    assert "Unable to write" not in podman.logs("relayd")


def test_relayctl_in_the_container_reaches_the_daemon_and_finds_no_fault(
    podman: Podman, port: int
) -> None:
    shown = json.loads(podman.run("exec", "relayd", "relayctl", "status", "--json"))
    assert shown["processes"][0]["pid"] == 1
    assert "no fault" in podman.run("exec", "relayd", "relayctl", "doctor")


def test_the_health_check_fails_where_nothing_answers(podman: Podman, port: int) -> None:
    check = ("python", "-S", "/usr/lib/relayd/healthy.py")
    assert podman.try_run("exec", "relayd", *check).returncode == 0
    ran = podman.try_run("exec", f"--env=PORT={free_port()}", "relayd", *check)
    assert ran.returncode == 1
    assert "Connection refused" in ran.stderr


def test_the_image_has_what_tls_and_postgresql_need(podman: Podman, port: int) -> None:
    program = (
        "import ssl, psycopg2, picows; print(len(ssl.create_default_context().get_ca_certs()) > 50)"
    )
    assert podman.run("exec", "relayd", "python", "-c", program) == "True"
    url = "postgresql://relayd@127.0.0.1:1/relayd"
    ran = podman.try_run("exec", f"--env=DATABASE_URL={url}", "relayd", "relayctl", "db", "status")
    assert "Connection refused" in ran.stderr


def test_secrets_that_docker_mounts_are_used(port: int) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/push/image", b'{"percent": 1}')
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(request, timeout=PATIENCE)
    request.add_header("Authorization", f"Bearer {KEY}")
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        assert answer.status == 200


def test_the_pod_of_the_kubernetes_example_serves_and_drains_before_it_stops(
    podman: Podman, tmp_path: Path
) -> None:
    """By `podman kube play`, which runs a Deployment's pod with its ConfigMap and Secret."""
    port = free_port()
    kubectl = Path(sys.executable).with_name("kubectl")
    built = subprocess.run(
        [kubectl, "kustomize", ROOT / "etc" / "examples" / "kubernetes"],
        check=True, text=True, stdout=subprocess.PIPE,
    ).stdout.replace("registry.example.org/relayd:latest", IMAGE)  # fmt: skip
    documents = {one["kind"]: one for one in yaml.safe_load_all(built)}
    deployment = documents["Deployment"]
    deployment["spec"]["replicas"] = 1
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    # the network of this machine, in which 8080 may be taken, has no ports of its own for a pod
    container["env"] = [{"name": "PORT", "value": str(port)}]
    for key in ("ports", "startupProbe", "readinessProbe", "livenessProbe"):
        del container[key]
    for volume in pod["volumes"]:
        if "secret" in volume:
            volume["secret"]["optional"] = False  # Podman 4.3 crashes without it
    secret = {"api_key": base64.b64encode(KEY.encode()).decode()}
    documents["Secret"] = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "relayd"}, "data": secret,
    }  # fmt: skip
    kinds = ("Secret", "ConfigMap", "Deployment")
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump_all(documents[kind] for kind in kinds))
    podman.run("kube", "play", "--network=host", tmp_path / "pod.yaml")
    name = "relayd-pod-0-relayd"
    try:
        podman.eventually("exec", name, "relayctl", "status")
        shown = podman.run("exec", name, "relayctl", "check-config")
        assert '[server] names = ["relay.example.org"]' in shown
        assert "[api] key = (hidden)" in shown
        command = container["lifecycle"]["preStop"]["exec"]["command"]
        podman.run("exec", name, *(word.replace("sleep(10)", "sleep(0)") for word in command))
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE)
    finally:
        podman.run("kube", "play", "--down", tmp_path / "pod.yaml")


def test_on_sigterm_clients_get_1001_and_the_volume_keeps_what_they_wrote(
    podman: Podman, port: int, secrets: Path
) -> None:
    with client(port, "/ws/chat/image") as writer:
        writer.send('{"message": "kept"}')
        assert json.loads(writer.recv(timeout=PATIENCE))["message"] == "kept"
        podman.run("kill", "--signal=TERM", "relayd")
        with pytest.raises(ConnectionClosed) as closed:
            writer.recv(timeout=PATIENCE)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert podman.run("wait", "relayd") == "0"
    podman.run("rm", "relayd")
    start(podman, port, secrets)
    with client(port, "/ws/chat/image?history=1") as reader:
        assert json.loads(reader.recv(timeout=PATIENCE))["message"] == "kept"
