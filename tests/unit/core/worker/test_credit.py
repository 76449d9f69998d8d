"""How many tasks a worker asks for, as its handlers become slower and quicker."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.worker.core import PREFETCH_S, WorkerCore
from cbw.core.worker.events import BatchArrived, Connected, PoolReady, TasksFinished


def test_slower_handlers_want_less_ahead_though_still_something() -> None:
    core = WorkerCore("W1", "boot", [""], 1)
    core.step([Connected(), PoolReady()], 0.0)
    core.step([BatchArrived([messages.Welcome("BRO", "b", 3.0, 1000)])], 0.0)
    credits = []
    for number, busy_s in enumerate([PREFETCH_S / 100, PREFETCH_S / 4], start=1):
        core.step([BatchArrived([messages.Task(number, "", b"", None, 1)])], 0.0)
        core.step([TasksFinished([messages.Answer(number, messages.Status.OK, b"")], busy_s)], 0.0)
        credits.append(core.credit)
    assert credits == [101, 5]
