"""The chapters of docs/install.md that `test_installed` has not run, after the guide."""

import shutil
from collections.abc import Iterator

import pytest

from tests.certificates import Chain
from tests.daemon import tls_client
from tests.package.container import Container
from tests.package.story import documented, echo_works, faults, wait_until_ready, without_nginx

HOST = "relay.example.org"


@pytest.fixture(scope="module", autouse=True)
def no_nginx(debian: Container) -> Iterator[None]:
    """Port 443 is relayd's here."""
    with without_nginx(debian):
        yield


def test_the_documented_steps_let_relayd_listen_at_another_address(debian: Container) -> None:
    """The editor writes the lines of the page, to where `systemctl edit` says."""
    wanted = documented("Another address", kind="ini")
    script = documented("Another address")
    (debian.root / "root" / "override").write_text(wanted)
    debian.type(f"export SYSTEMD_EDITOR='cp /root/override'\n{script}")
    wait_until_ready(debian)
    # 127.0.0.2 is another address than the packaged one, without any network
    debian.shell("curl --fail --silent --show-error http://127.0.0.2:8080/readyz")
    assert faults(debian, "systemd") == []
    debian.shell(
        """
        systemctl revert relayd.socket
        systemctl stop relayd.service
        systemctl restart relayd.socket
        systemctl start relayd.service
        """
    )
    assert debian.try_shell("curl --silent http://127.0.0.2:8080/readyz").returncode == 7


def test_the_documented_steps_let_relayd_speak_tls_without_a_proxy(
    debian: Container, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With a certificate as certbot gets it, here from an authority of the test."""
    chain = Chain(tmp_path_factory.mktemp("certificate"), HOST)
    live = debian.root / "etc" / "letsencrypt" / "live" / HOST
    live.mkdir(parents=True)
    shutil.copy(chain.certificate, live / "fullchain.pem")
    shutil.copy(chain.key, live / "privkey.pem")
    etc = debian.root / "etc"
    (etc / "relayd/conf.d/tls.toml").write_text(documented("TLS without a proxy", kind="toml"))
    unit = etc / "systemd/system/relayd-tls.socket"
    unit.write_text(documented("TLS without a proxy", kind="ini"))
    print(debian.shell(documented("TLS without a proxy")))
    wait_until_ready(debian)
    with debian.connect("/ws/camera", 443, ssl=tls_client(chain.root_file)) as client:
        echo_works(client)
    assert ", https://" in debian.shell("relayctl status | tail -n 1")
    debian.shell(
        """
        systemctl disable --now relayd-tls.socket
        rm -r /etc/systemd/system/relayd-tls.socket /etc/letsencrypt
        rm -r /etc/relayd/tls /etc/relayd/conf.d/tls.toml
        systemctl daemon-reload
        systemctl restart relayd
        """
    )
    wait_until_ready(debian)
