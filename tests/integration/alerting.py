"""Which alerts of etc/examples/prometheus fire for figures that a relayd has really shown."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

RULES = Path(__file__).parents[2] / "etc" / "examples" / "prometheus" / "relayd-alerts.yml"
_MINUTE = 4  # scrapes


def promtool(*arguments: object, text: str | None = None, status: int = 0) -> str:
    """Runs promtool, which must end with this status; what it says."""
    program = shutil.which("promtool")
    assert program, "these tests need promtool (apt: prometheus)"
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def alerts(folder: Path, scrapes: Sequence[str]) -> set[str]:
    """The alerts that fire in the end, after each scrape has held for two minutes.

    Args:
        folder: for the file that promtool reads.
        scrapes: answers of /metrics, the oldest first.
    """
    held = 2 * _MINUTE
    series = {'up{job="relayd",instance="a"}': ["1"] * held * len(scrapes)}
    for number, text in enumerate(scrapes):
        for line in text.splitlines():
            if line.startswith("#"):
                continue
            name, _, figure = line.rpartition(" ")
            labels = name.partition("{")[2].rstrip("}").rstrip(",")
            labels = ",".join(part for part in (labels, 'job="relayd"', 'instance="a"') if part)
            values = series.setdefault(f"{name.partition('{')[0]}{{{labels}}}", [])
            values += ["_"] * (number * held - len(values)) + [figure] * held
    end = 15 * (held * len(scrapes) - 1)
    asked = {
        "expr": 'ALERTS{alertstate="firing"}', "eval_time": f"{end}s",
        "exp_samples": [{"labels": 'a{b="c"}', "value": 0}],
    }  # fmt: skip
    test = {
        "interval": "15s",
        "input_series": [
            {"series": name, "values": " ".join(values)} for name, values in series.items()
        ],
        "promql_expr_test": [asked],
    }
    path = folder / "alerts.json"  # which is YAML, too
    path.write_text(
        json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "15s", "tests": [test]})
    )
    # what we expect cannot be: so it says what it got
    said = promtool("test", "rules", path, status=1)
    assert "got:" in said, said
    return set(re.findall(r'alertname="(\w+)"', said.partition("got:")[2]))
