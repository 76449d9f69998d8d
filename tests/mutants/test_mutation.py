"""What is changed in a function, and that whoever calls it calls the mutant."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .child import Verdict, judged_in_child
from .mutation import Mutant, mutants_of
from .patching import put_in_place

SOURCE = '''
class Queue:
    """Not this."""

    limit: int = 3

    def __init__(self) -> None:
        self.count: int | None = 0
        self.limit = 1

    def add(self, more: int) -> bool:
        """Nor this."""
        assert more > 0
        if self.count + more > 10 and more:
            return False
        self.count += more
        self.trace("one", text="more than 1")
        return True

    @property
    def rest(self) -> int:
        return 10 - self.count

    def trace(self, name: str, text: str) -> None: ...
'''


@pytest.fixture
def mutants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Mutant]]:
    """Those of a module that stands in a file of its own."""
    folder = tmp_path / "cbw"
    folder.mkdir()
    (folder / "queued.py").write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("cbw.queued", folder / "queued.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "cbw.queued", module)
    spec.loader.exec_module(module)
    yield list(mutants_of(folder / "queued.py"))


def test_what_is_changed(mutants: list[Mutant]) -> None:
    condition = "in 'if self.count + more > 10 and more:'"
    assert [mutant.name.removeprefix("cbw.queued Queue.") for mutant in mutants] == [
        "__init__: 1 for 0, in 'self.count: int | None = 0'",
        "__init__: 2 for 1, in 'self.limit = 1'",
        f"add: the opposite condition, {condition}",
        f"add: without 'self.count + more > 10', {condition}",
        f"add: without 'more', {condition}",
        f"add: and for or, {condition}",
        f"add: GtE for Gt, {condition}",
        f"add: Sub for Add, {condition}",
        f"add: 11 for 10, {condition}",
        "add: None returned, in 'return False'",
        "add: True for False, in 'return False'",
        "add: nothing, in 'self.count += more'",
        "add: None returned, in 'return True'",
        "add: False for True, in 'return True'",
        "rest: None returned, in 'return 10 - self.count'",
        "rest: Add for Sub, in 'return 10 - self.count'",
        "rest: 11 for 10, in 'return 10 - self.count'",
    ]


def judged(mutants: list[Mutant], name: str) -> str | None:
    """What a child says in which the mutant of that name is in place: what ``add(10)`` and ``rest`` give."""
    (mutant,) = [mutant for mutant in mutants if f": {name}" in mutant.name]

    def judge() -> Verdict:
        put_in_place(mutant)
        queue = importlib.import_module("cbw.queued").Queue()
        return Verdict(f"{queue.add(10)} {queue.rest}")

    return judged_in_child(judge).killer


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("nothing, in 'self.count += more'", "True 10"),
        ("GtE for Gt", "False 10"),
        ("11 for 10, in 'return", "True 1"),
        ("False for True", "False 0"),
    ],
)
def test_it_is_in_place_in_its_child_only(mutants: list[Mutant], name: str, given: str) -> None:
    assert judged(mutants, name) == given
    queue = importlib.import_module("cbw.queued").Queue()
    assert (queue.add(10), queue.rest) == (True, 0)


def test_a_child_that_raises_has_noticed() -> None:
    def judge() -> Verdict:
        raise ZeroDivisionError("of course")

    assert judged_in_child(judge).killer == "ZeroDivisionError: of course"
