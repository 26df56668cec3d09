"""An operator's night, after `test_installed`: faults are told, and their remedies mend them."""

import json
import re
import time
from typing import Any

import pytest

from tests.package.container import PATIENCE, Container
from tests.package.story import echo_works, faults, wait_until_ready

VISIT = (
    "/usr/lib/relayd/bin/python -c 'import sys, urllib.request as u; "
    "print(u.urlopen(sys.argv[1]).read().decode())' http://127.0.0.1:8080"
)
COMMAND = r"(?:systemctl|relayctl) [a-z]+(?: relayd[a-z.]*)?"
METRICS = f"{VISIT}/metrics"


def apply_remedy(debian: Container, check: str) -> None:
    """Does what doctor says to the only finding of a check, and asks again."""
    [found] = faults(debian, check)
    command = re.search(COMMAND, found["remedy"])
    assert command is not None, found
    debian.shell(command[0])
    wait_until_ready(debian)
    assert faults(debian, check) == []


def status(debian: Container) -> Any:
    return json.loads(debian.shell("relayctl status --json"))


@pytest.mark.every_debian
def test_a_sound_system_has_no_fault_and_doctor_takes_less_than_a_second(debian: Container) -> None:
    debian.shell("systemctl restart relayd")  # resets the count of starts
    wait_until_ready(debian)
    assert [one for one in faults(debian) if one["state"] == "fault"] == []
    assert faults(debian, "systemd") == faults(debian, "differences") == []
    used = debian.shell("TIMEFORMAT='%U %S'; time relayctl doctor >/dev/null 2>&1 || true")
    seconds = sum(map(float, used.split()))
    print(f"doctor took {seconds:.2f} s of the processor")
    assert seconds < 1.0


def test_each_difference_between_the_files_and_what_runs_is_told_until_its_remedy(
    debian: Container,
) -> None:
    debian.shell(
        """
        printf '[server]\\nworkers = 3\\n' >/etc/relayd/conf.d/workers.toml
        (umask 077; openssl rand -hex 32 >/etc/relayd/credentials/auth_secret)
        printf '[server]\\nlisten = ["tcp:9999"]\\n' >/etc/relayd/conf.d/listen.toml
        """
    )
    said = {one["setting"]: one["remedy"] for one in status(debian)["local"]["differs"]}
    assert said == {
        "[server] workers": "restart",
        "[auth] secret": "reload",
        "[server] listen": "socket",
    }
    for remedy in ("restart", "socket"):  # relayd itself cannot read the secret
        line = f'relayd_configuration_differs{{remedy="{remedy}"}} 1.0'
        debian.eventually(f"{METRICS} | grep -F '{line}'")
    found = {one["finding"].partition(":")[0]: one["remedy"] for one in faults(debian, "differ")}
    assert len(found) == 3, found
    debian.shell("rm /etc/relayd/conf.d/listen.toml; relayctl reload")
    apply_remedy(debian, "differences")
    assert len(status(debian)["local"]["processes"]) == 3
    debian.shell("printf '[server]\\nworkers = 2\\n' >/etc/relayd/conf.d/workers.toml")
    apply_remedy(debian, "differences")


def test_a_rotated_password_of_redis_is_handed_over_to_a_hardened_service(
    debian: Container,
) -> None:
    """With ACL users, PrivateUsers= and workers; a client that is connected notices nothing."""
    rotate = """
        redis-cli ACL SETUSER relayd on resetpass '>{0}' '~*' '&*' +@all
        (umask 077; echo 'redis://relayd:{0}@127.0.0.1:6379/0' >/etc/relayd/credentials/redis_url)
    """
    debian.shell(rotate.format("first-word") + "systemctl restart relayd")
    wait_until_ready(debian)
    with debian.connect("/ws/chat/rotation?history=0") as client:
        for number, reload in enumerate(("relayctl reload", "systemctl reload relayd")):
            debian.shell(rotate.format(f"word-{number}") + reload)
            in_use = "journalctl -u relayd --no-pager | grep -c 'the new login is in use'"
            debian.eventually(f"test $({in_use}) -ge {2 * number + 2}")
            assert "differs" not in debian.shell("relayctl status")
        client.send('{"message": "Hello."}')
        assert json.loads(client.recv(timeout=PATIENCE))["message"] == "Hello."
    log = debian.shell("journalctl -u relayd --no-pager")
    assert "handed over" in log
    assert "-word" not in log
    assert "word-" not in log


