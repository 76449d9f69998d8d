"""Celery with Redis as broker and result backend, with what its documentation says about tasks that must not be lost.

- ``task_acks_late`` and ``task_reject_on_worker_lost``: a task is acknowledged when it is done, and goes back to the queue when
  its process dies. https://docs.celeryq.dev/en/stable/userguide/configuration.html#task-reject-on-worker-lost
- ``worker_prefetch_multiplier`` 1: a worker reserves no more than it works on, as recommended with late acknowledgement.
  https://docs.celeryq.dev/en/stable/userguide/optimizing.html#reserve-one-task-at-a-time
- ``visibility_timeout`` 30 s, ``unacked_restore_interval`` 5 s and ``unacked_restore_throttle`` 1: the example of the
  documentation for messages that a dead worker has left behind. By default such a task waits for an hour.
  https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html#visibility-timeout
- ``broker_connection_max_retries`` None and ``broker_connection_retry_on_startup``: a worker never gives up to connect.
  https://docs.celeryq.dev/en/stable/userguide/configuration.html#broker-connection-max-retries
- ``result_backend_always_retry``: a result is written again when Redis comes back.
  https://docs.celeryq.dev/en/stable/userguide/configuration.html#result-backend-always-retry
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.faults import client, server
from benchmarks.faults.handler import handle
from benchmarks.faults.system import HOST, LEASE_S, PORTS, QUEUE, Command, ComparedSystem, ports_of, program

MODULE = "benchmarks.faults.celery_redis"
RESTORE_S = 5


def _servers(_: str, folder: Path, ports: Sequence[int]) -> list[Command]:
    return [server.redis(folder, ports[0])]


def _worker(python: str, name: str, _: Sequence[int]) -> Command:
    return program(MODULE, python, "worker", name)


SYSTEM = ComparedSystem(
    name="Celery + Redis",
    module=MODULE,
    ports=1,
    servers=_servers,
    worker=_worker,
    settings="AOF `appendfsync always`, `acks_late`, `reject_on_worker_lost`, `visibility_timeout` 30 s, restored every 5 s",
    programs={"redis-server": "redis-server"},
    libraries=("celery", "kombu", "redis"),
    child="the child process of the prefork pool",
    late_s=LEASE_S + RESTORE_S + 10.0,
)


def _app() -> Any:
    import celery  # type: ignore[import-not-found]

    (port,) = ports_of(os.environ[PORTS])
    app = celery.Celery("faults", broker=f"redis://{HOST}:{port}/0", backend=f"redis://{HOST}:{port}/1")
    app.conf.update(
        task_default_queue=QUEUE,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        broker_transport_options={
            "visibility_timeout": LEASE_S,
            "unacked_restore_interval": RESTORE_S,
            "unacked_restore_throttle": 1,
        },
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        result_backend_always_retry=True,
    )
    app.task(handle, name="handle")
    return app


class Asker:
    """Sends tasks, and asks the result backend for their results."""

    def __init__(self) -> None:
        self._app = _app()
        self._app.conf.result_backend_always_retry = False  # the client's loop tries again itself

    def ask(self, request: str) -> object:
        return self._app.send_task("handle", (request,)).id

    def answer_of(self, handle: object) -> str | None:
        result = self._app.AsyncResult(handle)
        if result.failed():
            raise client.RequestFailed(repr(result.result))
        return str(result.result) if result.successful() else None


if __name__ == "__main__":
    if sys.argv[1] == "client":
        client.run(Asker())
    else:
        _app().worker_main(
            ["worker", "--concurrency", "1", "--hostname", f"{sys.argv[2]}@localhost", "--loglevel", "INFO"]
        )
