"""Checks of this machine: the configuration, the running relayd, its limits, the kernel's.

Listed in `checks`.
"""

import os
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relayd.config.drift import Remedy
from relayd.ctl import service
from relayd.ctl.bench import procfs as process
from relayd.ctl.bench.target import Target
from relayd.ctl.control_client import ControlClient, Refused, Unreachable
from relayd.ctl.doctor.facts import Facts, read_number
from relayd.ctl.doctor.findings import Finding, fault, ok, skipped, warn
from relayd.ctl.status import find_differences
from relayd.edge.ports import BACKLOG, NAMED_BACKLOG
from relayd.edge.seats import files_for_clients, share_of

_TIMEOUT = 5.0  # seconds
_REMEDIES = {
    Remedy.RELOAD: "{relayctl} reload",
    Remedy.RESTART: "{relayctl} restart; without the package, restart it as it was started",
    Remedy.SOCKET: "systemctl edit {unit}.socket, or remove the setting from the file",
    Remedy.CORRECT: "correct it: relayd does not start again with it",
}
_OPENED = 40  # open files of a process without clients: libraries, ports, the log
_FEW = 4096


def look_at_configuration(facts: Facts) -> Iterator[Finding]:
    """Faults of a configuration that can be read: open secrets, for example."""
    for sentence in facts.loaded.warnings:
        text, _, remedy = sentence.rpartition(": ")
        yield warn(text or sentence, remedy if text else "correct it")
    if not facts.loaded.warnings:
        yield ok("the configuration is good, and other users cannot read its secrets")
    config = facts.config
    if config.auth.secret and not config.auth.required:
        yield ok("tokens are checked, but not required")


def look_at_differences(facts: Facts) -> Iterator[Finding]:
    """Whether what stands in the files is what runs, credentials included."""
    if facts.status is None:
        yield skipped("the running relayd cannot be asked for its configuration")
        return
    found = find_differences(ControlClient(facts.config), facts.status)
    names = {"relayctl": service.command(os.environ), "unit": service.unit(os.environ)}
    for one in found:
        remedy = _REMEDIES[one.remedy].format_map(names)
        yield warn(f"{one.text}: {one.remedy.sentence}", remedy)
    if not found:
        yield ok("relayd runs with what stands in the files")


def look_at_daemon(facts: Facts) -> Iterator[Finding]:
    """Whether relayd answers on each of its addresses, and is ready."""
    if not facts.targets:
        yield skipped("[server] listen names no address that can be checked")
    for description, target in facts.targets.items():
        if description.startswith("haproxy:"):
            continue
        try:
            status, body = _get(target, "/readyz")
        except OSError as error:
            yield fault(
                f"relayd does not answer at {target.shown}: {error.strerror or error}",
                "systemctl status {0}, journalctl -u {0}".format(service.unit(os.environ)),
            )
            continue
        if status == 200:
            yield ok(f"relayd is ready at {target.shown}")
        elif status == 503:
            yield fault(f"relayd at {target.shown} is not ready: {body}", "see the parts it names")
        else:
            yield fault(
                f"{target.shown} is no relayd: /readyz answers {status}",
                "another program has the port: ss -ltnp; or this is not the daemon's configuration",
            )


def look_at_control(facts: Facts) -> Iterator[Finding]:
    """Whether relayctl reaches the running relayd."""
    if facts.config.control.socket == "off":
        yield skipped('[control] socket is "off"')
        return
    try:
        control = ControlClient(facts.config)
        control.get("/status", dict[str, Any])
    except (Unreachable, Refused) as error:
        if not facts.pids:
            yield skipped("no relayd runs here that this user can see")
            return
        yield fault(
            f"relayctl does not reach the running relayd: {error}",
            "as root or a member of the group relayd, with the daemon's configuration: relayctl "
            "--config FILE, in the folder where relayd runs",
        )
    else:
        yield ok(f"{control.path} answers")


