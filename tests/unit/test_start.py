"""A start imports no module that it does not need: these commands run often, and by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
EXPENSIVE = (
    *("OpenSSL", "autobahn", "click", "crossplane", "cryptography", "jwt", "prometheus_client"),
    *("psycopg2", "relayd.assembly", "twisted.internet.tcp", "txredisapi", "yoyo"),
)
_AT_THE_END = (
    "import atexit, json, sys;"
    "atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr));"
    "sys.argv = sys.argv[1:];"
    "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
)


def modules_of(folder: Path, program: str, *arguments: str) -> set[str]:
    """Which modules a program has imported when it ends well."""
    ran = subprocess.run(
        [sys.executable, "-c", _AT_THE_END, str(BIN / program), *arguments],
        cwd=folder, env={"PATH": os.defpath}, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(ran.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (("twistd", "relayd", "--check"), set()),
        (("relayctl", "--version"), {"click"}),
    ],
    ids=["twistd relayd --check", "relayctl --version"],
)
def test_a_short_command_imports_nothing_expensive_that_it_does_not_need(
    tmp_path: Path, arguments: tuple[str, ...], needed: set[str]
) -> None:
    imported = modules_of(tmp_path, *arguments)
    assert "relayd.config" in imported or "relayd.ctl.main" in imported
    assert sorted((imported & set(EXPENSIVE)) - needed) == []
