"""``python -m tests.mutants``: changes one small thing in a core at a time, and reports which changes no test notices.

Prints every survivor, and at the end the score: the share of the mutants that were killed, without those of
``equivalent.txt``, which behave as the original does. Exit code 1: the score is below ``--need``.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from pathlib import Path

from .child import UNCALLED, Verdict
from .mutation import Mutant, mutants_of
from .reach import CORE
from .sim_judge import SimJudge
from .unit_judge import UnitJudge

EQUIVALENT = Path(__file__).with_name("equivalent.txt")
NOT_MUTATED = {"check.py"}
"""Modules that decide nothing: they compare the state of a core with itself, for the tests."""


class Report:
    """Counts verdicts and prints what matters of them."""

    def __init__(self, count: int, *, shows_all: bool) -> None:
        self.killed = 0
        self.survivors: list[Mutant] = []
        self.uncalled = 0
        """Survivors in functions that nothing calls which could notice them."""
        self._count = count
        self._shows_all = shows_all

    def heard(self, mutant: Mutant, verdict: Verdict) -> None:
        number = self.killed + len(self.survivors) + 1
        place = f"{number}/{self._count} {mutant.path.relative_to(CORE.parents[2])}:{mutant.line} {mutant.name}"
        if verdict.killer is None:
            self.survivors.append(mutant)
            self.uncalled += verdict.note in UNCALLED
            print(f"SURVIVED {place}" + (f" ({verdict.note})" if verdict.note else ""), flush=True)
        else:
            self.killed += 1
            if self._shows_all:
                print(f"killed {place} by {verdict.killer.splitlines()[0]}", flush=True)

    @property
    def score(self) -> float:
        """Percent."""
        return 100 * self.killed / max(1, self.killed + len(self.survivors))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--count", default="200", help="how many mutants, drawn at random, or 'all'")
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    parser.add_argument("--skip", type=int, default=0, help="so many of those drawn, to go on after an interruption")
    parser.add_argument("--only", default="", help="only mutants in whose name this text is")
    parser.add_argument("--judge", choices=("unit", "sim"), default="unit", help="who has to notice them")
    parser.add_argument("--seeds", type=int, default=100, help="of the simulation, with --judge sim")
    parser.add_argument("--need", type=float, default=0.0, help="the least score, in percent")
    parser.add_argument("--verbose", action="store_true", help="print what is killed, and by what, too")
    options = parser.parse_args()
    mutants = _drawn(options.count, options.seed, options.only)[options.skip :]
    began_at = time.monotonic()
    report = Report(len(mutants), shows_all=options.verbose)
    judge = (
        UnitJudge(mutants, report.heard) if options.judge == "unit" else SimJudge(mutants, report.heard, options.seeds)
    )
    if code := judge.run():
        print(
            "no mutant was judged: the tests do not pass without one, or their calls could not be recorded",
            file=sys.stderr,
        )
        return code
    count = report.killed + len(report.survivors)
    called = f"; {report.uncalled} are in functions that it does not call" if report.uncalled else ""
    print(
        f"{report.killed} of {count} mutants killed: {report.score:.1f} % ({time.monotonic() - began_at:.0f} s){called}"
    )
    return 1 if report.score < options.need else 0


def _drawn(count: str, seed: int, only: str) -> list[Mutant]:
    """The mutants to judge. One that was drawn with a seed is drawn again as long as its statement is as it was."""
    equivalent = {line.strip() for line in EQUIVALENT.read_text().splitlines() if not line.startswith("#")}
    files = sorted(path for path in CORE.rglob("*.py") if path.name not in NOT_MUTATED)
    mutants = [mutant for path in files for mutant in mutants_of(path) if only in mutant.name]
    if count != "all":
        mutants = sorted(mutants, key=lambda mutant: _lot(mutant, seed))[: int(count)]
    return [mutant for mutant in mutants if mutant.name not in equivalent and mutant.code() is not None]


def _lot(mutant: Mutant, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed} {mutant.name}".encode(), digest_size=8).digest()


if __name__ == "__main__":
    sys.exit(main())
