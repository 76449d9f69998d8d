"""From ``docker kill`` of a worker's container to its request's answer from another: 10 trials with real containers.

``python -m benchmarks.compose_failover [FILE]``; the images that FILE names must be there. What is measured includes what
Docker takes to kill, and the time that the replacement works.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence

from benchmarks.figure import Row, median, milliseconds, print_rows
from cbw.core.record import Record
from cbw.verify.compose import ComposeProject
from cbw.verify.scenario import ANSWER_TIMEOUT_S, merged
from cbw.verify.trials import Trials

TRIALS = 10
LIMIT_S = 0.1
FILE = "deploy/cbw/docker-compose.yml"


def rows(*files: str) -> Iterator[Row]:
    """Times from just before the kill."""
    records = _trials(files or (FILE,))
    begun, answered = _times(records, "begun"), _times(records, "got")
    limit = f"limit {LIMIT_S * 1000:.0f} ms and Docker's own time"
    ratio = f"{median(begun) / LIMIT_S:.2f}"
    yield Row("docker kill of a worker to its request begun by another", milliseconds(begun), limit, ratio)
    yield Row("docker kill of a worker to the answer from another", milliseconds(answered), "the same, and 1 s of work")


def _trials(files: Sequence[str]) -> list[Record]:
    with (
        tempfile.TemporaryDirectory() as folder,
        ComposeProject(files, None, _say) as deployment,
        Trials(folder, deployment, _say, timeout_s=ANSWER_TIMEOUT_S) as trials,
    ):
        trials.meet()
        for _ in range(TRIALS):
            trials.kill()
        trials.collect()
        trials.stop()
        return list(merged(trials.traces()))


def _times(records: list[Record], event: str) -> list[float]:
    """From each kill to the first ``event`` of its request afterwards."""
    times = []
    for killed in records:
        if killed.event == "killed":
            later = (r.at for r in records if r.event == event and r.request == killed.request and r.at > killed.at)
            times.append(next(later) - killed.at)
    return times


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr)


if __name__ == "__main__":
    print_rows(rows(*sys.argv[1:]))
