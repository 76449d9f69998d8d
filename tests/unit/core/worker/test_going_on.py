"""A worker that has begun a task when its broker dies, and the broker that comes back with a journal."""

from __future__ import annotations

from msgspec import structs

from cbw.core import messages
from cbw.core.worker.events import Connected, Disconnected

from .sessions import WELCOME, arrived, busy, finished, ok, sent


def test_a_broker_with_a_journal_lets_a_task_go_on() -> None:
    core = busy(1)
    core.step([Disconnected()], 0.5)
    (hello,) = sent(core.step([Connected()], 1.0))
    assert isinstance(hello, messages.WorkerHello) and hello.tasks == [1]
    core.step([arrived(structs.replace(WELCOME, tasks=[1]))], 1.1)
    assert core.in_hand == [1] and not core.left_over
    assert ok(1) in sent(core.step([finished(ok(1))], 1.2))
