"""RQ with Redis.

- ``Retry(max=3)``: a job whose worker was killed is abandoned and, if it has retries left, queued again; without retries it would
  be put aside as failed. https://python-rq.org/docs/exceptions/#retrying-failed-jobs, https://github.com/rq/rq/issues/1461
- ``--job-monitoring-interval 5``: a job counts as abandoned when its worker has been silent for this and 60 s more, which is
  fixed. The default is 30 (``rq worker --help``).
- ``--maintenance-interval 10``: how often workers look for abandoned jobs. The default is 600.
  https://github.com/rq/rq/issues/2022
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults import client, server
from benchmarks.faults.system import HOST, PORTS, QUEUE, ROOT, Command, ComparedSystem, ports_of

MONITORING_S, FIXED_S, MAINTENANCE_S = 5, 60, 10
RETRIES = 3


def _servers(_: str, folder: Path, ports: Sequence[int]) -> list[Command]:
    return [server.redis(folder, ports[0])]


def _worker(python: str, name: str, ports: Sequence[int]) -> Command:
    command = [str(Path(python).with_name("rq")), "worker", QUEUE, "--url", f"redis://{HOST}:{ports[0]}/0"]
    command += ["--path", str(ROOT), "--job-monitoring-interval", str(MONITORING_S)]
    return Command([*command, "--maintenance-interval", str(MAINTENANCE_S)])


SYSTEM = ComparedSystem(
    name="RQ + Redis",
    module="benchmarks.faults.rq_redis",
    ports=1,
    servers=_servers,
    worker=_worker,
    settings="AOF `appendfsync always`, `Retry(max=3)`, `--job-monitoring-interval 5`, `--maintenance-interval 10`",
    programs={"redis-server": "redis-server"},
    libraries=("rq", "redis"),
    child="the work-horse, a process for each job",
    late_s=MONITORING_S + FIXED_S + MAINTENANCE_S + 10.0,
)


class Asker:
    """Enqueues jobs, and asks for their results."""

    def __init__(self) -> None:
        from redis import Redis  # type: ignore[import-not-found]
        from rq import Queue  # type: ignore[import-not-found]

        (port,) = ports_of(os.environ[PORTS])
        self._queue = Queue(QUEUE, connection=Redis(host=HOST, port=port))

    def ask(self, request: str) -> object:
        from rq import Retry

        retry = Retry(max=RETRIES)
        return self._queue.enqueue("benchmarks.faults.handler.handle", request, retry=retry, result_ttl=3600)

    def answer_of(self, handle: object) -> str | None:
        status = handle.get_status(refresh=True)  # type: ignore[attr-defined]
        if status in ("failed", "stopped", "canceled"):
            raise client.RequestFailed(str(status))
        return str(handle.return_value(refresh=True)) if status == "finished" else None  # type: ignore[attr-defined]


if __name__ == "__main__" and sys.argv[1:2] == ["client"]:
    client.run(Asker())
