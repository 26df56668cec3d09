"""Checks of the installed libraries: their compiled parts, on which relayd's speed depends.

Listed in `checks`.
"""

import importlib
from collections.abc import Iterator

from relayd.ctl.doctor.facts import Facts
from relayd.ctl.doctor.findings import Finding, fault, ok, warn

_REINSTALL = "install relayd's package again, or pip install --force-reinstall"
_NATIVE = {
    "msgspec": ("msgspec", "no message can be read"),
    "psycopg2": ("psycopg2-binary", "PostgreSQL cannot be used"),
    "autobahn.nvx": ("autobahn", "UTF-8 is checked in Python, twenty times slower"),
}


def look_at_hiredis(facts: Facts) -> Iterator[Finding]:
    """Whether hiredis, the parser in C, can be imported."""
    needed = bool(facts.config.redis.url)
    try:
        hiredis = importlib.import_module("hiredis")
        hiredis.Reader()
    except Exception as error:
        judged = fault if needed else warn
        yield judged(
            f"the Python package hiredis cannot be imported: {error}; Redis cannot be used",
            f"{_REINSTALL} hiredis",
        )
        return
    yield ok(f"hiredis {getattr(hiredis, '__version__', '')}")


def look_at_native_parts(facts: Facts) -> Iterator[Finding]:
    """Whether the compiled parts of the libraries can be imported."""
    for module, (package, effect) in _NATIVE.items():
        try:
            importlib.import_module(module)
        except Exception as error:
            yield fault(
                f"the compiled part of {package} ({module}) cannot be imported: {error}; {effect}",
                f"{_REINSTALL} {package}",
            )
        else:
            yield ok(f"{module} can be imported")