def look_at_files(facts: Facts) -> Iterator[Finding]:
    """Whether the running processes may open a file for each client."""
    wanted = facts.config.limits.max_connections
    seen = False
    processes = facts.status.processes if facts.status is not None else []
    dropped = {each.pid: each.dropped_for_files for each in processes}
    for pid in facts.pids:
        limit = _open_files(pid)
        if limit is None:
            continue
        seen = True
        what = f"{process.name(pid)} {pid} may open {limit} files"
        remedy = (
            f"LimitNOFILE={max(65536, wanted * 2)} in a drop-in "
            f"(systemctl edit {service.unit(os.environ)}) and a restart; without systemd: ulimit -n"
        )
        files = files_for_clients(facts.config, limit, _OPENED)
        clients = files - share_of(files)
        if dropped.get(pid):
            yield fault(
                f"{what}, and none was left for {dropped[pid]} connections since it started: they "
                "were dropped without an answer",
                remedy,
            )
        elif wanted > clients:
            yield fault(f"{what}, and [limits] max_connections is {wanted}", remedy)
        elif limit < _FEW:
            yield warn(f"{what}: enough for {clients} clients", remedy)
        else:
            yield ok(what)
    if not seen:
        yield skipped("this user cannot see relayd's processes; run doctor as root on its machine")


def look_at_kernel(facts: Facts) -> Iterator[Finding]:
    """Whether the listen queue is long enough for many clients that reconnect at once."""
    limit = read_number("/proc/sys/net/core/somaxconn")
    if limit is None:
        yield skipped("the kernel does not show net.core.somaxconn")
        return
    for description in facts.listen:
        if (found := NAMED_BACKLOG.search(description)) and (backlog := int(found[1])) > limit:
            yield warn(
                f"{description}: the kernel cuts backlog={backlog} down to {limit} "
                "(net.core.somaxconn)",
                _raise(backlog),
            )
            return
    if limit < BACKLOG:
        yield warn(
            f"net.core.somaxconn is {limit}: if more clients than that reconnect at once, the "
            "others wait for seconds",
            _raise(BACKLOG),
        )
        return
    ports = _net("TcpExt").get("ListenOverflows", 0)
    yield ok(f"net.core.somaxconn is {limit}; {ports} overflows on this machine since it started")


def _raise(limit: int) -> str:
    """The remedy for a listen queue that is too short."""
    return (
        f"net.core.somaxconn = {limit} in /etc/sysctl.d/relayd.conf, sysctl --system, and a "
        f"restart of relayd; for a container, docker run --sysctl net.core.somaxconn={limit}"
    )


def _get(target: Target, path: str) -> tuple[int, str]:
    """Status and the first line of the body. Raises OSError."""
    if target.unix:
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(_TIMEOUT)
        plain.connect(target.unix)
    else:
        plain = socket.create_connection((target.host, target.port), _TIMEOUT)
    with plain:
        connection = plain
        if target.trust is not None:
            # its certificate is not for the address that is used on this machine
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = context.wrap_socket(plain)
        words = f"GET {path} HTTP/1.1\r\nHost: {target.host}\r\nConnection: close\r\n\r\n"
        connection.sendall(words.encode())
        answer = b""
        while len(answer) < 65536 and (chunk := connection.recv(4096)):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    return (int(found[1]) if found else 0), body.decode(errors="replace").strip()[:200]


def _open_files(pid: int) -> int | None:
    """The limit of open files of a process; None if this user may not read it."""
    try:
        text = Path(f"/proc/{pid}/limits").read_text()
    except OSError:
        return None
    found = re.search(r"^Max open files +(\d+|unlimited)", text, re.MULTILINE)
    if found is None:
        return None
    return 1 << 30 if found[1] == "unlimited" else int(found[1])


def _net(group: str) -> dict[str, int]:
    """Counters of the kernel's network, such as TcpExt."""
    try:
        lines = Path("/proc/net/netstat").read_text().splitlines()
    except OSError:
        return {}
    found = [line.split()[1:] for line in lines if line.startswith(f"{group}:")]
    return dict(zip(found[0], map(int, found[1]), strict=True)) if len(found) == 2 else {}
