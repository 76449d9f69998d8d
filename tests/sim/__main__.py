"""``python -m tests.sim --seeds N [--start S]``, or ``--seed S`` for the story of one."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from .run import Result, run

CHUNK = 10
"""Seeds that a process takes at a time."""
SHOWN_S = 60.0
"""Time between two lines about the progress, where it is not seen on a terminal."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many runs")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this one, and tell all of it")
    parser.add_argument("--failures", type=int, default=1, help="stop after so many")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args()
    if options.seed is not None:
        result = run(options.seed, is_verbose=True)
        print(result.violation or "ok", result.digest)
        return 1 if result.violation else 0
    return _many(options.start, options.seeds, options.failures, options.jobs)


def _many(start: int, count: int, failures_max: int, jobs: int) -> int:
    began_at = shown_at = time.monotonic()
    counts: Counter[str] = Counter()
    failures = 0
    done = 0
    with _results(range(start, start + count), jobs) as results:
        for result in results:
            done += 1
            counts += result.counts
            if result.violation:
                failures += 1
                _show(result)
                if failures >= failures_max:
                    break
            now = time.monotonic()
            if now - shown_at > (1 if sys.stderr.isatty() else SHOWN_S):
                shown_at = now
                _progress(f"{done} of {count} seeds, {done / (now - began_at):.1f}/s")
    _progress("")
    took_s = time.monotonic() - began_at
    print("  " + ", ".join(f"{name} {counts[name]}" for name in sorted(counts)))
    print(f"{done} seeds from {start}, {failures} failed, {done / took_s:.1f} seeds/s")
    return 1 if failures else 0


@contextmanager
def _results(seeds: range, jobs: int) -> Iterator[Iterator[Result]]:
    if jobs <= 1 or len(seeds) <= CHUNK:
        yield map(run, seeds)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield pool.imap(run, seeds, CHUNK)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:<60}\r", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def _show(result: Result) -> None:
    print(f"\nseed {result.seed} FAILED: {result.violation}")
    print(result.plan)
    print("\n".join(result.story))
    print(f"{result.violation}\nreplay: make sim SEED={result.seed}   (python -m tests.sim --seed {result.seed})\n")


if __name__ == "__main__":
    sys.exit(main())
