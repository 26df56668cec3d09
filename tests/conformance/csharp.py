"""Compiles clients/unity and the programs of its tests, without Unity, with Mono's compiler."""

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
KIT = ROOT / "clients" / "unity"
DRIVERS = Path(__file__).with_name("drivers") / "csharp"
STUBS = DRIVERS / "stubs"

LANGUAGE = "7.2"
"""The newest C# that mcs knows; Unity 2019.4 takes 7.3."""


def sources(*folders: Path) -> list[Path]:
    """All C# files below some folders."""
    return sorted(path for folder in folders for path in folder.rglob("*.cs"))


def compile_csharp(
    output: Path,
    files: Iterable[Path],
    *,
    defines: Sequence[str] = (),
    references: Sequence[Path] = (),
) -> Path:
    """Makes a program, or a library if its name ends with .dll. A warning is an error.

    Returns:
        The output.

    Raises:
        AssertionError: it does not compile; with what the compiler says.
    """
    done = subprocess.run(
        [
            *("mcs", f"-langversion:{LANGUAGE}", "-warnaserror", "-debug", f"-out:{output}"),
            f"-target:{'library' if output.suffix == '.dll' else 'exe'}",
            *(f"-define:{name}" for name in defines),
            *(f"-reference:{path}" for path in references),
            *map(str, files),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return output


def build_driver(folder: Path, *libraries: Path) -> Path:
    """Makes the driver, as a program of Mono.

    Args:
        folder: where to.
        *libraries: `websocket-sharp.dll`, `NativeWebSocket.dll`; ClientWebSocket is always there.
    """
    for library in libraries:
        shutil.copy(library, folder)
    return compile_csharp(
        folder / "Driver.exe",
        [*sources(KIT / "Runtime"), DRIVERS / "Driver.cs"],
        defines=[f"RELAYD_{library.stem.replace('-', '_').upper()}" for library in libraries],
        references=libraries,
    )
