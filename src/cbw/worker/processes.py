"""Handlers in child processes: they may crash, or hold the GIL for as long as they like.

Each child runs a pool of its own and is fed through a pipe. Two threads of the worker belong to each child. One writes its
orders: a child that holds the GIL does not read its pipe, and the thread that serves the worker's socket must not wait for
that. The other, the supervisor, reads what the child reports and starts another in its place when it has died. A child that
dies takes with it only the attempts that it had begun.

A child is given tasks beyond those that it can run, and is asked for them again when another child has nothing to do. It
answers when it reads its pipe: one that holds the GIL gives nothing back until it releases it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from cbw.core import catalogue, messages
from cbw.core.messages import Status
from cbw.core.worker.child_starts import START_RETRY_S, ChildStarts
from cbw.core.worker.events import (
    AnswersWentOn,
    HandlerCalled,
    PoolFact,
    PoolNotReady,
    PoolReady,
    TasksFinished,
    TasksReturned,
)
from cbw.errors import CbwError, NotReady, UsageError
from cbw.signals import end_of
from cbw.worker.child import UNTRACED, EndTask, ReopenTrace, TraceOptions
from cbw.worker.child_process import GUARD_ADVICE, Child, HeldTask, cannot_start
from cbw.worker.handler import Handler, cancelled
from cbw.worker.lifespan import LIFESPAN_CLOSE_S
from cbw.worker.pool import Owner, failing

LIFESPANS_CLOSE_S = LIFESPAN_CLOSE_S + 1.0
"""Longest time in seconds that children may take to close their lifespans before they are killed."""
OPENING_S = 1.0
"""Longest time in seconds that a child which is not ready yet may take to open its lifespans and to close them again."""


class ChildBounds(msgspec.Struct, frozen=True):
    """When a child is replaced: after ``tasks_max`` tasks, or with more than ``bytes_max`` bytes of memory; None: never."""

    tasks_max: int | None = None
    bytes_max: int | None = None


class ProcessPool:
    """A :class:`~cbw.worker.pool.Pool` of ``processes`` children with ``concurrency`` each.

    Fewer children are started if it ``is_unwanted`` meanwhile.

    Raises:
        UsageError, NotReady: as :class:`Child`.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        processes: int,
        concurrency: int,
        owner: Owner,
        trace: TraceOptions = UNTRACED,
        is_unwanted: Callable[[], bool] = lambda: False,
        bounds: ChildBounds = ChildBounds(),  # noqa: B008 - frozen
    ) -> None:
        self.make_child: Callable[[], Child] = partial(Child, handlers, concurrency, trace)
        self.children: list[Child] = []  # one in each slot; a dead one until it is replaced
        self.is_closed = threading.Event()
        self.replaced = 0  # children that were ended between two tasks, to be replaced
        self._bounds = bounds
        self._starts = ChildStarts()
        self._handlers = handlers
        self._has_lifespans = any(one.owner is not None and one.owner.opens is not None for one in handlers.values())
        self._concurrency = concurrency
        self._owner = owner
        self._lock = threading.Lock()
        self._waiting: deque[HeldTask] = deque()
        self._has_been_ready = False
        self._was_ready = False
        self._supervisors: list[threading.Thread] = []
        owner.report(PoolNotReady())
        try:
            while len(self.children) < processes and not is_unwanted():
                self.children.append(self.make_child())
            for slot in range(len(self.children)):
                supervisor = threading.Thread(
                    target=self._supervise, args=(slot,), name=f"child {slot + 1}", daemon=True
                )
                supervisor.start()
                self._supervisors.append(supervisor)
        except BaseException as error:
            self.close()
            if isinstance(error, RuntimeError):  # no more threads
                raise cannot_start(error) from None
            raise

    def is_ready(self) -> bool:
        return any(child.is_ready for child in self.children)

    def begin(self, tasks: Sequence[messages.Task], *, inline: bool = False) -> None:
        now = time.monotonic()
        with self._lock:
            self._waiting.extend(HeldTask(task, now) for task in tasks)
            self._fill()

    def take_back(self, tasks: Iterable[int]) -> list[int] | None:
        wanted = set(tasks)
        is_asked = False
        with self._lock:
            back = self._take_waiting(wanted)
            for child in self.children:
                mine = [held for task, held in child.in_hand.items() if task in wanted]
                is_asked = is_asked or bool(mine)
                new = [held for held in mine if not held.is_wanted_back]
                for held in new:
                    held.is_wanted_back = True
                if new:
                    child.send([messages.Recall([held.task.id for held in new])])
        return back if back or not is_asked else None

    def cancel(self, task: int) -> None:
        """Unlike in other pools a plain function is stopped too, if its child runs nothing else: by ending the child. One that
        yields is closed at its next part.
        """
        with self._lock:
            if self._take_waiting({task}):
                self._owner.report(TasksFinished([cancelled(task)], 0.0))
            for child in self.children:
                if list(child.in_hand) == [task] and not self._handlers[child.in_hand[task].task.service].is_stream:
                    child.in_hand.clear()
                    child.kill()
                    self._owner.report(TasksFinished([cancelled(task)], 0.0))
                    self._report_readiness()
                elif task in child.in_hand:
                    child.send([messages.CancelTask(task)])

    def grant(self, task: int, parts: int) -> None:
        with self._lock:
            for held in self._waiting:
                if held.task.id == task and isinstance(held.task, messages.StreamTask):
                    held.task.parts = max(parts, held.task.parts)
            for child in self.children:
                if task in child.in_hand:
                    child.send([messages.PartsWanted(task, parts)])

    def end_overdue(self, task: int) -> messages.Answer | None:
        """The child is told, too: a coroutine can be cancelled there, and a function may see that it is."""
        with self._lock:
            for child in self.children:
                held = child.in_hand.pop(task, None)
                if held is not None:
                    child.overdue[task] = held.task
                    child.send([EndTask(task)])
                    return self._handlers[held.task.service].overdue(held.task, "")
        return None

    def tell_stuck(self, task: int) -> None:
        """Its child is ended, when it has nothing else to finish."""
        with self._lock:
            for child in self.children:
                if task in child.overdue:
                    when = f" when its {len(child.in_hand)} other tasks are" if child.in_hand else ""
                    text = f"its child process {child.process.pid} is ended{when}, and another started"
                    self._owner.record_event(catalogue.STUCK, text, child.overdue[task])
                    self._retire(child, "a handler has exceeded its time limit and has not ended")

    def tell_stood_still(self, for_s: float, *, is_busy: bool) -> None:
        text = f"for {for_s:.1f} s: the process was stopped, or had no processor"  # no handler runs in it
        self._owner.record_event(catalogue.STOOD_STILL, text)

    def stuck(self) -> list[dict[str, Any]]:
        return []  # their processes are ended

    def run_inline(self) -> bool:
        return False

    def wake_threads(self) -> None:
        """Nothing to do: the children work anyway."""

    def reopen_trace(self) -> None:
        for child in list(
            self.children
        ):  # without the lock: a signal handler may have interrupted the thread that has it
            child.send([ReopenTrace()])

    def close(self) -> None:
        with self._lock:
            self.is_closed.set()
            for child in self.children:
                if self._has_lifespans:
                    child.end()
                else:
                    child.kill()
        closed_at = time.monotonic()
        if not all(child.has_been_ready for child in self.children):
            self._join_until(closed_at + OPENING_S)
            self._kill(lambda child: not child.has_been_ready)
        self._join_until(closed_at + LIFESPANS_CLOSE_S)
        self._kill(lambda _child: True)
        for supervisor in self._supervisors:
            supervisor.join()
        for child in self.children:
            child.mark_dead()

    def _join_until(self, until: float) -> None:
        for supervisor in self._supervisors:
            supervisor.join(max(0.0, until - time.monotonic()))

    def _kill(self, is_meant: Callable[[Child], bool]) -> None:
        with self._lock:
            for child in filter(is_meant, self.children):
                child.kill()

    # --- who gets which task; the caller has the lock

    def _take_waiting(self, wanted: set[int]) -> list[int]:
        """The ``wanted`` tasks that no child has been given."""
        back = [held.task.id for held in self._waiting if held.task.id in wanted]
        self._waiting = deque(held for held in self._waiting if held.task.id not in wanted)
        return back

    def _fill(self) -> None:
        """Give waiting tasks to children with room, in equal shares; or back, if no child is ready."""
        ready = [child for child in self.children if child.is_ready]
        if self._waiting and not ready:
            self._owner.report(TasksReturned([held.task.id for held in self._waiting]))
            self._waiting.clear()
        free = [child for child in ready if child.busy_slots < self._concurrency]
        while free and self._waiting:
            share = -(-len(self._waiting) // len(free))
            child = free.pop()
            if self._bounds.tasks_max is not None:
                share = min(share, self._bounds.tasks_max - child.given)
            child.give([self._waiting.popleft() for _ in range(share)])
            if child.given == self._bounds.tasks_max:
                child.retires_because = f"it has had {child.given} tasks (--max-tasks-per-child)"
                self._report_readiness()
        if free:
            self._ask_back(len(free))

    def _ask_back(self, idle: int) -> None:
        """Nothing waits for ``idle`` children that have room: ask the others for a share of what they cannot run yet."""
        for child in self.children:
            prefetched = list(child.in_hand)[self._concurrency :]
            if prefetched and not child.is_asked:
                child.is_asked = True
                share = -(-len(prefetched) * idle // (idle + 1))
                child.send([messages.Recall(prefetched[-share:])])

    def _put_back(self, tasks: Sequence[HeldTask]) -> list[int]:
        """What a child has not begun waits for another child, except what the broker wants back, which is returned."""
        self._waiting.extendleft(held for held in reversed(tasks) if not held.is_wanted_back)
        return [held.task.id for held in tasks if held.is_wanted_back]

    def _retire(self, child: Child, why: str) -> None:
        child.retire(why)
        self._end_if_idle(child)
        self._report_readiness()

    def _end_if_idle(self, child: Child) -> None:
        """End ``child``, which is to be replaced, if it has nothing to finish any more."""
        if not child.in_hand and not child.is_ending:
            child.end()
            self.replaced += 1
            self._owner.record_event(catalogue.CHILD_REPLACED, f"process {child.process.pid}: {child.retires_because}")

    def _is_too_big(self, child: Child) -> bool:
        bytes_max = self._bounds.bytes_max
        return bytes_max is not None and child.resident_bytes > bytes_max

    def _report_readiness(self) -> None:
        if self.is_ready() is not self._was_ready:
            self._was_ready = not self._was_ready
            self._owner.report(PoolReady() if self._was_ready else PoolNotReady())

    # --- in the thread that supervises the child in one slot

    def _supervise(self, slot: int) -> None:
        """Pass on what the child in ``slot`` reports, and replace it when it has ended, until the pool is closed."""
        with failing(self._owner):
            child: Child | None = self.children[slot]
            while child is not None:
                with contextlib.suppress(EOFError):
                    while True:
                        self._take_in(child, child.read())
                self._tell_losses(child)
                child = self._replace(slot, child)

    def _take_in(self, child: Child, fact: PoolFact | None) -> None:
        """What ``child`` has reported."""
        with self._lock:
            match fact:
                case None:
                    child.has_been_ready = self._has_been_ready = True
                    self._starts.succeeded()
                    self._report_readiness()
                case HandlerCalled():
                    if fact.task in child.in_hand:
                        self._owner.report(fact)
                case AnswersWentOn():
                    self._owner.report(fact)
                case TasksFinished():
                    mine = [answer for answer in fact.answers if _take(child, answer.id)]
                    if mine:
                        self._owner.report(TasksFinished(mine, fact.busy_s, fact.took))
                    if not child.retires_because and self._is_too_big(child):
                        child.retire(f"it takes more than {self._bounds.bytes_max} bytes (--max-memory-per-child)")
                        self._report_readiness()
                case TasksReturned():
                    child.is_asked = False
                    held = [child.in_hand.pop(task) for task in fact.tasks if task in child.in_hand]
                    child.given -= len(held)
                    self._return(held)
            if child.retires_because:
                self._end_if_idle(child)
            self._fill()

    def _return(self, tasks: Sequence[HeldTask]) -> None:
        """Report those of ``tasks``, which no child has begun, that the broker wants back. The caller has the lock."""
        if wanted_back := self._put_back(tasks):
            self._owner.report(TasksReturned(wanted_back))

    def _tell_losses(self, dead: Child) -> None:
        """``dead`` has ended: report what it took with it, and give what it had not begun to others.

        Raises:
            UsageError, NotReady: no child of this pool was ever ready, so the next one would fare no better.
        """
        with self._lock:
            dead.is_ending = True
            held, dead.in_hand = [*dead.in_hand.values()], {}
        code = dead.wait()
        end = f"the handler's process {end_of(code)}"
        why = messages.error_body("crashed", end)
        with self._lock:
            lost = [messages.Answer(one.task.id, Status.CRASHED, why) for one in held if dead.has_begun(one)]
            lost += [messages.Answer(task, Status.CRASHED, why) for task in dead.overdue]
            dead.overdue = {}
            if lost:
                self._owner.report(TasksFinished(lost, 0.0))
            self._return([one for one in held if not dead.has_begun(one)])
            self._report_readiness()
            self._fill()
            # SIGKILL would be the system's doing, for want of memory, and says nothing about the program.
            is_hopeless = not self._has_been_ready and code != -signal.SIGKILL
            is_news = not dead.has_been_ready and self._starts.failed(time.monotonic())
        if self.is_closed.is_set():
            return
        if is_hopeless:
            if code == NotReady.exit_code:
                raise NotReady(f"{end} before it was ready", advice="See what it printed.")
            raise UsageError(f"{end} before it was ready", advice=f"See what it printed. {GUARD_ADVICE}")
        if is_news:
            self._owner.record_event(catalogue.NOT_REPLACED, f"{end} before it was ready")

    def _replace(self, slot: int, dead: Child) -> Child | None:
        """Start another child in the place of ``dead``, however long that takes; None: the pool is closed.

        Raises:
            UsageError: it cannot be started, and no other child is left that could work.
        """
        said = ""
        while self._wait_for_turn():
            try:
                replacement = self.make_child()
            except (NotReady, UsageError) as error:
                if isinstance(error, UsageError) and self._is_last(slot):
                    raise
                if said != (said := _explained(error)):
                    self._owner.record_event(catalogue.NOT_REPLACED, said)
                with self._lock:
                    self._starts.failed(time.monotonic())
                continue
            with self._lock:
                is_wanted = not self.is_closed.is_set()
                if is_wanted:
                    self.children[slot] = replacement
            if not is_wanted:
                replacement.kill()
                replacement.mark_dead()
                return None
            dead.mark_dead()
            return replacement
        return None

    def _wait_for_turn(self) -> bool:
        """Wait until another child may be started; whether one is to be, as the pool is not closed."""
        while not self.is_closed.is_set():
            with self._lock:
                wait_s = self._starts.take_turn(time.monotonic())
            if not wait_s:
                return True
            self.is_closed.wait(min(wait_s, START_RETRY_S))  # another slot may have better luck
        return False

    def _is_last(self, slot: int) -> bool:
        """Whether the children in all other slots have ended, too."""
        with self._lock:
            return all(child.is_ending for other, child in enumerate(self.children) if other != slot)


def _take(child: Child, task: int) -> bool:
    """Take ``task``, which has ended, out of the hand of ``child``; whether it was there."""
    return child.in_hand.pop(task, None) is not None or child.overdue.pop(task, None) is not None


def _explained(error: CbwError) -> str:
    return f"{error}. {error.advice}" if error.advice else str(error)
