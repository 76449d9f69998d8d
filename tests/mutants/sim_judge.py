"""The simulation as the only judge: some seeds, run one after the other until one breaks a promise."""

from __future__ import annotations

import math
import pickle
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.sim.run import run

from .child import CPU_S, NEVER_WAITS_S, RECORD_CPU_S, Verdict, judged_in_child
from .mutation import Mutant
from .patching import put_in_place
from .reach import calls_recorded

Called = dict[tuple[str, str], None]
CPU_S_OF_SEED = 20
"""Processor time that one seed may take at most while its calls are recorded: several times what it takes on a slow machine."""
SLOWER = 3
"""A mutant that takes so many times as long as all seeds without it, while their calls were recorded, runs in a circle."""


class SimJudge:
    """Runs ``seeds`` seeds for each of ``mutants`` and tells ``heard`` of each.

    A survivor under which some runs went another way was seen by the simulation, but not by its checker.
    """

    def __init__(self, mutants: list[Mutant], heard: Callable[[Mutant, Verdict], None], seeds: int) -> None:
        self._mutants = mutants
        self._heard = heard
        self._seeds = seeds
        self._normal: list[tuple[str, Called]] = []
        self._cpu_s = CPU_S

    def run(self) -> int:
        """Judge them all; 0."""
        self._normal = self._recorded()
        for mutant in self._mutants:
            self._heard(mutant, judged_in_child(partial(self._judge, mutant), self._cpu_s, NEVER_WAITS_S))
        return 0

    def _recorded(self) -> list[tuple[str, Called]]:
        """How each seed goes without a mutant: its digest, and what it calls."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "normal"

            def record() -> Verdict:
                normal = [_recorded_run(seed) for seed in range(self._seeds)]
                path.write_bytes(pickle.dumps((normal, time.process_time())))
                return Verdict(None)

            verdict = judged_in_child(record, RECORD_CPU_S + CPU_S_OF_SEED * self._seeds, NEVER_WAITS_S)
            assert verdict.killer is None, f"without any mutant: {verdict.killer}"
            normal: list[tuple[str, Called]]
            normal, took_s = pickle.loads(path.read_bytes())
            self._cpu_s = CPU_S + SLOWER * math.ceil(took_s)
            return normal

    def _judge(self, mutant: Mutant) -> Verdict:
        place = (mutant.module, mutant.function)
        seeds = [seed for seed, (_, called) in enumerate(self._normal) if place in called]
        if not seeds:
            return Verdict(None, "no seed calls it")
        put_in_place(mutant)
        different = 0
        for seed in seeds:
            result = run(seed)
            if result.violation:
                return Verdict(f"seed {seed}: {result.violation}")
            different += result.digest != self._normal[seed][0]
        return Verdict(None, f"{different} of {len(seeds)} runs that call it went another way")


def _recorded_run(seed: int) -> tuple[str, Called]:
    called: Called = {}
    with calls_recorded(called):
        result = run(seed)
    assert not result.violation, f"seed {seed}: {result.violation}"
    return result.digest, called
