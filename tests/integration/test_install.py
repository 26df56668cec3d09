"""An installed relayd is whole: twistd shows the plugin, relayctl runs, the data files are there.

A wheel and an editable install are made from a copy of the tree, so that nothing is left in the
checkout, and put into environments of their own. Those see the libraries of the environment the
tests run in, but not the relayd in it: a folder named in a .pth file has its own .pth files (the
way an editable install works) ignored.
"""

import importlib.metadata
import importlib.util
import os
import pickle
import re
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TWISTD = "from twisted.scripts.twistd import run; run()"


def run(*command: str | Path, cwd: Path, **environ: str) -> str:
    """Run a command; its standard output. Fails with everything it printed."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHONPATH", "DATABASE_URL", "REDIS_URL", "PORT")
        and not key.startswith("RELAYD_")
    }
    ran = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**inherited, **environ},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def build_options() -> list[str]:
    """Build with the setuptools and the Cython that are here; else pip gets them."""
    try:
        major = int(importlib.metadata.version("setuptools").partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return []
    cython = importlib.util.find_spec("Cython")
    return ["--no-build-isolation"] if major >= 77 and cython else []


def leave_stale_cache(folder: Path) -> None:
    """A dropin.cache that knows no plugin and looks newer than all of them."""
    cache = folder / "twisted" / "plugins" / "dropin.cache"
    cache.write_bytes(pickle.dumps({}))
    later = time.time() + 3600
    os.utime(cache, (later, later))


class Installed:
    """An environment with relayd in it, and an empty folder to run in.

    Args:
        home: an empty folder for both.
        libraries: the folder of what relayd needs.
    """

    def __init__(self, home: Path, libraries: str = sysconfig.get_path("purelib")) -> None:
        self.bin = home / "venv" / "bin"
        self.folder = home / "empty"
        self.folder.mkdir(parents=True)
        venv.create(home / "venv", with_pip=False, symlinks=True)
        python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        self.packages = home / "venv" / "lib" / python / "site-packages"
        (self.packages / "libraries.pth").write_text(libraries + "\n")

    def install(self, *what: str | Path) -> None:
        """`pip install` without the libraries, which are there."""
        pip = (sys.executable, "-m", "pip", "--python", self.bin / "python", "install")
        run(*pip, "--quiet", "--no-deps", *what, cwd=self.folder)

    def python(self, program: str, *arguments: str) -> str:
        """Run a program in the empty folder."""
        return run(self.bin / "python", "-c", program, *arguments, cwd=self.folder)

    def relayctl(self, *arguments: str, **environ: str) -> str:
        """Run the operator's tool in the empty folder."""
        return run(self.bin / "relayctl", *arguments, cwd=self.folder, **environ)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a package is built from, with a stale dropin.cache in it."""
    copy = tmp_path_factory.mktemp("tree")
    skip = shutil.ignore_patterns("__pycache__", "dropin.cache", "*.egg-info", "*.c", "*.so")
    for name in ("relayd", "schema", "etc", "twisted", "clients"):
        shutil.copytree(ROOT / name, copy / name, ignore=skip)
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy)
    leave_stale_cache(copy)
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """relayd-….whl"""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *build_options())
    run(*pip, "--wheel-dir", folder, tree, cwd=folder)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def from_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, installed."""
    installed = Installed(tmp_path_factory.mktemp("from_wheel"))
    installed.install("--no-index", wheel)
    return installed


@pytest.fixture(scope="module")
def editable(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The tree, installed editable."""
    installed = Installed(tmp_path_factory.mktemp("editable"))
    installed.install(*build_options(), "--editable", tree)
    return installed


@pytest.fixture(params=["from_wheel", "editable"])
def installed(request: pytest.FixtureRequest) -> Installed:
    """Each way to install in turn."""
    found: Installed = request.getfixturevalue(request.param)
    return found


def test_twistd_shows_relayd(installed: Installed) -> None:
    shown = installed.python(TWISTD, "--help")
    assert [line.split()[0] for line in shown.splitlines() if "WebSocket relay" in line] == [
        "relayd"
    ]


def test_the_running_code_is_the_installed_one(from_wheel: Installed, tree: Path) -> None:
    program = (
        "import relayd, twisted.plugins.relayd_plugin as p; print(relayd.__file__, p.__file__)"
    )
    for file in from_wheel.python(program).split():
        assert Path(file).is_relative_to(from_wheel.packages)
        assert not Path(file).is_relative_to(tree)


def test_a_stale_plugin_cache_hides_nothing(from_wheel: Installed) -> None:
    leave_stale_cache(from_wheel.packages)
    assert "WebSocket relay" in from_wheel.python(TWISTD, "--help")


def test_the_wheel_carries_what_relayd_reads(wheel: Path, tree: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    clients = {"relayd/_clients/relayd.js", "relayd/_clients/relayd.d.ts"}
    expected = clients | {"relayd/_etc/relayd.toml", "twisted/plugins/relayd_plugin.py"}
    for folder, target in (("schema", "relayd/_schema"), ("relayd", "relayd")):
        for path in (tree / folder).rglob("*"):
            is_data = path.is_file() and {"static", "html", "languages"} & {*path.parts}
            if path.suffix in (".sql", ".py") or is_data:
                expected.add(f"{target}/{path.relative_to(tree / folder).as_posix()}")
    dist_info = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    compiled = {name for name in names if name.startswith("relayd/native/")} - expected
    assert {(Path(name).name.partition(".")[0], Path(name).suffix) for name in compiled} == {
        (part, suffix)
        for part in (path.stem for path in (tree / "relayd" / "native").glob("*.pyx"))
        for suffix in (".pyi", ".so")
    }
    assert names - dist_info - compiled == expected
    assert any(name.startswith("relayd/_schema/sqlite/") for name in names)
    assert any(name.startswith("relayd/_schema/postgresql/") for name in names)


def test_relayctl_names_the_version(installed: Installed) -> None:
    version = installed.python("import relayd; print(relayd.__version__)").strip()
    metadata = "import importlib.metadata as m; print(m.version('relayd'))"
    assert installed.python(metadata).strip() == version
    assert version in installed.relayctl("--version").split()


def test_relayctl_bench_is_an_extra(wheel: Path, tmp_path: Path) -> None:
    """The daemon does without its library; relayctl bench says what to install."""
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if path.name.partition("-")[0] != "picows":
            (libraries / path.name).symlink_to(path)
    installed = Installed(tmp_path, str(libraries))
    installed.install("--no-index", wheel)
    needs = "import importlib.metadata as m; print(*m.requires('relayd'), sep='\\n')"
    of_bench = [need for need in installed.python(needs).splitlines() if "picows" in need]
    assert [re.sub(r"[ '\"]", "", need) for need in of_bench] == ["picows>=2.3.1;extra==bench"]
    assert "--listen" in installed.python(TWISTD, "relayd", "--help")
    refused = subprocess.run(
        [installed.bin / "relayctl", "bench", "ws://127.0.0.1:1"],
        cwd=installed.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (refused.returncode, refused.stdout, refused.stderr) == (
        2,
        "",
        "Error: relayctl bench needs a further library: pip install 'relayd[bench]'\n",
    )


def test_relayctl_finds_the_schema(installed: Installed, tmp_path: Path) -> None:
    file = tmp_path / "relayd.db"
    installed.relayctl("db", "migrate", DATABASE_URL=f"sqlite:///{file}")
    database = sqlite3.connect(file)
    rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    database.close()
    assert {"quizzes", "actions"} <= {name for (name,) in rows}
