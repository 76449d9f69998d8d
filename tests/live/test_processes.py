"""The pool of child processes: its children die, cannot be started, and do not read, at the worst moments."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from typing import Any

import pytest

from cbw.core import catalogue, messages
from cbw.core.messages import Status
from cbw.core.worker.child_starts import START_RETRY_S
from cbw.core.worker.events import PoolNotReady, PoolReady, TasksFinished, TasksReturned
from cbw.errors import NotReady, UsageError
from cbw.worker.handler import Handler
from cbw.worker.processes import ProcessPool

from . import handlers
from .owner import Owner
from .program import PATIENCE_S, wait_until


class Pool:
    """A pool, of one child if not told otherwise, whose handlers answer at once, later, never, or after holding the GIL."""

    def __init__(self, concurrency: int = 1, processes: int = 1, *, is_awaited: bool = True) -> None:
        served = {
            "echo": Handler("echo", handlers.echo),
            "hang": Handler("hang", handlers.hang),
            "leave": Handler("leave", handlers.leave_behind),
            "hold": Handler("hold", handlers.hold_gil),
            "sleep": Handler("sleep", handlers.echo_slowly),
            "babble": Handler("babble", handlers.babble),
            "deafen": Handler("deafen", handlers.deafen),
        }
        self.owner = Owner()
        self._ended: list[messages.Answer] = []
        self.pool = ProcessPool(served, processes, concurrency, self.owner)
        if is_awaited:
            wait_until(lambda: all(child.is_ready for child in self.pool.children), "the children are ready")

    @property
    def child(self) -> Any:
        """The one that is there now."""
        return self.pool.children[0]

    def begin(self, number: int, service: str = "echo", body: bytes = b"x") -> None:
        """Hand task ``number`` over."""
        self.pool.begin([messages.Task(number, service, body, None, 1)])

    def begin_and_wait(self, number: int, service: str, body: bytes, *behind: int) -> None:
        """Hand task ``number`` over, with others behind it, and wait until its handler runs."""
        tasks = [
            messages.Task(number, service, body, None, 1),
            *(messages.Task(one, "echo", b"x", None, 1) for one in behind),
        ]
        self.pool.begin(tasks)
        held = self.child.in_hand[number]
        wait_until(lambda: self.child.has_begun(held), f"task {number} has begun")

    def begin_for_ever(self, number: int, *behind: int) -> None:
        """Begin a task whose handler hangs."""
        self.begin_and_wait(number, "hang", b"for ever", *behind)

    def kill_child(self, number: int = 0) -> None:
        """As the system does it that has no memory left."""
        os.kill(self.pool.children[number].process.pid or 0, signal.SIGKILL)

    def next(self, timeout_s: float = PATIENCE_S) -> tuple[int, Status]:
        """The next task that has ended, and how."""
        while not self._ended:
            self._ended = self.owner.next(TasksFinished, timeout_s).answers
        answer = self._ended.pop(0)
        return answer.id, answer.status

    def returned(self) -> list[int]:
        """The next tasks that are given back."""
        return self.owner.next(TasksReturned).tasks

    def ready(self) -> None:
        """Wait until it can run something again."""
        wait_until(self.pool.is_ready, "a child is ready")

    def cannot_start(self, error: Exception | None = None) -> Callable[[], None]:
        """From now on no child can be started, for want of memory or because of ``error``; what ends that."""
        make = self.pool.make_child

        def fail() -> Any:
            raise error or NotReady("a child process cannot be started")

        def mend() -> None:
            self.pool.make_child = make

        self.pool.make_child = fail
        return mend


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.pool.close()


def _closes(pool: ProcessPool) -> bool:
    closer = threading.Thread(target=pool.close, daemon=True)
    closer.start()
    closer.join(PATIENCE_S)
    return not closer.is_alive()


def test_a_task_after_a_cancelled_one_is_not_for_the_same_child(pool: Pool) -> None:
    """The old one is about to end, and would take an innocent attempt with it."""
    pool.begin(1, "hang")
    pool.pool.cancel(1)
    pool.begin(2)
    assert pool.next() == (1, Status.CANCELLED)
    assert pool.returned() == [2]
    pool.ready()
    pool.begin(2)
    assert pool.next() == (2, Status.OK)


def test_what_a_child_took_with_it_is_told_before_another_can_be_started(pool: Pool) -> None:
    mend = pool.cannot_start()
    pool.begin_for_ever(1)
    pool.kill_child()
    assert pool.next() == (1, Status.CRASHED)
    pool.begin(2)
    assert pool.returned() == [2]
    mend()
    pool.ready()
    pool.begin(2)
    assert pool.next() == (2, Status.OK)


def test_a_child_that_cannot_be_replaced_for_now_is_told_once(pool: Pool) -> None:
    mend = pool.cannot_start()
    pool.kill_child()
    wait_until(lambda: pool.owner.said, "it says so")
    time.sleep(2 * START_RETRY_S)
    mend()
    pool.ready()
    assert pool.owner.said == [(catalogue.NOT_REPLACED, "a child process cannot be started")]


def test_a_child_that_can_no_more_be_started_is_tried_again_while_another_works() -> None:
    """As when the module of a handler has been loaded anew: pickle finds another function under the handler's name."""
    made = Pool(processes=2)
    mend = made.cannot_start(UsageError("a handler cannot go to a child process"))
    made.kill_child()
    wait_until(lambda: made.owner.said, "it says so")
    assert made.owner.said == [(catalogue.NOT_REPLACED, "a handler cannot go to a child process")]
    made.begin(1)
    assert made.next() == (1, Status.OK)
    mend()
    wait_until(lambda: made.child.is_ready, "the child is replaced")
    assert _closes(made.pool)


