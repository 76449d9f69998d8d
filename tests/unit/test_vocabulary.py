"""The list of events is that of the code: every event that is recorded is in it, and every one in it is recorded."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import cbw
from cbw.core.events import Record
from cbw.trace import level_of
from cbw.vocabulary import EVENTS

SRC = Path(cbw.__file__).parent
RECORDERS = {"trace": 0, "trace_entry": 0, "_say": 0, "_note": 0, "noticed": 0, "_record": 0, "Record": 1, "end": 3}
"""What makes records, and which of its arguments is the event."""


def recorded() -> Iterator[tuple[str, str]]:
    """``(event, where)`` of every record that the roles make. That of a verification has notes of its own."""
    for path in SRC.rglob("*.py"):
        if SRC / "verify" in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            place = RECORDERS.get(name)
            if place is None or len(node.args) <= place:
                continue
            for literal in ast.walk(node.args[place]):
                if isinstance(literal, ast.Constant) and isinstance(literal.value, str):
                    yield literal.value, f"{path.relative_to(SRC)}:{node.lineno}"


def test_what_is_recorded_is_in_the_list() -> None:
    assert {(event, where) for event, where in recorded() if event not in EVENTS} == set()


def test_what_is_in_the_list_is_recorded() -> None:
    in_variables = {"begun", "done", "error"}  # of pool.watcher
    in_variables |= {event for event, meaning in EVENTS.items() if meaning.roles == "verify"} | {"unasked"}
    assert EVENTS.keys() - {event for event, _ in recorded()} == in_variables


def test_levels() -> None:
    assert {meaning.level for meaning in EVENTS.values()} == {"debug", "info", "warning"}
    assert level_of(Record(0.0, "accepted")) == "debug"
    assert level_of(Record(0.0, "worker_ready")) == "info"
    assert level_of(Record(0.0, "worker_lost")) == "warning"
    assert level_of(Record(0.0, "log", level="error")) == "error"
    assert level_of(Record(0.0, "of a later version")) == "warning"
