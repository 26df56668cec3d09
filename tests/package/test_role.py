"""The Ansible role of etc/examples/, run for the Debian that boots: one story.

The package was purged by the end of `test_installed`, and the role installs it again.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Chain
from tests.daemon import tls_client
from tests.package.container import PATIENCE, Container
from tests.package.story import publish

ROLE = Path(__file__).resolve().parents[2] / "etc" / "examples" / "ansible"
PLAYBOOK = """
- hosts: all
  gather_facts: false
  pre_tasks:
    - ansible.builtin.setup: {gather_subset: ["!all", "!min", distribution]}
      when: relayd_repository is defined
  roles: [relayd]
"""
# what Ansible calls in place of ssh: its last argument is the command
ENTER = """#!/bin/bash
exec nsenter --target {leader} --all --root --wd env -i HOME=/root LANG=C.UTF-8 \\
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /bin/sh -c "${{!#}}"
"""


class Ansible:
    """ansible-playbook with the role, for the container.

    Args:
        folder: an empty folder for its playbook and inventory.
        debian: the container.
        package: the .deb.
    """

    def __init__(self, folder: Path, debian: Container, package: Path) -> None:
        self._folder = folder
        shutil.copytree(ROLE / "roles", folder / "roles")
        (folder / "site.yml").write_text(PLAYBOOK)
        enter = folder / "enter"
        enter.write_text(ENTER.format(leader=debian.leader))
        enter.chmod(0o755)
        self._variables: dict[str, Any] = {
            "ansible_ssh_executable": str(enter),
            "ansible_ssh_transfer_method": "piped",
            "ansible_ssh_args": "",
            "ansible_python_interpreter": "/usr/bin/python3",
            "relayd_package": str(package),
            "relayd_name": "relay.example.org",
        }

    def try_run(self, **variables: Any) -> tuple[int, str]:
        """Runs the role with these variables; the exit status, and what was printed."""
        hosts = {"relay.example.org": {**self._variables, **variables}}
        (self._folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
        ran = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", "hosts.json", "site.yml"],
            cwd=self._folder, check=False, text=True, timeout=300, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "ANSIBLE_HOME": str(self._folder / "home"), "ANSIBLE_NOCOLOR": "1"},
        )  # fmt: skip
        return ran.returncode, ran.stdout

    def run(self, **variables: Any) -> set[str]:
        """Does so; the tasks that changed something. Fails with what was printed if it fails."""
        status, printed = self.try_run(**variables)
        assert status == 0, printed
        assert "WARNING" not in printed, printed
        return set(
            re.findall(r"(?m)^(?:TASK|RUNNING HANDLER) \[relayd : (.*?)\].*\nchanged", printed)
        )


SETTINGS = {"proxy": {"trusted": ["127.0.0.1", "::1"]}, "chat": {"history": 20}}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A certificate for the relay."""
    return Chain(tmp_path_factory.mktemp("certificate"), "relay.example.org")


@pytest.fixture(scope="module")
def ansible(
    debian: Container, package: Path, chain: Chain, tmp_path_factory: pytest.TempPathFactory
) -> Ansible:
    """The role, for a container without relayd, which has a certificate for nginx."""
    debian.shell("! dpkg --status relayd 2>/dev/null | grep -q '^Status: .* installed'")
    folder = tmp_path_factory.mktemp("ansible")
    live = debian.root / "etc" / "letsencrypt" / "live" / "relay.example.org"
    live.mkdir(parents=True, exist_ok=True)
    shutil.copy(chain.certificate, live / "fullchain.pem")
    shutil.copy(chain.key, live / "privkey.pem")
    return Ansible(folder, debian, package)


def process(debian: Container) -> str:
    """The main process of the service."""
    return debian.shell("systemctl show -P MainPID relayd")


def test_the_role_installs_a_relayd_that_serves_behind_nginx(
    debian: Container, ansible: Ansible, chain: Chain
) -> None:
    trust = tls_client(chain.root_file)
    changed = ansible.run(relayd_settings=SETTINGS, relayd_nginx=True)
    assert {"Install relayd from the package", "Write the settings", "Write the site"} <= changed
    assert "history = 20" in debian.shell("relayctl check-config")
    debian.shell("nginx -t && systemctl is-enabled nginx relayd.socket relayd.service")
    with (
        debian.connect("/ws/camera/role", 443, ssl=trust) as camera,
        debian.connect("/ws/camera/role", 443, ssl=trust) as viewer,
    ):
        camera.send('{"x": 1, "y": 2, "z": 3}')
        assert json.loads(viewer.recv(timeout=PATIENCE)) == {"x": 1, "y": 2, "z": 3}


def test_a_second_run_changes_nothing(debian: Container, ansible: Ansible) -> None:
    before = process(debian)
    assert ansible.run(relayd_settings=SETTINGS, relayd_nginx=True) == set()
    assert process(debian) == before


def test_a_setting_that_a_reload_applies_keeps_the_process(
    debian: Container, ansible: Ansible
) -> None:
    before = process(debian)
    changed = ansible.run(relayd_settings={**SETTINGS, "chat": {"history": 30}})
    assert changed == {"Write the settings", "Reload relayd"}
    assert process(debian) == before
    journal = debian.shell("journalctl -u relayd --no-pager -n 5")
    assert "applied to new connections: [chat] history = 30 (was 20)" in journal


def test_settings_that_need_a_restart_and_a_new_secret_get_one(
    debian: Container, ansible: Ansible
) -> None:
    debian.shell("systemctl start redis-server")
    before = process(debian)
    changed = ansible.run(
        relayd_settings={**SETTINGS, "server": {"workers": 2}},
        relayd_credentials={"redis_url": "redis://127.0.0.1:6379/0"},
    )
    assert {"Write the credentials", "Write the settings", "Restart relayd"} <= changed
    assert process(debian) != before
    assert debian.shell("stat -c %a /etc/relayd/credentials/redis_url") == "600"
    debian.eventually("relayctl status | grep -q '^w2 '")


def test_a_wrong_setting_fails_the_run_and_changes_nothing(
    debian: Container, ansible: Ansible
) -> None:
    before = process(debian)
    file = debian.shell("cat /etc/relayd/conf.d/50-ansible.toml")
    status, printed = ansible.try_run(relayd_settings={"chat": {"histroy": 20}})
    assert status != 0
    assert "no such setting" in printed
    assert debian.shell("cat /etc/relayd/conf.d/50-ansible.toml") == file
    assert process(debian) == before


def test_the_role_upgrades_from_a_signed_repository(
    debian: Container, ansible: Ansible, newer: Path
) -> None:
    """As files, without a word which release of Debian it is."""
    folder = publish(debian, newer)
    changed = ansible.run(
        relayd_package="", relayd_settings={**SETTINGS, "server": {"workers": 2}},
        relayd_repository=f"file:/{folder.relative_to(debian.root)}",
        relayd_repository_key=str(folder / "relayd.asc"),
    )  # fmt: skip
    assert changed == {
        "Name the key of the repository",
        "Name the repository",
        "Install relayd from the repository",
    }
    assert "+next" in debian.shell("relayctl --version")
    debian.eventually("relayctl status | grep -q '+next'")
