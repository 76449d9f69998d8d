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
import ctypes
import multiprocessing
import pickle
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from cbw.core import catalogue, messages
from cbw.core.messages import Status
from cbw.core.worker.events import PoolFact, PoolNotReady, PoolReady, TasksFinished, TasksReturned
from cbw.errors import CbwError, NotReady, UsageError
from cbw.signals import STOP_SIGNALS, end_of
from cbw.worker.child import UNTRACED, ChildOrder, TraceOptions, decode_fact, encode_to_pipe, serve_tasks
from cbw.worker.handler import Handler, cancelled
from cbw.worker.lifespan import LIFESPAN_CLOSE_S
from cbw.worker.pool import Owner, failing

REPLACE_RETRY_S = 0.5
"""Seconds between two tries to start a child in the place of one that died before it was ready, or that could not be
replaced: to start one takes most of a core for about 0.2 s."""
EXIT_S = 1.0
"""Longest time in seconds for which a child whose pipe has ended may run on before it is killed: Python waits at its end for
threads that a handler may have started."""
LIFESPANS_CLOSE_S = LIFESPAN_CLOSE_S + 1.0
"""Longest time in seconds that children may take to close their lifespans before they are killed."""
GUARD_ADVICE = 'Write if __name__ == "__main__": before worker.run(): the children import the program again.'
_spawn = multiprocessing.get_context("spawn")


@dataclass(slots=True)
class _Held:
    """A task that waits here or that a child holds."""

    task: messages.Task
    counts_from: float  # when its time to live began to run
    number: int = 0  # among all that its child has been given, which begins them in this order
    is_wanted_back: bool = False  # by the broker

    def for_child(self) -> messages.Task:
        """The task for a child, which counts its time to live from when it gets it."""
        now = time.monotonic()
        if self.task.ttl is not None:
            self.task.ttl -= now - self.counts_from
        self.counts_from = now
        return self.task


