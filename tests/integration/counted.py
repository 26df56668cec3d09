"""Runs twistd without the garbage collector: `python counted.py TWISTD OPTION ...`.

SIGUSR1 has it write how many objects of each class there are to `objects.json` in its folder.
"""

import gc
import json
import os
import runpy
import signal
import sys
from collections import Counter

_MODULES = ("relayd.", "twisted.internet.", "twisted.python.failure", "twisted.web.", "autobahn.")


def _write(signum: int, frame: object) -> None:
    kinds = map(type, gc.get_objects())
    counts = Counter(
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in kinds
        if f"{kind.__module__}.".startswith(_MODULES) or kind.__name__ in ("coroutine", "traceback")
    )
    with open("objects.new", "w") as file:
        json.dump(counts, file)
    os.replace("objects.new", "objects.json")


gc.disable()
signal.signal(signal.SIGUSR1, _write)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
