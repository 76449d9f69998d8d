"""``python -m tests.sim --seeds N [--start S]``, or ``--seed S`` for the story of one."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from .run import Result, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many runs")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this one, and tell all of it")
    parser.add_argument("--failures", type=int, default=1, help="stop after so many")
    options = parser.parse_args()
    if options.seed is not None:
        result = run(options.seed, is_verbose=True)
        print(result.violation or "ok", result.digest)
        return 1 if result.violation else 0
    return _many(options.start, options.seeds, options.failures)


def _many(start: int, count: int, failures_max: int) -> int:
    began_at = shown_at = time.monotonic()
    counts: Counter[str] = Counter()
    failures = 0
    done = 0
    for seed in range(start, start + count):
        result = run(seed)
        done += 1
        counts += result.counts
        if result.violation:
            failures += 1
            _show(result)
            if failures >= failures_max:
                break
        now = time.monotonic()
        if now - shown_at > 1 and sys.stderr.isatty():
            shown_at = now
            print(f"\r{done} of {count} seeds, {done / (now - began_at):.1f}/s", end="", file=sys.stderr, flush=True)
    took_s = time.monotonic() - began_at
    print(f"\r{done} seeds from {start}, {failures} failed, {done / took_s:.1f} seeds/s")
    print("  " + ", ".join(f"{name} {counts[name]}" for name in sorted(counts)))
    return 1 if failures else 0


def _show(result: Result) -> None:
    print(f"\nseed {result.seed} FAILED: {result.violation}")
    print(result.plan)
    print("\n".join(result.story))
    print(f"{result.violation}\nreplay: make sim SEED={result.seed}   (python -m tests.sim --seed {result.seed})\n")


if __name__ == "__main__":
    sys.exit(main())
