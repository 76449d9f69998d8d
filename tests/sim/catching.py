"""``python -m tests.sim.catching [NAME …]``: which seeds catch planted bugs, and with how much work. For ``CAUGHT_WITH``.

Without names it looks at every bug, and tries other seeds for those that the known seed catches no more. Run it when the
simulation or the cores have changed, as what a seed draws may have another outcome then.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator

from .canary import CANARIES
from .run import run
from .test_sim import CANARY_SEEDS, CAUGHT_WITH

FOUND_MAX = 3
"""Seeds that are shown of one bug: the least work of three is little enough."""
QUICK_S = 0.15
"""A seed that catches a bug with so little processor time is good enough: importing the simulation takes longer."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.catching", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="of planted bugs; all of them are in tests.sim.canary.CANARIES"
    )
    names = parser.parse_args().names
    missed = 0
    for name in names or CANARIES:
        known = CAUGHT_WITH.get(name, 0)
        if not names and any(_catching(name, [known])):
            continue
        found = sorted(_quickest(name))
        missed += not found
        print(f"{name}: " + (", ".join(f"{seed} ({took_s:.2f} s)" for took_s, seed in found) or "no seed"), flush=True)
    return 1 if missed else 0


def _quickest(name: str) -> Iterator[tuple[float, int]]:
    for number, (took_s, seed) in enumerate(_catching(name, range(CANARY_SEEDS)), 1):
        yield took_s, seed
        if number == FOUND_MAX or took_s < QUICK_S:
            return


def _catching(name: str, seeds: Iterable[int]) -> Iterator[tuple[float, int]]:
    """The processor time of each of ``seeds`` that catches the bug called ``name``, and the seed. In the same circumstances
    without the bug its run keeps all promises, or else it would show nothing.
    """
    canary = CANARIES[name]
    for seed in seeds:
        began_at = time.process_time()
        with canary.planted():
            violation = run(seed, bend=canary.bend).violation
        took_s = time.process_time() - began_at
        is_caught = violation is not None and violation.startswith((canary.promise, "status", "wire"))
        if is_caught and not run(seed, bend=canary.bend).violation:
            yield took_s, seed


if __name__ == "__main__":
    sys.exit(main())