def test_systemd_shows_that_the_database_is_away_and_back(debian: Container) -> None:
    debian.shell("systemctl stop postgresql")
    try:
        # an idle relayd notices when somebody asks
        said = "systemctl show -P StatusText relayd | grep '^Serving, database '"
        debian.eventually(f"{VISIT}/readyz >/dev/null 2>&1 || true; {said}")
        assert faults(debian, "database") != []
    finally:
        debian.shell("systemctl start postgresql")
    debian.eventually("systemctl show -P StatusText relayd | grep '^Serving: '")
    assert faults(debian, "database") == []


def test_a_process_that_died_leaves_status_and_doctor_once_another_serves_in_its_place(
    debian: Container,
) -> None:
    [dead, _] = status(debian)["local"]["processes"]
    debian.shell(f"kill -KILL {dead['pid']}")
    wait_until_ready(debian)
    deadline = time.monotonic() + PATIENCE  # the lease is 10 seconds
    while dead["id"] in {one["id"] for one in status(debian)["processes"]}:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert {one["state"] for one in status(debian)["processes"]} == {"ok"}
    assert faults(debian, "processes") == []


def test_starts_that_failed_lately_are_a_fault_and_a_restart_forgets_them(
    debian: Container,
) -> None:
    debian.shell("kill -KILL $(systemctl show -P MainPID relayd)")
    debian.eventually("test $(systemctl show -P NRestarts relayd) -ge 1")
    wait_until_ready(debian)
    [found] = faults(debian, "systemd")
    assert "systemd has started it again, 1 time, the last one 0 min ago" in found["finding"]
    apply_remedy(debian, "systemd")


def test_a_socket_that_has_failed_is_a_fault_and_its_remedy_makes_it_listen(
    debian: Container,
) -> None:
    override = "/run/systemd/system/relayd.socket.d"
    debian.shell(
        f"""
        mkdir -p {override}
        printf '[Socket]\\nExecStartPre=/bin/false\\n' >{override}/broken.conf
        systemctl daemon-reload
        systemctl stop relayd.socket
        ! systemctl start relayd.socket
        rm -r {override}
        systemctl daemon-reload
        """
    )
    assert debian.try_shell("systemctl is-failed relayd.socket").stdout.strip() == "failed"
    assert [one["state"] for one in faults(debian, "systemd")][:1] == ["fault"]
    found = faults(debian, "systemd")
    print(found)
    for one in found:
        debian.shell(re.findall(COMMAND, one["remedy"])[-1])
    wait_until_ready(debian)
    assert faults(debian, "systemd") == []
    with debian.connect("/ws/camera") as client:
        echo_works(client)


def test_the_hook_of_certbot_makes_relayd_serve_the_renewed_certificate(debian: Container) -> None:
    def renew() -> str:
        return debian.shell(
            """
            mkdir -p /root/lineage
            openssl req -x509 -newkey rsa:2048 -nodes -days 60 -subj /CN=relay.example.org \\
                -addext subjectAltName=DNS:relay.example.org \\
                -keyout /root/lineage/privkey.pem -out /root/lineage/fullchain.pem 2>/dev/null
            RENEWED_LINEAGE=/root/lineage /usr/share/doc/relayd/examples/certbot/relayd
            """
        )

    renew()
    debian.shell(
        """
        cd /etc/relayd/conf.d
        printf '[tls]\\ncertificate = "/etc/relayd/tls/fullchain.pem"\\n' >tls.toml
        printf 'key = "/etc/relayd/tls/privkey.pem"\\n' >>tls.toml
        systemctl restart relayd || { journalctl -u relayd -n 20 --no-pager; false; }
        """
    )
    wait_until_ready(debian)
    main = debian.shell("systemctl show -P MainPID relayd")
    renew()
    served = "openssl s_client -connect 127.0.0.1:8443 </dev/null 2>/dev/null"
    mine = "openssl x509 -noout -fingerprint -in /root/lineage/fullchain.pem"
    debian.eventually(f'test "$({served} | openssl x509 -noout -fingerprint)" = "$({mine})"')
    assert debian.shell("systemctl show -P MainPID relayd") == main
    assert debian.shell("stat -c '%U %G %a' /etc/relayd/tls/privkey.pem") == "root relayd 640"
    debian.shell("rm -r /etc/relayd/conf.d/tls.toml /etc/relayd/tls; systemctl restart relayd")
    wait_until_ready(debian)
