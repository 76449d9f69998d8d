"""The simulation as a test: some seeds pass, a seed is always the same run, and planted bugs are caught."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import (
    dead_letter_canaries,
    delay_canaries,
    journal_canaries,
    overload_canaries,
    status_canaries,
    stranger_canaries,
)
from .canary import CANARIES, bend_nothing
from .run import run

MORE = (dead_letter_canaries, delay_canaries, journal_canaries, overload_canaries, status_canaries, stranger_canaries)
assert all(module.__doc__ for module in MORE)  # they are in CANARIES now

SEEDS = 200
CHUNK = 50
CANARY_SEEDS = 300
"""So many are enough for the rarest canary, twice over."""
SLOW_CANARIES = {
    "deadlines_are_not_looked_at",
    "dialects_are_forgotten",
    "late_answers_are_not_fenced",
    "owed_answers_are_taken_for_new_ones",
    "unread_clients_are_not_told",
    "unsent_answers_are_not_found",
    "waiting_answers_are_not_looked_at",
    "what_recovered_req_workers_answer_is_taken_for_granted",
    "workers_are_heard_before_clients",
}
"""They are caught after many seeds only, or in long runs: more than 1 s of CPU time."""
TOP = Path(__file__).resolve().parents[2]
DIGESTS = "from tests.sim.run import run; print([run(seed).digest for seed in range(5)])"


@pytest.mark.parametrize(
    "start", [0, CHUNK, *(pytest.param(start, marks=pytest.mark.slow) for start in range(2 * CHUNK, SEEDS, CHUNK))]
)
def test_promises_hold(start: int) -> None:
    for seed in range(start, start + CHUNK):
        result = run(seed)
        story = "\n".join(result.story)
        assert not result.violation, f"{result.plan}\n{story}\n{result.violation}\nreplay: make sim SEED={seed}"


def test_seed_is_always_the_same_run() -> None:
    assert run(7).digest == run(7).digest
    assert run(7).digest != run(8).digest


def test_seed_does_not_depend_on_hashes() -> None:
    digests = set()
    for hash_seed in ("1", "2", "random"):
        command = [sys.executable, "-c", DIGESTS]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, check=True)
        digests.add(done.stdout)
    assert len(digests) == 1, digests


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW_CANARIES else []) for name in CANARIES]
)
def test_planted_bug_is_caught(name: str) -> None:
    canary = CANARIES[name]
    with canary.planted():
        for seed in range(CANARY_SEEDS):
            violation = run(seed, bend=canary.bend).violation
            if violation:
                assert violation.startswith(canary.promise), violation
                return
    pytest.fail(f"{CANARY_SEEDS} runs with a planted bug, and nobody noticed: {name}")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, canary in CANARIES.items() if canary.bend is not bend_nothing])
def test_circumstances_alone_break_nothing(name: str) -> None:
    for seed in range(10):
        result = run(seed, bend=CANARIES[name].bend)
        assert not result.violation, f"seed {seed}: {result.violation}"
