"""Writes the reference documentation from the code: ``python docs/generate.py``.

With ``--check`` it only compares, and exits with 1 if a page differs from the code.

It writes whole pages of ``docs/reference/`` (cli, settings, metrics, events, errors, api), and the parts of other pages that lie
between ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->``: the tables of ``wire.md``, the diagram and table of
``request-states.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from generator.api import api_page
from generator.cli import cli_page
from generator.errors import errors_page
from generator.events import events_page
from generator.metrics import metrics_page
from generator.request_states import state_diagram, state_table
from generator.settings import settings_page
from generator.wire import example_bytes, message_table, refusal_table, status_table

DOCS = Path(__file__).parent
PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": cli_page,
    "reference/settings.md": settings_page,
    "reference/metrics.md": metrics_page,
    "reference/events.md": events_page,
    "reference/errors.md": errors_page,
    "reference/api.md": api_page,
}
PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "reference/wire.md": {
        "messages": message_table,
        "statuses": status_table,
        "refusals": refusal_table,
        "example": example_bytes,
    },
    "explanation/request-states.md": {"diagram": state_diagram, "table": state_table},
}


def expected() -> dict[Path, str]:
    """The text that each file should have."""
    files = {DOCS / name: make() for name, make in PAGES.items()}
    for name, parts in PARTS.items():
        text = (DOCS / name).read_text()
        for part, make in parts.items():
            begin, end = f"<!-- begin: {part} -->", f"<!-- end: {part} -->"
            before, found, rest = text.partition(begin)
            _, found_end, after = rest.partition(end)
            assert found and found_end, f"{name} has no {begin} … {end}"
            text = f"{before}{begin}\n{make()}\n{end}{after}"
        files[DOCS / name] = text
    return files


def stale() -> list[str]:
    """The files that differ from the code."""
    return [
        path.relative_to(DOCS.parent).as_posix()
        for path, text in expected().items()
        if not path.exists() or path.read_text() != text
    ]


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them with ``--check``."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python docs/generate.py [--check]\n")
        return 2
    changed = stale()
    if arguments:
        for name in changed:
            sys.stderr.write(f"{name} is not what the code says: run python docs/generate.py\n")
        return 1 if changed else 0
    for path, text in expected().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"wrote {path.relative_to(DOCS.parent)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
