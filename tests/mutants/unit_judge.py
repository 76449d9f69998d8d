"""The unit tests as judges: pytest collects them once, and each mutant gets a forked process in which it is in place."""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path

import pytest

from .child import RECORD_CPU_S, Verdict, judged_in_child
from .mutation import Mutant
from .patching import put_in_place
from .reach import calls_recorded

TESTS = ("tests/unit/core", "tests/unit/wire")
QUIET = ("-o", "addopts=", "-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:xdist")
LONG_S = 2.0
"""Processor time of a test, its calls recorded, from which on it is not asked: there are six, and each takes as long as all
that a mutant is usually shown to."""
KNOWN = Path("build/mutants/reach")
"""What each test calls, from one run to the next; `make clean` forgets it."""

Called = dict[tuple[str, str], None]


class UnitJudge:
    """A plugin of pytest that judges ``mutants`` instead of running the tests once, and tells ``heard`` of each."""

    def __init__(self, mutants: list[Mutant], heard: Callable[[Mutant, Verdict], None]) -> None:
        self._mutants = mutants
        self._heard = heard
        self._reach: dict[str, tuple[float, Called]] = {}
        self._is_recording = False
        self._failed: list[str] = []

    def run(self) -> int:
        """Judge them all; the exit code of pytest."""
        return pytest.main([*QUIET, "-m", "not slow", *TESTS], [self])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = list(session.items)
        if KNOWN.exists():
            self._reach = pickle.loads(KNOWN.read_bytes())
        if new := [item for item in items if item.nodeid not in self._reach]:
            self._reach = self._recorded(new)
            KNOWN.parent.mkdir(parents=True, exist_ok=True)
            KNOWN.write_bytes(pickle.dumps(self._reach))
        for mutant in self._mutants:
            self._heard(mutant, judged_in_child(partial(self._judge, items, mutant)))
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        if not self._is_recording:
            return (yield)
        called: Called = {}
        began_at = time.process_time()
        with calls_recorded(called):
            result = yield
        self._reach[item.nodeid] = (time.process_time() - began_at, called)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.append(report.nodeid)

    def _recorded(self, items: list[pytest.Item]) -> dict[str, tuple[float, Called]]:
        """Time and calls of every test, measured in a process of its own, so that they leave nothing behind."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "reach"

            def record() -> Verdict:
                self._is_recording = True
                self._run(items)
                path.write_bytes(pickle.dumps(self._reach))
                return Verdict(self._failed[0] if self._failed else None)

            verdict = judged_in_child(record, RECORD_CPU_S)
            if verdict.killer is not None:
                pytest.exit(f"without any mutant, {verdict.killer} fails", returncode=2)
            found: dict[str, tuple[float, Called]] = pickle.loads(path.read_bytes())
            return found

    def _judge(self, items: list[pytest.Item], mutant: Mutant) -> Verdict:
        place = (mutant.module, mutant.function)
        reach = self._reach
        asked = [item for item in items if place in reach[item.nodeid][1] and reach[item.nodeid][0] < LONG_S]
        if not asked:
            return Verdict(None, "no test calls it")
        put_in_place(mutant)
        self._run(sorted(asked, key=lambda item: reach[item.nodeid][0]))
        return Verdict(self._failed[0] if self._failed else None)

    def _run(self, items: list[pytest.Item]) -> None:
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._failed:
                return