def test_the_last_child_that_can_no_more_be_started_ends_the_worker() -> None:
    """Nothing would ever be run again."""
    made = Pool(processes=2)
    error = UsageError("a handler cannot go to a child process")
    made.cannot_start(error)
    made.kill_child(0)
    wait_until(lambda: made.owner.said, "one is missing")
    made.begin(1)
    assert made.next() == (1, Status.OK)
    made.kill_child(1)
    assert made.owner.failure() is error
    assert _closes(made.pool)


class Forgetful:
    """A handler that cannot go to another process once it has been used here."""

    lock: threading.Lock | None = None

    def __call__(self, body: bytes) -> bytes:
        return body


def test_a_handler_that_could_go_to_a_child_process_only_once() -> None:
    handler, owner = Forgetful(), Owner()
    pool = ProcessPool({"": Handler("", handler)}, 1, 1, owner)
    wait_until(pool.is_ready, "the child is ready")
    handler.lock = threading.Lock()
    pool.children[0].process.kill()
    failure = owner.failure()
    assert isinstance(failure, UsageError) and "cannot go to a child process" in str(failure)
    assert _closes(pool)


def test_any_error_while_a_child_is_replaced_ends_the_worker(pool: Pool) -> None:
    """It ended only the thread that replaces it, in silence."""
    error = RuntimeError("nobody expects it")
    pool.cannot_start(error)
    pool.kill_child()
    assert pool.owner.failure() is error


@pytest.mark.parametrize("service", ["babble", "deafen"])
def test_a_child_whose_handler_breaks_its_pipe_is_replaced(service: str, pool: Pool) -> None:
    """It writes to descriptors that are not its own, or closes them."""
    before = pool.child
    pool.begin(1, service)
    assert pool.next() == (1, Status.CRASHED)
    pool.ready()
    assert pool.child is not before
    pool.begin(2)
    assert pool.next() == (2, Status.OK)


def test_cancel_while_a_child_is_replaced(pool: Pool) -> None:
    mend = pool.cannot_start()
    pool.begin_for_ever(1)
    pool.kill_child()
    assert pool.next() == (1, Status.CRASHED)
    pool.pool.cancel(1)
    mend()
    pool.ready()
    pool.begin(2)
    assert pool.next() == (2, Status.OK)


def test_close_while_no_child_can_be_started() -> None:
    made = Pool()
    made.cannot_start()
    made.kill_child()
    wait_until(lambda: made.child.is_ending, "the pool has noticed")
    assert _closes(made.pool)


def test_close_while_a_child_that_died_early_is_replaced() -> None:
    """One whose module cannot be imported there, for example: it is not started again at once."""
    made = Pool()
    made.child.has_been_ready = False
    made.kill_child()
    wait_until(lambda: made.child.is_ending, "the pool has noticed")
    assert _closes(made.pool)


@pytest.mark.parametrize("kind", ["fork", "system"])
def test_a_child_that_leaves_a_process_behind_is_seen_to_have_ended(kind: str) -> None:
    """What a handler has started has no hold on the child's pipe."""
    pool = Pool()
    pool.begin(1, "leave", kind.encode())
    assert pool.next() == (1, Status.CRASHED)
    assert _closes(pool.pool)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_for_the_whole_group_leaves_the_children_to_their_parent(number: signal.Signals) -> None:
    """As Ctrl-C, `timeout` and service managers send it; also while a child starts."""
    made = Pool(processes=2, is_awaited=False)
    children = list(made.pool.children)
    for child in children:
        os.kill(child.process.pid or 0, number)
    wait_until(lambda: all(child.is_ready for child in children), "they are ready")
    made.begin(1, "sleep", b"0.3 x")
    wait_until(lambda: any(child.in_hand for child in children), "it is in a child's hand")
    for child in children:
        os.kill(child.process.pid or 0, number)
    assert made.next() == (1, Status.OK)
    assert made.pool.children == children
    assert _closes(made.pool)


