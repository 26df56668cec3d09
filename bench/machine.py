"""The machine's part: cores, limits, processes that end when we do, what has to be built first."""

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".bench"  # what a run builds and may use again
VENV = HOME / "venv"
PYTHON = VENV / "bin" / "python"
HUB = HOME / "gorilla-hub"
NODE = HOME / "node"  # with node_modules
NGINX_MODULES = Path("/usr/lib/nginx/modules")  # where Debian has them
_GOPATH = "/usr/share/gocode"  # where Debian's golang-*-dev packages are


class Unavailable(Exception):
    """Something cannot be measured here; the text says what is missing."""


def cores() -> tuple[int, int, int]:
    """The cores for the server, for the generator, and for databases.

    With two cores the databases share the generator's: the server is alone.
    """
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < 2:
        print("bench: only one core: server and generator share it", file=sys.stderr)
    return mine[0], mine[min(1, len(mine) - 1)], mine[min(2, len(mine) - 1)]


def raise_limits() -> None:
    """Lets us and what we start open as many files as we may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def end_on_signals() -> None:
    """SIGTERM and SIGHUP end us as Ctrl-C does: through every `finally`."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """What is started inside runs on this core alone, all its threads and children too.

    With None, on any.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str | os.PathLike[str]],
    *,
    core: int | None,
    log: Path,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that ends with the block, by SIGTERM, and 5 s later by SIGKILL."""
    with on_core(core), open(log, "wb") as output:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=cwd,
            env=dict(os.environ if env is None else env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; we end it
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_port(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Returns when something listens there.

    Raises:
        Unavailable: the process ended, or 30 s have passed; with the end of its log.
    """
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", port), 1).close()
        time.sleep(0.05)
    raise Unavailable(f"it does not start:\n{log.read_text(errors='replace')[-2000:]}")


def prepare_python(requirements: Path) -> None:
    """Makes .bench/venv, and installs into it, unless that was done before.

    Raises:
        Unavailable: pip failed.
    """
    _make_home()
    made = VENV / "made"
    kind = f"{HOME} {sys.version}"  # a venv does not move, nor follow an upgrade
    if not made.exists() or made.read_text() != kind:
        _must([sys.executable, "-m", "venv", "--clear", str(VENV)])
        made.write_text(kind)
    stamp = VENV / f"{requirements.parent.name}-{requirements.name}"
    wanted = requirements.read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"bench: installing {requirements.relative_to(ROOT)} into .bench/venv", file=sys.stderr)
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-qq"]
    _must([*pip, "-r", str(requirements)])
    stamp.write_text(wanted)


def prepare_generator() -> None:
    """Installs what the load generator needs, and compiles the parts of it that are.

    Raises:
        Unavailable: pip or the compiler failed.
    """
    prepare_python(ROOT / "bench" / "requirements.txt")
    for name in ("counter", "streams"):
        source = ROOT / "bench" / f"{name}.pyx"
        built = source.with_name(f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}")
        if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
            print(f"bench: compiling bench/{name}.pyx", file=sys.stderr)
            _must([str(PYTHON.parent / "cythonize"), "-q", "-i", "-f", str(source)])


def prepare_node() -> None:
    """Installs the packages of bench/peers/package.json, unless that was done before.

    Raises:
        Unavailable: there is no Node, or npm failed.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise Unavailable(f"no {program} (Debian: nodejs npm)")
    source = ROOT / "bench" / "peers" / "package.json"
    stamp = NODE / "made"
    if stamp.exists() and stamp.read_text() == source.read_text():
        return
    _make_home()
    NODE.mkdir(exist_ok=True)
    shutil.copyfile(source, NODE / "package.json")
    print("bench: installing bench/peers/package.json into .bench/node", file=sys.stderr)
    _must(["npm", "install", "--prefix", str(NODE), "--no-audit", "--no-fund"])
    shutil.copyfile(source, stamp)


def nginx_with(module: str) -> str:
    """The path of nginx, where the module is there, too.

    Raises:
        Unavailable: one of them is not.
    """
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None or not (NGINX_MODULES / f"ngx_{module}_module.so").exists():
        raise Unavailable(f"no nginx with {module} (Debian: nginx libnginx-mod-{module})")
    return program


def _make_home() -> None:
    HOME.mkdir(exist_ok=True)
    (HOME / ".gitignore").write_text("*\n")


def build_hub() -> None:
    """Builds the Go hub, unless it is newer than its source.

    Raises:
        Unavailable: no Go, no gorilla/websocket, or the source does not build.
    """
    source = ROOT / "bench" / "peers" / "main.go"
    if HUB.exists() and HUB.stat().st_mtime > source.stat().st_mtime:
        return
    go = shutil.which("go")
    if go is None:
        raise Unavailable(
            "no Go (Debian: golang-go golang-github-gorilla-websocket-dev golang-github-lib-pq-dev)"
        )
    _make_home()
    print("bench: building the gorilla hub", file=sys.stderr)
    env = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": os.environ.get("GOPATH", _GOPATH),
        "GOCACHE": str(HOME / "gocache"),
    }
    _must([go, "build", "-o", str(HUB), str(source)], env)


def _must(command: list[str], env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command[:4])} …: {(done.stderr or done.stdout).strip()}")
