"""``python -m benchmarks.faults``: the table of all systems under all treatments."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.faults import (
    cbw_journal,
    celery_redis,
    dramatiq_rabbitmq,
    majortomo_memory,
    rq_redis,
    taskiq_jetstream,
)
from benchmarks.faults.account import cell
from benchmarks.faults.processes import NotMeasured
from benchmarks.faults.system import ROOT, ComparedSystem, missing, versions
from benchmarks.faults.treatment import REQUESTS, TREATMENTS, Run, treat

SYSTEMS = tuple(
    module.SYSTEM
    for module in (cbw_journal, celery_redis, dramatiq_rabbitmq, rq_redis, taskiq_jetstream, majortomo_memory)
)
PEERS_PYTHON = ROOT / "build" / "peers" / "bin" / "python"
ROUNDS = 3
HEAD = (
    "system",
    "killed",
    "lost",
    "failed",
    "begun twice",
    "done twice",
    "answered twice",
    "first answer, s",
    "longest silence, s",
    "request in hand, s",
    "all answered, s",
    "restarts",
)


def cells(system: ComparedSystem, treatment: str, runs: Sequence[Run]) -> list[str]:
    """One row of the table."""
    accounts = [run.account for run in runs]
    counts = ("lost", "failed", "begun_twice", "done_twice", "answered_twice")
    times = ("first_answer_s", "silence_s", "in_hand_s", "all_answered_s")
    return [
        system.name,
        treatment,
        *(cell([getattr(account, name) for account in accounts]) for name in counts),
        *(cell([getattr(account, name) for account in accounts], 1) for name in times),
        cell([run.restarts for run in runs]),
    ]


def print_row(texts: Sequence[str]) -> None:
    """Print a row of a Markdown table."""
    print(f"| {' | '.join(texts)} |", flush=True)


def treatments_of(system: ComparedSystem, wanted: Sequence[str]) -> list[str]:
    """Those that are possible: a child process can be killed alone only where there is one."""
    return [treatment for treatment in wanted if treatment != "child" or system.child]


def measured(system: ComparedSystem, treatment: str, options: argparse.Namespace) -> list[Run]:
    """All runs of one row.

    Raises:
        NotMeasured: the system does not even do what it should before anything is killed, or its client has ended.
    """
    python = options.python if system.libraries else sys.executable
    runs = []
    for number in range(1, options.rounds + 1):
        keep = options.keep / f"{system.key}-{treatment}-{number}" if options.keep else None
        began_at = time.monotonic()
        runs.append(treat(system, treatment, python, options.requests, keep))
        took_s = time.monotonic() - began_at
        print(f"{system.name}, {treatment}, run {number}: {took_s:.0f} s, {runs[-1]}", file=sys.stderr, flush=True)
    return runs


def report(options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Measure, print each row as soon as it is there, and yield the same for ``--json``."""
    show = (lambda _: None) if options.json else print_row
    for system in (system for system in SYSTEMS if system.key in options.systems):
        if lacks := missing(system, options.python):
            why = f"not measured: install {' and '.join(lacks)}"
            show([system.name, why, *["-"] * (len(HEAD) - 2)])
            yield {"system": system.name, "not_measured": why}
            continue
        for treatment in treatments_of(system, options.treatments):
            try:
                runs = measured(system, treatment, options)
            except NotMeasured as error:
                show([system.name, f"{treatment}: not measured: {error}", *["-"] * (len(HEAD) - 2)])
                yield {"system": system.name, "treatment": treatment, "not_measured": str(error)}
                continue
            show(cells(system, treatment, runs))
            accounts = [{**run.account._asdict(), "restarts": run.restarts} for run in runs]
            yield {"system": system.name, "treatment": treatment, "runs": accounts}


def versions_of(system: ComparedSystem, python: str) -> str:
    """What was measured, in one line."""
    found = versions(system, python) or ["this checkout"]
    for name, package in system.programs.items():
        command = ["dpkg-query", "-W", "-f", "${Package} ${Version}", package]
        if _is_debian() and (shutil.which(name) or Path(name).is_file()):
            found.append(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    return f"{system.name}: {', '.join(found)}; {system.settings}"


def _is_debian() -> bool:
    return shutil.which("dpkg-query") is not None


def _listed(text: str) -> list[str]:
    return text.split(",")


def main() -> None:
    """Measure what was asked for."""
    keys = ",".join(system.key for system in SYSTEMS)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults", description="All systems under all treatments."
    )
    parser.add_argument(
        "--systems", type=_listed, default=keys, help=f"which, with commas between them (default: {keys})"
    )
    said = "; ".join(f"{name}: {what}" for name, what in TREATMENTS.items())
    parser.add_argument("--treatments", type=_listed, default=",".join(TREATMENTS), help=said)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs of each; the table has their medians")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="asked in each run; at least 500")
    parser.add_argument("--python", default=str(PEERS_PYTHON), help="the Python that has the libraries of the peers")
    parser.add_argument("--keep", type=Path, help="leave the ledgers and the output of all processes in this folder")
    parser.add_argument("--json", action="store_true", help="print every run, as JSON, instead of the table")
    options = parser.parse_args()
    for name, known in (("systems", keys.split(",")), ("treatments", list(TREATMENTS))):
        if wrong := [one for one in getattr(options, name) if one not in known]:
            parser.error(f"--{name}: {', '.join(wrong)} is none of {', '.join(known)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything that was started is ended
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # majortomo's broker has a connection for each request
    load = os.getloadavg()[0]
    if not options.json:
        print_row(HEAD)
        print_row(["---"] * len(HEAD))
    rows = list(report(options))
    if options.json:
        print(json.dumps(rows))
        return
    print(
        f"\nMedians of {options.rounds} runs; load of the machine before {load:.1f}, after {os.getloadavg()[0]:.1f}.\n"
    )
    for system in SYSTEMS:
        if system.key in options.systems and not missing(system, options.python):
            print(f"- {versions_of(system, options.python)}")


if __name__ == "__main__":
    main()
