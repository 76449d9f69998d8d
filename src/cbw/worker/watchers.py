"""What a worker records of the tasks that its handlers run: each of them if somebody wants that, and every failure."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from cbw.core import catalogue, messages
from cbw.core.catalogue import EventName
from cbw.core.messages import Status
from cbw.core.parts import SUCCEEDED
from cbw.core.record import Record
from cbw.observe.trace import TRACEBACK, Trace
from cbw.worker.pool import Watch

FAILURES_MAX = 20
"""Failures in a second that are told of with the tracebacks of their handlers."""
_log = logging.getLogger("cbw.worker")
WriteRecords = Callable[[Sequence[Record]], None]


def watches(worker: str, trace: Trace, write: WriteRecords) -> tuple[Watch | None, Watch]:
    """What a pool tells of all tasks, and of those that failed, so that ``trace`` has it, to which ``write`` writes."""
    on_failed = FailureWatch(worker, write, wants_all=trace.wants_all, is_printed=trace.is_printing)
    return task_watch(worker, write) if trace.wants_all else None, on_failed


def task_watch(worker: str, write: WriteRecords) -> Watch:
    """Records every task that is begun, and its end unless it failed by accident, of which :class:`FailureWatch` tells.

    One that was given up, by its client or its deadline, is done.
    """

    def watch(task: messages.Task, answer: messages.Answer | None) -> None:
        if answer is None:
            write([task_record(catalogue.BEGUN, worker, task)])
        elif answer.status in SUCCEEDED:
            write([task_record(catalogue.DONE, worker, task)])
        elif answer.status is Status.CANCELLED:
            record = task_record(catalogue.DONE, worker, task)
            record.text = "cancelled"
            write([record])
        elif (error := messages.error_parts(answer.body)).data is not None:
            record = task_record(catalogue.DONE, worker, task)
            record.text = error.line
            write([record])

    return watch


class FailureWatch:
    """Records every task that failed, with the traceback of its handler. Unless ``write`` prints, ``logging`` gets it too.
    A :class:`cbw.Failure` is an answer, and no case of this; nor is a task that was given up.

    Of a flood of failures only :data:`FAILURES_MAX` in a second are told of, unless somebody ``wants_all`` records; all are
    counted in the worker's status.
    """

    def __init__(self, worker: str, write: WriteRecords, *, wants_all: bool, is_printed: bool) -> None:
        self._worker = worker
        self._write = write
        self._wants_all = wants_all
        self._is_printed = is_printed
        self._since = -math.inf
        self._told = 0

    def __call__(self, task: messages.Task, answer: messages.Answer | None) -> None:
        assert answer is not None
        error = messages.error_parts(answer.body)
        if error.data is not None or answer.status is Status.CANCELLED:
            return
        now = time.monotonic()
        if now - self._since >= 1.0:
            self._since, self._told = now, 0
        self._told += 1
        is_flood = self._told > FAILURES_MAX
        if is_flood and not self._wants_all:
            return
        record = task_record(catalogue.ERROR, self._worker, task)
        record.text = error.line
        if error.traceback and not is_flood:
            record.fields = {TRACEBACK: error.traceback}
        self._write([record])
        if not (self._is_printed or is_flood):
            _log.error("%s: the handler of %r failed: %s", self._worker, task.service, error.traceback or error.line)


def task_record(event: EventName, worker: str, task: messages.Task) -> Record:
    """A record which says that ``event`` has happened to ``task`` at ``worker``."""
    fields: dict[str, Any] = {
        "request": task.request,
        "service": task.service,
        "task": task.id,
        "attempt": task.attempt,
    }
    return Record(time.monotonic(), event, role="worker", sender=worker, worker=worker, **fields)
