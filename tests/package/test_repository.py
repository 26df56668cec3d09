"""An APT repository that `make apt-repository` makes, and a machine that uses it: one story.

The package was purged by the end of `test_removed`, is installed from there, and purged again.
"""

import re
import subprocess
from pathlib import Path

import pytest

from tests.package.container import Container
from tests.package.story import (
    ROOT,
    documented,
    follow,
    publish,
    transcripts,
    wait_until_ready,
)

VERSION = "dpkg-query --show --showformat '${Version}' relayd"


def test_the_documented_lines_install_from_a_repository_behind_a_web_server(
    debian: Container, package: Path
) -> None:
    publish(debian, package)
    debian.shell("echo 127.0.0.1 packages.example.org >>/etc/hosts; systemctl restart nginx")
    commands = documented("From an APT repository").replace("https://packages", "http://packages")
    print(debian.shell(commands.replace("apt install", "apt-get install --yes")))
    wait_until_ready(debian)
    assert "+next" not in debian.shell(VERSION)


def test_an_upgrade_of_the_system_brings_what_the_repository_got_since(
    debian: Container, newer: Path
) -> None:
    publish(debian, newer)
    debian.shell("apt-get update && apt-get upgrade --yes")
    assert debian.shell(VERSION).endswith("+next")
    wait_until_ready(debian)


def test_a_pinned_version_comes_back_and_stays(debian: Container) -> None:
    """The repository keeps what it had; the preferences are those of the page."""
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    [pin] = re.findall(r"(?ms)^```\n(Package: relayd\n.*?)^```", text)
    pinned = debian.shell(VERSION).removesuffix("+next")
    pin = re.sub("Pin: version .*", f"Pin: version {pinned}", pin)
    debian.shell(f"cat >/etc/apt/preferences.d/relayd <<'END'\n{pin}END")
    debian.shell("apt-get upgrade --yes --allow-downgrades")
    assert debian.shell(VERSION) == pinned
    debian.shell("apt-get update && apt-get upgrade --yes")
    assert debian.shell(VERSION) == pinned
    debian.shell("rm /etc/apt/preferences.d/relayd")


def test_the_chapter_on_the_removal_shows_what_its_commands_print(debian: Container) -> None:
    debian.shell(
        """
        echo >/etc/relayd/conf.d/proxy.toml
        echo >/etc/relayd/credentials/auth_secret
        """
    )
    follow(debian, transcripts("Stop, and remove"))


def test_a_list_that_was_changed_after_it_was_signed_is_not_used(
    debian: Container, newer: Path
) -> None:
    folder = publish(debian, newer)
    [lists] = (folder / "dists").glob("*/InRelease")
    signed = lists.read_text()
    lists.write_text(signed.replace("Origin: relayd", "Origin: others"))
    try:
        said = debian.try_shell(
            "rm -rf /var/lib/apt/lists/*; apt-get update; apt-get install -y relayd"
        )
    finally:
        lists.write_text(signed)
    assert said.returncode != 0
    assert "BADSIG" in said.stdout
    debian.shell("rm /etc/apt/sources.list.d/relayd.sources /etc/apt/keyrings/relayd.asc")


def test_no_part_of_the_repository_is_secret_and_all_of_it_can_be_read(
    debian: Container, package: Path
) -> None:
    folder = publish(debian, package)
    for path in folder.rglob("*"):
        assert path.stat().st_mode & 0o044 == 0o044, path
        assert path.is_dir() or b"PRIVATE KEY" not in path.read_bytes()[:4096], path


def test_another_package_of_a_version_that_was_published_is_refused(
    debian: Container, package: Path, tmp_path: Path
) -> None:
    folder = publish(debian, package)
    [published] = folder.glob(f"pool/*/main/r/relayd/{package.name}")
    before = published.read_bytes()
    name, version, architecture = package.stem.split("_")
    control = tmp_path / "tree" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n"
        "Maintainer: Nobody <nobody@example.org>\nDescription: another one\n"
    )
    subprocess.run(["dpkg-deb", "--build", tmp_path / "tree", tmp_path / "other.deb"], check=True)
    with pytest.raises(AssertionError, match="another package of the same version"):
        publish(debian, tmp_path / "other.deb")
    assert published.read_bytes() == before
