"""The end of the story of `test_installed`: the package is removed, and leaves nothing.

The commands are those of docs/install.md.
"""

import pytest

from tests.package.container import Container
from tests.package.story import before, close_code, documented, files

pytestmark = pytest.mark.every_debian

[REMOVE, PURGE] = documented("Remove").splitlines()


def test_a_removed_package_does_not_run_and_keeps_the_data_of_the_site(debian: Container) -> None:
    debian.shell(
        """
        rm -f /etc/nginx/conf.d/relayd.conf /etc/nginx/relayd.*
        systemctl reload nginx
        (umask 077; echo of-the-site >/etc/relayd/credentials/api_key)
        """
    )
    with debian.connect("/ws/camera") as client:
        debian.shell(REMOVE)
        assert close_code(client) == 1001
    with pytest.raises(ConnectionRefusedError):
        debian.dial(8080)
    debian.shell("test -e /etc/relayd/relayd.toml -a -e /etc/relayd/credentials/api_key")
    debian.shell("test -e /var/lib/relayd/relayd.db -a ! -e /usr/lib/relayd")


def test_a_purged_package_leaves_no_file_no_unit_no_process_and_no_user(debian: Container) -> None:
    debian.shell(PURGE)
    left = {path for path in files(debian) - before if "relayd" in path}
    assert left == set()
    changed = files(debian) - before
    assert {path for path in changed if path.startswith(("/etc", "/usr", "/lib"))} == set()
    assert debian.try_shell("systemctl list-unit-files --no-legend 'relayd*'").stdout == ""
    # systemd may remember the name of a unit that is not there any more: "not-found inactive dead"
    units = debian.try_shell("systemctl list-units --all --plain --no-legend 'relayd*'").stdout
    assert {tuple(line.split()[1:4]) for line in units.splitlines()} <= {
        ("not-found", "inactive", "dead")
    }
    assert debian.shell("find / -xdev \\( -nouser -o -nogroup \\) -print") == ""
    assert debian.try_shell("getent passwd relayd || getent group relayd").returncode != 0
    assert debian.try_shell("pgrep -f /usr/lib/relayd").returncode != 0
