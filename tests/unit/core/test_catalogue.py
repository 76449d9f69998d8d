"""The catalogue is that of the code: events are named by their constants, and every constant is used."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import cbw
from cbw.core import catalogue
from cbw.core.catalogue import EVENTS
from cbw.core.record import Record, level_of
from tests.syntax_trees import tree_of

SRC = Path(cbw.__file__).parent
CONSTANTS = {name: value for name, value in vars(catalogue).items() if name.lower() in EVENTS}
MODULES = {path.relative_to(SRC).as_posix(): path for path in sorted(SRC.rglob("*.py"))}
CATALOGUE = "core/catalogue.py"


def literals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """``(line, event)`` of every event that is spelt out where an event is meant.

    The name of an event is either a word that no one uses for anything else (``worker_lost``), or an ordinary word
    (``failed``): that one is an event where it is compared with an event, mapped from one, or made a record's.
    """
    names_of_errors = {  # "gave_up" is an event, and what a client is told is called the same
        node.args[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "error_body"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            yield from _events_in(*([node] if "_" in str(node.value) and node not in names_of_errors else []))
        elif isinstance(node, ast.Compare):
            yield from _events_in(*([node] if any(map(_is_event, [node.left, *node.comparators])) else []))
        elif isinstance(node, ast.Match) and _mentions_event(node.subject):
            for case in node.cases:
                yield from _events_in(case.pattern)
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            yield from _events_in(*(node.args[1:2] if name == "Record" else []))
            if any(map(_is_event, node.args)):  # {"failed": ...}.get(record.event)
                yield from _events_in(node.func)
        elif isinstance(node, ast.Assign) and any(map(_is_event, node.targets)):
            yield from _events_in(node.value)


def _is_event(node: ast.AST) -> bool:
    """Whether ``node`` is called ``event``."""
    return getattr(node, "attr", getattr(node, "id", "")) == "event"


def _mentions_event(node: ast.AST) -> bool:
    return any(map(_is_event, ast.walk(node)))


def _events_in(*nodes: ast.AST) -> Iterator[tuple[int, str]]:
    for node in (part for one in nodes for part in ast.walk(one)):
        if isinstance(node, ast.Constant) and node.value in EVENTS:
            yield node.lineno, str(node.value)


@pytest.mark.parametrize("name", [name for name in MODULES if name != CATALOGUE])
def test_no_event_is_spelt_out(name: str) -> None:
    found = [f"line {line}: catalogue.{event.upper()}" for line, event in sorted(set(literals(tree_of(MODULES[name]))))]
    assert not found, f"{name} spells events as strings; write instead (from cbw.core import catalogue) {found}"


def test_spelt_events_are_found() -> None:
    code = """
match record.role, record.event:
    case "worker", "done" | "error": pass
if record.event in ("sent", "got"): pass
Record(now, "begun", role="worker")
{"failed": "by "}.get(record.event, "")
event = "killed"
say("worker_lost")
figures = {"failed": 1, "lost": 2}
log = status.get("log")
"""
    assert [event for _, event in sorted(literals(ast.parse(code)))] == [
        "done", "error", "got", "sent", "begun", "failed", "killed", "worker_lost",
    ]  # fmt: skip


def test_each_event_has_a_constant_of_its_name() -> None:
    assert {value: name.lower() for name, value in CONSTANTS.items()} == {event: event for event in EVENTS}


def test_every_constant_is_used() -> None:
    used = {
        node.attr
        for name in MODULES
        if name != CATALOGUE
        for node in ast.walk(tree_of(MODULES[name]))
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "catalogue"
    }
    assert CONSTANTS.keys() - used == set(), "take these events out of the catalogue: nobody records them"


def test_levels() -> None:
    assert {meaning.level for meaning in EVENTS.values()} == {"debug", "info", "warning"}
    assert level_of(Record(0.0, catalogue.ACCEPTED)) == "debug"
    assert level_of(Record(0.0, catalogue.WORKER_READY)) == "info"
    assert level_of(Record(0.0, catalogue.WORKER_LOST)) == "warning"
    assert level_of(Record(0.0, catalogue.LOG, level="error")) == "error"
    assert level_of(Record(0.0, catalogue.EventName("of a later version"))) == "warning"


def test_every_meaning_is_a_sentence_of_its_own() -> None:
    for event, meaning in EVENTS.items():
        assert meaning.text[0].isupper() or meaning.text[0] == "`", event
        assert meaning.text.endswith("."), event
        assert not meaning.text.startswith("It "), event