class Child:
    """One child process, the tasks that it holds, and the parent's end of its pipe.

    Raises:
        UsageError: the handlers cannot be sent to another process, or this process may not start any.
        NotReady: the system has no processes, threads or descriptors left.
    """

    def __init__(self, handlers: Mapping[str, Handler], concurrency: int, trace: TraceOptions) -> None:
        try:
            self.pipe, theirs = _spawn.Pipe()
            self._begun = _spawn.RawValue(ctypes.c_uint64)  # shared, so that it is known when the child is dead
        except OSError as error:
            raise _cannot_start(error) from None
        self.in_hand: dict[int, _Held] = {}
        self.has_been_ready = False  # it was ready once
        self.is_ending = False
        self.is_asked = False  # for tasks that it has not begun, because another child has nothing to do
        self._orders: queue.SimpleQueue[Sequence[ChildOrder]] = queue.SimpleQueue()
        self._given = 0
        services = {handler.service: (handler.function, handler.retrying) for handler in handlers.values()}
        self.process = _spawn.Process(
            target=serve_tasks, args=(services, concurrency, theirs, self._begun, trace), daemon=True
        )
        # The signals are blocked in the child from its first moment, until it has handlers for them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            self.process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            advice = "Define it with def, at the top level of a module that can be imported."
            raise UsageError(f"a handler cannot go to a child process: {error}", advice=advice) from None
        except (
            RuntimeError,
            AssertionError,
        ):  # multiprocessing: this is a child itself that has just started, or a daemon
            text = "a process that multiprocessing has just started, or as a daemon, may not start others"
            raise UsageError(text, advice=GUARD_ADVICE) from None
        except OSError as error:
            raise _cannot_start(error) from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        try:
            threading.Thread(target=self._write, name=f"to child {self.process.pid}", daemon=True).start()
        except RuntimeError as error:  # no more threads
            self.kill()
            self.mark_dead()
            raise _cannot_start(error) from None

    @property
    def is_ready(self) -> bool:
        """Whether it can be given tasks."""
        return self.has_been_ready and not self.is_ending

    def give(self, tasks: Sequence[_Held]) -> None:
        """Have it run these."""
        for held in tasks:
            self._given += 1
            held.number = self._given
            self.in_hand[held.task.id] = held
        self.send([held.for_child() for held in tasks])

    def has_begun(self, held: _Held) -> bool:
        """Whether it may have begun that task: it was given it, and is dead."""
        return held.number <= int(self._begun.value)

    def send(self, orders: Sequence[ChildOrder]) -> None:
        """Have these orders written. Returns at once."""
        self._orders.put(orders)

    def read(self) -> PoolFact | None:
        """The next fact that it reports; None: it says that it is ready.

        Raises:
            EOFError: it has ended, or was killed because it said what is no fact.
        """
        try:
            data = self.pipe.recv_bytes()
            return decode_fact(data) if data else None
        except OSError as error:
            raise EOFError(str(error)) from None
        except msgspec.DecodeError as error:  # a handler may write to any descriptor of its process
            self.kill()
            raise EOFError(str(error)) from None

    def end(self) -> None:
        """Have it close its lifespans and end."""
        self.is_ending = True
        self.send([])

    def kill(self) -> None:
        """End it, with what it holds."""
        self.is_ending = True
        self.process.kill()

    def wait(self) -> int | None:
        """Wait until it has ended; its exit code."""
        self.process.join(EXIT_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        return self.process.exitcode

    def mark_dead(self) -> None:
        """It has ended, or is about to: give its descriptors and its thread back."""
        self.process.join()
        self.send([])
        self.pipe.close()
        self.process.close()

    def _write(self) -> None:
        try:
            is_over = False
            while not is_over:
                orders = self._orders.get()
                self.pipe.send_bytes(encode_to_pipe(orders))
                is_over = not orders
        except OSError:
            pass  # it died: its supervisor sees that
        except Exception:  # it will get no more orders, so it must not live on
            with contextlib.suppress(ValueError):  # it is dead and forgotten
                self.process.kill()


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
    ) -> None:
        self.make_child: Callable[[], Child] = partial(Child, handlers, concurrency, trace)
        self.children: list[Child] = []  # one in each slot; a dead one until it is replaced
        self.is_closed = threading.Event()
        self._has_lifespans = any(one.owner is not None and one.owner.opens is not None for one in handlers.values())
        self._concurrency = concurrency
        self._owner = owner
        self._lock = threading.Lock()
        self._waiting: deque[_Held] = deque()
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
                raise _cannot_start(error) from None
            raise

    def is_ready(self) -> bool:
        return any(child.is_ready for child in self.children)

    def begin(self, tasks: Sequence[messages.Task], *, inline: bool = False) -> None:
        now = time.monotonic()
        with self._lock:
            self._waiting.extend(_Held(task, now) for task in tasks)
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
        """Unlike in other pools a plain function is stopped too, if its child runs nothing else: by ending the child."""
        with self._lock:
            if self._take_waiting({task}):
                self._owner.report(TasksFinished([cancelled(task)], 0.0))
            for child in self.children:
                if list(child.in_hand) == [task]:
                    child.in_hand.clear()
                    child.kill()
                    self._owner.report(TasksFinished([cancelled(task)], 0.0))
                    self._report_readiness()
                elif task in child.in_hand:
                    child.send([messages.CancelTask(task)])

    def run_inline(self) -> bool:
        return False

    def wake_threads(self) -> None:
        """Nothing to do: the children work anyway."""

    def close(self) -> None:
        with self._lock:
            self.is_closed.set()
            for child in self.children:
                if self._has_lifespans and child.is_ready:
                    child.end()
                else:
                    child.kill()
        patient_until = time.monotonic() + LIFESPANS_CLOSE_S
        for supervisor in self._supervisors:
            supervisor.join(max(0.0, patient_until - time.monotonic()))
        with self._lock:
            for child in self.children:
                child.kill()
        for supervisor in self._supervisors:
            supervisor.join()
        for child in self.children:
            child.mark_dead()

    # --- who gets which task; the caller has the lock

    def _take_waiting(self, wanted: set[int]) -> list[int]:
        """Those of ``wanted`` that no child has been given."""
        back = [held.task.id for held in self._waiting if held.task.id in wanted]
        self._waiting = deque(held for held in self._waiting if held.task.id not in wanted)
        return back

    def _fill(self) -> None:
        """Give waiting tasks to children with room, in equal shares; or back, if no child is ready."""
        ready = [child for child in self.children if child.is_ready]
        if self._waiting and not ready:
            self._owner.report(TasksReturned([held.task.id for held in self._waiting]))
            self._waiting.clear()
        free = [child for child in ready if len(child.in_hand) < self._concurrency]
        while free and self._waiting:
            share = -(-len(self._waiting) // len(free))
            child = free.pop()
            child.give([self._waiting.popleft() for _ in range(share)])
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

    def _put_back(self, tasks: Sequence[_Held]) -> list[int]:
        """What a child has not begun waits for another child, except what the broker wants back, which is returned."""
        self._waiting.extendleft(held for held in reversed(tasks) if not held.is_wanted_back)
        return [held.task.id for held in tasks if held.is_wanted_back]

    def _report_readiness(self) -> None:
        if self.is_ready() is not self._was_ready:
            self._was_ready = not self._was_ready
            self._owner.report(PoolReady() if self._was_ready else PoolNotReady())

    # --- in the thread that supervises the child in one slot

    def _supervise(self, slot: int) -> None:
        """Until the pool is closed: pass on what the child in ``slot`` reports, and replace it when it has ended."""
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
                    self._report_readiness()
                case TasksFinished():
                    mine = [answer for answer in fact.answers if child.in_hand.pop(answer.id, None) is not None]
                    if mine:
                        self._owner.report(TasksFinished(mine, fact.busy_s))
                case TasksReturned():
                    child.is_asked = False
                    held = (child.in_hand.pop(task, None) for task in fact.tasks)
                    self._return([one for one in held if one is not None])
            self._fill()

    def _return(self, tasks: Sequence[_Held]) -> None:
        """Report those of ``tasks``, which no child has begun, that the broker wants back. The caller has the lock."""
        if wanted_back := self._put_back(tasks):
            self._owner.report(TasksReturned(wanted_back))

    def _tell_losses(self, dead: Child) -> None:
        """``dead`` has ended: report what it took with it, and give what it had not begun to others.

        Raises:
            UsageError: no child of this pool was ever ready, so the next one would fare no better.
        """
        with self._lock:
            dead.is_ending = True
            held, dead.in_hand = [*dead.in_hand.values()], {}
        code = dead.wait()
        end = f"the handler's process {end_of(code)}"
        why = messages.error_body("crashed", end)
        with self._lock:
            lost = [messages.Answer(one.task.id, Status.CRASHED, why) for one in held if dead.has_begun(one)]
            if lost:
                self._owner.report(TasksFinished(lost, 0.0))
            self._return([one for one in held if not dead.has_begun(one)])
            self._report_readiness()
            self._fill()
        # SIGKILL would be the system's doing, for want of memory, and says nothing about the program.
        if not self._has_been_ready and not self.is_closed.is_set() and code != -signal.SIGKILL:
            raise UsageError(f"{end} before it was ready", advice=f"See what it printed. {GUARD_ADVICE}")

    def _replace(self, slot: int, dead: Child) -> Child | None:
        """Start another child in the place of ``dead``, however long that takes; None: the pool is closed.

        Raises:
            UsageError: it cannot be started, and no other child is left that could work.
        """
        if not dead.has_been_ready:
            self.is_closed.wait(REPLACE_RETRY_S)
        said = ""
        while not self.is_closed.is_set():
            try:
                replacement = self.make_child()
            except (NotReady, UsageError) as error:
                if isinstance(error, UsageError) and self._is_last(slot):
                    raise
                if said != (said := _explained(error)):
                    self._owner.record_event(catalogue.NOT_REPLACED, said)
                self.is_closed.wait(REPLACE_RETRY_S)
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

    def _is_last(self, slot: int) -> bool:
        """Whether the children in all other slots have ended, too."""
        with self._lock:
            return all(child.is_ending for other, child in enumerate(self.children) if other != slot)


def _explained(error: CbwError) -> str:
    return f"{error}. {error.advice}" if error.advice else str(error)


def _cannot_start(error: OSError | RuntimeError) -> NotReady:
    reason = error.strerror if isinstance(error, OSError) else error
    text = f"a child process cannot be started: {reason}"
    return NotReady(text, advice="Give a lower --processes, or look at ulimit -u and -n.")
