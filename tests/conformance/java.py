"""Compiles clients/android and the programs of its tests, with a JDK and OkHttp."""

import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KIT = ROOT / "clients" / "android"
DRIVERS = Path(__file__).with_name("drivers") / "java"
STUBS = DRIVERS / "stubs"

DEBIAN = Path("/usr/share/java")
JSON = DEBIAN / "com.android.json.jar"
"""Android's own org.json, in a package of Debian."""

OKHTTP_3 = tuple(DEBIAN / f"{name}.jar" for name in ("okhttp", "okio"))
OKHTTP_4 = tuple(
    Path.home() / ".m2/repository" / path
    for path in (
        "com/squareup/okhttp3/okhttp/4.12.0/okhttp-4.12.0.jar",
        "com/squareup/okio/okio-jvm/3.6.0/okio-jvm-3.6.0.jar",
        "org/jetbrains/kotlin/kotlin-stdlib/1.9.10/kotlin-stdlib-1.9.10.jar",
    )
)
"""Where Maven puts it; no registry that the tests use carries it."""

JAVA = ("java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


def compile_java(
    folder: Path, files: Iterable[Path], libraries: Sequence[Path], release: int = 8
) -> None:
    """Compiles Java to a folder. A warning is an error.

    Args:
        folder: gets the classes.
        files: the sources.
        libraries: the jars.
        release: the version of Java, of the language and of what may be called.

    Raises:
        AssertionError: it does not compile; with what the compiler says.
    """
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [
            *("javac", "-Xlint:all,-options,-classfile", "-Werror", "--release", str(release)),
            *("-encoding", "UTF-8", "-d", str(folder), "-cp", class_path(folder, *libraries)),
            *map(str, files),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def skip_without(libraries: Iterable[Path]) -> None:
    """Skips the test where a jar is not there; not for one of Debian, which make test installs."""
    for jar in libraries:
        if DEBIAN not in jar.parents and not jar.exists():
            pytest.skip(
                f"skipped: {jar.name} is not in ~/.m2, and neither apt, PyPI nor npm has it"
            )


def class_path(*places: Path) -> str:
    """Where Java looks for classes."""
    return ":".join(map(str, places))


def compile_kit(folder: Path, libraries: Sequence[Path]) -> None:
    """Compiles the kit for Android's language level."""
    compile_java(folder, sorted(KIT.glob("relayd/*.java")), [*libraries, JSON])


def blocks(page: Path) -> list[str]:
    """The Java of a page."""
    return re.findall(r"^```java\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def build_driver(folder: Path, libraries: Sequence[Path]) -> list[str]:
    """Compiles kit and driver; returns how the driver is started."""
    compile_kit(folder, libraries)
    compile_java(folder, [DRIVERS / "Driver.java"], [*libraries, JSON], release=11)
    return [*JAVA, "-cp", class_path(folder, *libraries, JSON), "Driver"]
