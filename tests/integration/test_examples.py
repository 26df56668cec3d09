"""etc/examples/: compose, kubernetes and ansible, and the Dockerfile, as their own tools see them.

The package test runs the image and the role (tests/package); here nothing is started.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from relayd.config import Loaded, read
from relayd.config.secret_files import SECRETS

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "etc" / "examples"
DRAIN = 15  # [server] drain_timeout, [database] deadline and 5 seconds, rounded up


def run(tool: str, *arguments: str | Path, cwd: Path = ROOT, **environ: str) -> str:
    """Runs a tool of the test environment; what it printed. Fails with that if it fails."""
    ran = subprocess.run(
        [Path(sys.executable).with_name(tool), *arguments], cwd=cwd, check=False, text=True,
        env={**os.environ, **environ}, stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, f"{tool} {arguments}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def settings(folder: Path, text: str) -> Loaded:
    """What relayd makes of a file beside that of the image, with the secrets of the examples."""
    conf_d = folder / "conf.d"
    conf_d.mkdir(parents=True)
    shutil.copy(ROOT / "docker" / "relayd.toml", folder)
    (conf_d / "example.toml").write_text(text)
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / "redis_url").write_text("redis://:secret@redis:6379/0")
    (secrets / "database_url").write_text("postgresql://relayd:secret@postgresql/relayd")
    return read(str(folder / "relayd.toml"), {"CREDENTIALS_DIRECTORY": str(secrets)})


def test_the_dockerfile_is_clean_by_hadolint() -> None:
    run("hadolint", "--failure-threshold=style", "Dockerfile")


def test_every_yaml_file_is_clean_by_yamllint() -> None:
    rules = {
        "line-length": {"max": 140},
        "document-start": "disable",
        "braces": {"max-spaces-inside": 1},
        "octal-values": {"forbid-implicit-octal": False},
        "comments": {"min-spaces-from-content": 1},
        "comments-indentation": "disable",
    }
    config = json.dumps({"extends": "default", "rules": rules})
    folders = [EXAMPLES / name for name in ("ansible", "compose", "kubernetes")]
    run("yamllint", "--strict", "--config-data", config, *folders)


# -- compose


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder, with secrets that its script has made."""
    folder = tmp_path_factory.mktemp("examples") / "compose"
    shutil.copytree(EXAMPLES / "compose", folder)
    subprocess.run([folder / "make-secrets"], check=True)
    return folder


@pytest.fixture(scope="module")
def services(compose: Path) -> dict[str, Any]:
    """The services, as Docker Compose itself reads the file."""
    shown = run("docker-compose", "config", "--format=json", cwd=compose)
    found: dict[str, Any] = json.loads(shown)["services"]
    return found


def test_compose_gives_relayd_the_time_to_drain_and_no_rights(services: dict[str, Any]) -> None:
    relayd = services["relayd"]
    assert relayd["stop_grace_period"] == "20s"
    assert relayd["read_only"]
    assert relayd["cap_drop"] == ["ALL"]
    assert [service["depends_on"]["relayd"]["condition"] for service in [services["nginx"]]] == [
        "service_healthy"
    ]
    assert {name for name, service in services.items() if service.get("ports")} == {"nginx"}
    assert all("healthcheck" in services[name] for name in ("nginx", "postgresql", "redis"))


def test_composes_settings_trust_the_address_of_its_nginx(
    services: dict[str, Any], tmp_path: Path
) -> None:
    loaded = settings(tmp_path, (EXAMPLES / "compose" / "conf.d" / "50-relayd.toml").read_text())
    nginx = services["nginx"]["networks"]["front"]["ipv4_address"]
    assert loaded.config.proxy.trusted == (nginx,)
    assert loaded.config.server.workers == 2
    assert f"{services['relayd']['networks']['front']['ipv4_address']}:8080" in str(
        services["nginx"]["command"]
    )


def test_the_secrets_of_compose_are_those_that_relayd_reads(
    services: dict[str, Any], compose: Path
) -> None:
    names = {f"{section}_{key}" for section, key in SECRETS}
    assert {one["source"] for one in services["relayd"]["secrets"]} <= names
    made = {path.name: path.read_text().strip() for path in (compose / "secrets").iterdir()}
    assert made["postgresql_password"] in made["database_url"]
    assert made["redis_conf"].split()[1] in made["redis_url"]
    assert len(made["auth_secret"]) >= 32
    assert stat.S_IMODE((compose / "secrets").stat().st_mode) == 0o700
    environ = {"CREDENTIALS_DIRECTORY": str(compose / "secrets")}
    assert read(None, environ).config.database.url == made["database_url"]
    subprocess.run([compose / "make-secrets"], check=True)
    again = {path.name: path.read_text().strip() for path in (compose / "secrets").iterdir()}
    assert again == made


