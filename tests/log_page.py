"""docs/log.md, made from the lists in the code: `make log-page` writes it."""

from pathlib import Path

from relayd.logs.advice import ADVICE
from relayd.stores.states import CASES, Store

PAGE = Path(__file__).resolve().parents[1] / "docs" / "log.md"

_HEAD = """\
# What the log says, and what to do

This page is made from the lists in `relayd/logs/advice.py` and `relayd/stores/states.py`
(`make log-page`). `journalctl -u relayd -p warning` shows these lines alone. A line with a
traceback (`… failed`) is a fault of relayd itself: relayd goes on, and a report with the lines
around it helps.

## The states of a store

While a store is away or refuses something, one line says so when it begins, with the store's own
words and the remedy, and one when it ends. `/readyz` answers 503 and names the state; `relayctl
status` and `relayctl doctor` show the words and the remedy; `relayd_store_state` is 1 for it;
`systemctl status` says "Serving, database refuses writes". Clients get `store_unavailable` or
`database_unavailable` for what cannot be done. relayd tries once a second, with what it needs of
the store, whether it is over; nothing has to be restarted.
"""
_LINES = """
## Lines

Words in braces stand for a part that differs.

| the log says | what to do |
|---|---|
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for store in Store:
        parts.append(f"\n| {store} | state | its errors | what to do |\n|---|---|---|---|\n")
        for case in (case for case in CASES if case.store is store):
            signs = ", ".join(f"`{code}`" for code in case.codes)
            row = (case.state.words, f"`{case.state}`", signs, f"{case.remedy}")
            parts.append("".join(f"| {cell} " for cell in row) + "|\n")
    parts.append(_LINES)
    parts += [f"| {each.words.replace('|', chr(92) + '|')} | {each.do} |\n" for each in ADVICE]
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
