"""How a worker leaves: with nothing to do, with handlers that run, and when its broker leaves it."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.messages import Status
from cbw.core.worker.core import WorkerCore
from cbw.core.worker.events import Connected, End, Send, StopRequested, TasksReturned

from .sessions import arrived, begun, busy, finished, ok, sent, task, wanted_back, welcomed


def test_an_idle_worker_leaves_at_once() -> None:
    core = welcomed()
    assert core.step([StopRequested(by=10.0)], 0.9) == [
        Send([messages.Credit(0), messages.Goodbye()]),
        End(None),
    ]
    assert core.is_ended


def test_a_busy_one_finishes_what_it_began_and_returns_the_rest() -> None:
    core = busy(1, 2, concurrency=1)
    orders = core.step([StopRequested(by=10.0)], 0.9)
    assert not core.is_ended
    assert wanted_back(orders) == [1, 2]
    orders += core.step([TasksReturned([2])], 0.9)
    assert sent(orders) == [messages.Credit(0), messages.Returned([2])]
    assert sent(core.step([arrived(task(3))], 0.95)) == [messages.Returned([3])]  # it was on its way
    orders = core.step([finished(ok(1))], 0.97)
    assert core.is_ended
    assert sent(orders) == [ok(1), messages.Goodbye()]


def test_what_runs_over_the_grace_has_crashed() -> None:
    core = busy(1)
    core.step([StopRequested(by=10.0)], 1.0)
    assert core.wake_at <= 10.0
    *_, crashed, goodbye = sent(core.step([], 10.0))
    assert core.is_ended
    assert isinstance(crashed, messages.Answer)
    assert (crashed.id, crashed.status) == (1, Status.CRASHED)
    assert goodbye == messages.Goodbye()


def test_a_second_stop_shortens_the_grace() -> None:
    core = busy(1)
    core.step([StopRequested(by=10.0)], 1.0)
    core.step([StopRequested(by=3.0)], 2.0)
    core.step([StopRequested(by=20.0)], 2.0)
    core.step([], 3.0)
    assert core.is_ended


def test_leaves_without_a_connection() -> None:
    core = WorkerCore("W1", "boot", [""], 1)
    assert core.step([StopRequested(by=1.0)], 0.0) == [End(None)]
    assert core.is_ended
    assert core.step([Connected()], 0.1) == []


def test_after_the_brokers_goodbye_nothing_is_begun() -> None:
    core = busy(1)
    core.step([arrived(messages.Goodbye())], 1.0)
    assert not core.is_registered
    assert not core.in_hand
    assert begun(core.step([arrived(task(2))], 1.0)) == []


def test_it_wakes_when_its_grace_is_over() -> None:
    core = busy(1)
    core.step([StopRequested(by=0.2)], 0.1)
    assert core.wake_at <= 0.2