def test_nginx_of_compose_gets_the_example_with_relayds_address_and_name(
    services: dict[str, Any], tmp_path: Path
) -> None:
    command = services["nginx"]["command"][-1].partition("exec nginx")[0].replace("$$", "$")
    script = command.replace("/etc/relayd-nginx.conf", str(EXAMPLES / "nginx" / "relayd.conf"))
    script = script.replace("/etc/nginx/conf.d/default.conf", str(tmp_path / "site"))
    subprocess.run(["sh", "-euc", script], check=True)
    site = (tmp_path / "site").read_text()
    assert "server 172.30.80.3:8080 max_fails=0;" in site
    assert "access_log /dev/stdout relayd;" in site
    assert "127.0.0.1:8080" not in site


# -- kubernetes


def documents() -> Iterator[dict[str, Any]]:
    """The manifests as `kubectl apply --kustomize` sends them, and the Secret."""
    built = run("kubectl", "kustomize", EXAMPLES / "kubernetes")
    yield from yaml.safe_load_all(built)
    yield yaml.safe_load((EXAMPLES / "kubernetes" / "secret.yaml").read_text())


@pytest.fixture(scope="module")
def manifests() -> dict[str, dict[str, Any]]:
    """Each by its kind."""
    return {one["kind"]: one for one in documents()}


def test_kubernetes_schemas_accept_every_manifest_strictly(tmp_path: Path) -> None:
    written = tmp_path / "all.yaml"
    written.write_text(yaml.safe_dump_all(documents()))
    for version in ("1.30", "1.37"):
        run("kubernetes-validate", "--strict", "--version", version, written)


def test_a_pod_drains_within_its_grace_period_before_it_is_killed(
    manifests: dict[str, dict[str, Any]],
) -> None:
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    assert "'relayctl', 'drain'" in command[-1]
    waits = int(command[-1].partition("time.sleep(")[2].partition(")")[0])
    assert pod["terminationGracePeriodSeconds"] >= waits + DRAIN
    assert container["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_a_pod_is_restricted_as_the_pod_security_standard_asks(
    manifests: dict[str, dict[str, Any]],
) -> None:
    """The profile `restricted`: https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {kind for volume in pod["volumes"] for kind in volume if kind != "name"} <= {
        "configMap", "emptyDir", "secret",
    }  # fmt: skip


def test_the_labels_that_choose_the_pods_are_those_of_the_pods(
    manifests: dict[str, dict[str, Any]],
) -> None:
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert labels
    for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert manifests[kind]["spec"][key]["matchLabels"] == labels
    assert manifests["Service"]["spec"]["selector"] == labels
    port = manifests["Service"]["spec"]["ports"][0]["targetPort"]
    (container,) = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert [one["name"] for one in container["ports"]] == [port]


def test_the_settings_and_secrets_of_kubernetes_are_relayds(
    manifests: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    loaded = settings(tmp_path, manifests["ConfigMap"]["data"]["relayd.toml"])
    assert loaded.config.server.names == ("relay.example.org",)
    (host,) = (rule["host"] for rule in manifests["Ingress"]["spec"]["rules"])
    assert host in loaded.config.server.names
    assert loaded.config.server.listen == ("tcp:8080:interface=0.0.0.0",)
    names = {f"{section}_{key}" for section, key in SECRETS}
    assert set(manifests["Secret"]["stringData"]) <= names


# -- ansible


def test_ansible_lint_finds_nothing_in_the_role_with_its_strictest_profile(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "ansible", tmp_path / "ansible")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {"PATH": path, "ANSIBLE_HOME": str(tmp_path / "home")}
    run(
        *("ansible-lint", "--offline", "--strict", "--profile=production", "-q"),
        cwd=tmp_path / "ansible", **environ,
    )  # fmt: skip


def test_the_settings_of_the_inventory_are_relayds(tmp_path: Path) -> None:
    inventory = yaml.safe_load((EXAMPLES / "ansible" / "inventory.yml").read_text())
    variables = inventory["relays"]["vars"]
    template = EXAMPLES / "ansible" / "roles" / "relayd" / "templates" / "settings.toml.j2"
    playbook = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {key: variables[key] for key in ("relayd_name", "relayd_settings")},
            "tasks": [
                {
                    "ansible.builtin.template": {
                        "src": str(template),
                        "dest": str(tmp_path / "rendered.toml"),
                        "mode": "0600",
                    }
                }
            ],
        }
    ]
    (tmp_path / "play.yml").write_text(json.dumps(playbook))
    run("ansible-playbook", "play.yml", cwd=tmp_path, ANSIBLE_HOME=str(tmp_path / "home"))
    loaded = settings(tmp_path / "relayd", (tmp_path / "rendered.toml").read_text())
    assert loaded.config.server.names == ("relay.example.org",)
    assert loaded.config.proxy.trusted == ("127.0.0.1", "::1")