def test_a_signal_does_not_end_the_first_child_of_a_process_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the first one multiprocessing starts its tracker, and unblocks signals then."""
    tracker = resource_tracker.ResourceTracker()
    for name in ("ensure_running", "getfd"):
        monkeypatch.setattr(resource_tracker, name, getattr(tracker, name))
    made = Pool(is_awaited=False)
    child = made.child
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(child.process.pid or 0, number)
    wait_until(lambda: child.is_ready, "it is ready")
    assert _closes(made.pool)
    descriptor = tracker.getfd()
    assert descriptor is not None
    os.close(descriptor)


def test_one_that_is_to_stop_starts_no_more_children() -> None:
    """Each takes a while."""
    served = {"echo": Handler("echo", handlers.echo)}
    wanted = iter([True, True])
    pool = ProcessPool(served, 100, 1, Owner(), is_unwanted=lambda: not next(wanted, False))
    assert len(pool.children) == 2
    assert _closes(pool)


def test_a_child_that_is_killed_before_it_is_ready_is_replaced() -> None:
    """As the system does it that has no memory left: it says nothing about the program."""
    made = Pool(is_awaited=False)
    made.kill_child()
    made.ready()
    made.begin(1)
    assert made.next() == (1, Status.OK)
    assert _closes(made.pool)


def test_close_while_the_next_child_starts() -> None:
    """The next one is not left behind."""
    made = Pool()
    make, replacements = made.pool.make_child, []
    is_starting, may_start = threading.Event(), threading.Event()

    def make_slowly() -> Any:
        is_starting.set()
        assert may_start.wait(PATIENCE_S)
        replacements.append(make())
        return replacements[-1]

    made.pool.make_child = make_slowly
    made.kill_child()
    assert is_starting.wait(PATIENCE_S)
    closer = threading.Thread(target=made.pool.close, daemon=True)
    closer.start()
    wait_until(made.pool.is_closed.is_set, "it is being closed")
    may_start.set()
    closer.join(PATIENCE_S)
    assert not closer.is_alive()
    with pytest.raises(ValueError, match="closed"):
        replacements[0].process.is_alive()


def test_a_child_that_does_not_read_makes_nobody_wait() -> None:
    """It holds the GIL while a second task comes with more than a pipe takes."""
    made = Pool(concurrency=2)
    made.begin_and_wait(1, "hold", b"4")
    began_at = time.monotonic()
    made.begin(2, body=bytes(5_000_000))
    assert time.monotonic() - began_at < 3
    assert {made.next(), made.next()} == {(1, Status.OK), (2, Status.OK)}
    assert _closes(made.pool)


def test_it_reports_when_it_can_run_something_and_when_it_cannot() -> None:
    """Whoever sleeps until there is a report must not sleep on."""
    made = Pool(is_awaited=False)
    assert not made.pool.is_ready()
    assert made.owner.next_fact() == PoolNotReady()
    for is_ready in (True, False, True, False):
        assert made.owner.next_fact() == (PoolReady() if is_ready else PoolNotReady())
        assert made.pool.is_ready() is is_ready
        if is_ready:
            made.kill_child()
    assert _closes(made.pool)


# --- what a child has been given and has not begun


def test_a_child_that_idles_gets_what_waits_for_another() -> None:
    made = Pool(processes=2)
    made.pool.begin(
        [messages.Task(number, "sleep", b"30 x" if number == 1 else b"0 x", None, 1) for number in range(1, 101)]
    )
    assert sorted(made.next() for _ in range(99)) == [(number, Status.OK) for number in range(2, 101)]
    assert _closes(made.pool)


def test_what_a_child_had_not_begun_did_not_die_with_it(pool: Pool) -> None:
    pool.begin_for_ever(1, 2, 3)
    assert pool.pool.take_back([3]) is None
    assert pool.returned() == [3]
    pool.kill_child()
    assert pool.next() == (1, Status.CRASHED)
    assert pool.returned() == [2]


def test_another_child_runs_what_a_dead_one_had_not_begun() -> None:
    made = Pool(processes=2)
    made.pool.begin([messages.Task(1, "sleep", b"0.5 x", None, 1)])
    made.begin_for_ever(2, 3, 4)
    made.kill_child()
    assert made.next() == (2, Status.CRASHED)
    assert {made.next(), made.next(), made.next()} == {(1, Status.OK), (3, Status.OK), (4, Status.OK)}
    assert _closes(made.pool)


def test_the_broker_gets_back_what_a_child_has_not_begun(pool: Pool) -> None:
    pool.begin_for_ever(1, 2)
    assert pool.pool.take_back([1, 2]) is None
    assert pool.returned() == [2]
    assert pool.pool.take_back([3]) == []
    pool.pool.cancel(1)
    assert pool.next() == (1, Status.CANCELLED)


def test_a_child_that_does_not_read_is_asked_once(pool: Pool) -> None:
    """However often the broker asks meanwhile."""
    sent: list[object] = []
    pool.begin_and_wait(1, "hold", b"2", 2)
    send = pool.child.send

    def record(orders: object) -> None:
        sent.append(orders)
        send(orders)

    pool.child.send = record
    for _ in range(100):
        assert pool.pool.take_back([2]) is None
    assert sent == [[messages.Recall([2])]]
    assert pool.next() == (1, Status.OK)
