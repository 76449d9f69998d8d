"""The seeded simulation: 200 seeds hold, a seed always tells the same story, and planted bugs are caught."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cbw.core.broker import BrokerCore
from cbw.core.dispatch import Dispatcher

from .run import run

SEEDS = 200
CANARY_SEEDS = 60
"""So many seeds may a planted bug survive; each of those below is caught within a few."""


@pytest.mark.parametrize("part", range(4))
@pytest.mark.timeout(300)
def test_seeds(part: int) -> None:
    for seed in range(part * SEEDS // 4, (part + 1) * SEEDS // 4):
        result = run(seed)
        assert not result.violation, f"make sim SEED={seed}: {result.violation}"


def test_a_seed_always_tells_the_same_story() -> None:
    code = "from tests.sim.run import run; print([run(seed).digest for seed in range(5)])"
    stories = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(stories) == 1


def loses_the_tasks_of_lost_workers(core: Any) -> None:
    core._fail_hand = lambda core, worker, why, is_blamed=True: worker.in_hand.clear()


def answers_the_wrong_client(core: Any) -> None:
    reply = core._reply

    def wrong(core: Any, entry: Any, answer: Any) -> None:
        others = [client for client in core.clients.values() if not client.is_plain and client is not entry.client]
        if others and not entry.client.is_plain:
            entry.client = others[0]
        reply(core, entry, answer)

    core._reply = wrong


def forgets_what_is_returned(core: Any) -> None:
    core._returned = lambda core, worker, tasks: None


def never_gives_up(core: Any) -> None:
    fail = core._fail

    def forgiving(self: Any, entry: Any, worker: Any, why: str) -> None:
        fail(self, entry, worker, why)
        entry.attempts_failed = 0

    core._fail = forgiving


def blames_who_has_not_begun(core: Any) -> None:
    core._wait_again = core._fail


def does_not_notice_silence(core: Any) -> None:
    core._sweep = lambda core: None


@pytest.mark.parametrize(
    "bug",
    [
        loses_the_tasks_of_lost_workers,
        answers_the_wrong_client,
        forgets_what_is_returned,
        never_gives_up,
        blames_who_has_not_begun,
        does_not_notice_silence,
    ],
)
def test_a_canary_is_caught(bug: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    for owner in (BrokerCore, Dispatcher):
        for name, value in list(vars(owner).items()):
            if callable(value):
                monkeypatch.setattr(owner, name, value)  # so that whatever the bug replaces is put back
    bug(BrokerCore)
    assert any(run(seed).violation for seed in range(CANARY_SEEDS)), f"{bug.__name__} went unnoticed"
