"""Handlers in child processes: they may crash, or hold the GIL for as long as they like.

Each child runs a pool of its own and is fed over a pipe. Two threads here belong to each: one writes its orders, as a child
that holds the GIL does not read its pipe, and whoever has the worker's socket must not wait for that; the other reads its
answers. A child that dies takes the attempts that it had begun with it, and only those; another is started in its place.

A child is given work ahead, as a worker is by the broker, and asked back for it when another has none: that takes a child
that reads its pipe. One that holds the GIL gives nothing back until it lets go.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from cbw.core import messages as m
from cbw.core.messages import Status
from cbw.errors import NotReady, UsageError
from cbw.handler import Handler, cancelled
from cbw.pool import Done, Report, Watch, make_pool, watcher
from cbw.signals import STOP_SIGNALS, end_of
from cbw.trace import LogTarget, Trace

RESTART_S = 0.5
"""A child that died before it was ready, or cannot be started, is not started again sooner."""
GUARD_ADVICE = 'Write if __name__ == "__main__": before worker.run(): the children import the program again.'
Traced = tuple[str, str | None, LogTarget | None]
"""What a child's trace is made of: the worker's id, the trace file, the logger."""
Order = m.Task | m.Recall | m.CancelTask
_spawn = multiprocessing.get_context("spawn")
_encode = msgspec.msgpack.Encoder(enc_hook=bytes).encode  # for subclasses of bytes, which handlers may return
_decode_orders = msgspec.msgpack.Decoder(list[Order]).decode
_decode_report = msgspec.msgpack.Decoder(Report).decode


@dataclass(slots=True)
class _Held:
    """A task that waits here or is in a child's hand."""

    task: m.Task
    counts_from: float  # when its time to live began to run
    number: int = 0  # among all that its child has been given, which begins them in this order
    is_wanted_back: bool = False  # by the broker

    def for_child(self) -> m.Task:
        """The task for a child, which counts from when it gets it."""
        now = time.monotonic()
        if self.task.ttl is not None:
            self.task.ttl -= now - self.counts_from
        self.counts_from = now
        return self.task


class _Child:
    """One child process, the tasks it holds, and our end of its pipe.

    Raises:
        UsageError: the handlers cannot go to another process, or this one may not start any.
        NotReady: the system starts no more processes.
    """

    def __init__(self, handlers: Mapping[str, Handler], concurrency: int, trace: Traced | None) -> None:
        try:
            self.pipe, theirs = _spawn.Pipe()
            self._begun = _spawn.RawValue(ctypes.c_uint64)  # shared, so that it is known when the child is dead
        except OSError as error:
            raise _cannot_start(error) from None
        self.in_hand: dict[int, _Held] = {}
        self.is_ready = False
        self.is_ending = False
        self.is_asked = False  # for what it has not begun, because another has nothing to do
        self._orders: queue.SimpleQueue[Sequence[Order]] = queue.SimpleQueue()
        self._given = 0
        functions = {handler.service: handler.function for handler in handlers.values()}
        self.process = _spawn.Process(
            target=_serve, args=(functions, concurrency, theirs, self._begun, trace), daemon=True
        )
        # Ours are blocked in it from its first moment, until it has handlers for them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            self.process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            advice = "Define it with def, at the top level of a module that can be imported."
            raise UsageError(f"a handler cannot go to a child process: {error}", advice=advice) from None
        except (RuntimeError, AssertionError):  # how multiprocessing says that this is such a child itself, or a daemon
            text = "a process that multiprocessing has just started, or as a daemon, may not start others"
            raise UsageError(text, advice=GUARD_ADVICE) from None
        except OSError as error:
            raise _cannot_start(error) from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        threading.Thread(target=self._write, name=f"to child {self.process.pid}", daemon=True).start()

    @property
    def is_able(self) -> bool:
        """Whether it can be given tasks."""
        return self.is_ready and not self.is_ending

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

    def send(self, orders: Sequence[Order]) -> None:
        """Returns at once."""
        self._orders.put(orders)

    def kill(self) -> None:
        """End it, with what it holds."""
        self.is_ending = True
        self.process.kill()

    def bury(self) -> None:
        """It has ended, or is about to: give everything back."""
        self.process.join()
        self.send([])
        self.pipe.close()
        self.process.close()

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # it died: its reader sees that
            while orders := self._orders.get():
                self.pipe.send_bytes(_encode(orders))


class ProcessPool:
    """A :class:`~cbw.pool.Pool` of ``processes`` children with ``concurrency`` each; fewer, if it ``is_unwanted`` meanwhile."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        processes: int,
        concurrency: int,
        done: Done,
        notify: Callable[[], None],
        trace: Traced | None = None,
        is_unwanted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._make_child: Callable[[], _Child] = partial(_Child, handlers, concurrency, trace)
        self._concurrency = concurrency
        self._done = done
        self._notify = notify
        self._lock = threading.Lock()
        self._waiting: deque[_Held] = deque()
        self._has_been_able = False
        self._problem: UsageError | None = None
        self._is_closed = threading.Event()
        self._children: list[_Child] = []
        try:
            while len(self._children) < processes and not is_unwanted():
                self._children.append(self._make_child())
        except BaseException:
            self._end()
            raise
        self._readers = [
            threading.Thread(target=self._read, args=(place,), name=f"child {place + 1}", daemon=True)
            for place in range(len(self._children))
        ]
        for reader in self._readers:
            reader.start()

    def is_able(self) -> bool:
        if self._problem is not None:
            raise self._problem
        return any(child.is_able for child in self._children)

    def begin(self, tasks: Sequence[m.Task], *, is_here: bool = False) -> None:
        now = time.monotonic()
        with self._lock:
            self._waiting.extend(_Held(task, now) for task in tasks)
            self._fill()

    def take_back(self, tasks: Iterable[int]) -> list[int] | None:
        wanted = set(tasks)
        is_asked = False
        with self._lock:
            back = self._take_waiting(wanted)
            for child in self._children:
                mine = [held for task, held in child.in_hand.items() if task in wanted]
                is_asked = is_asked or bool(mine)
                new = [held for held in mine if not held.is_wanted_back]
                for held in new:
                    held.is_wanted_back = True
                if new:
                    child.send([m.Recall([held.task.id for held in new])])
        return back if back or not is_asked else None

    def cancel(self, task: int) -> None:
        """Unlike in other pools a plain function is stopped too, if its child runs nothing else: by ending the child."""
        with self._lock:
            if self._take_waiting({task}):
                self._done.put(Report([cancelled(task)]))
            for child in self._children:
                if list(child.in_hand) == [task]:
                    child.in_hand.clear()
                    child.kill()
                    self._done.put(Report([cancelled(task)]))
                elif task in child.in_hand:
                    child.send([m.CancelTask(task)])
        self._notify()

    def work_here(self) -> bool:
        return False

    def go_on(self) -> None:
        """Nothing to do: the children work anyway."""

    def close(self) -> None:
        with self._lock:
            self._is_closed.set()
            for child in self._children:
                child.kill()
        for reader in self._readers:
            reader.join()
        self._end()

    # --- inside

    def _end(self) -> None:
        for child in self._children:
            child.kill()
            child.bury()

    def _take_waiting(self, wanted: set[int]) -> list[int]:
        """Those of ``wanted`` that no child has been given. The caller has the lock."""
        back = [held.task.id for held in self._waiting if held.task.id in wanted]
        self._waiting = deque(held for held in self._waiting if held.task.id not in wanted)
        return back

    def _fill(self) -> None:
        """Give waiting tasks to children with room, in equal shares; back, if no child is able. The caller has the lock."""
        able = [child for child in self._children if child.is_able]
        if self._waiting and not able:
            self._done.put(Report(returned=[held.task.id for held in self._waiting]))
            self._waiting.clear()
        free = [child for child in able if len(child.in_hand) < self._concurrency]
        while free and self._waiting:
            share = -(-len(self._waiting) // len(free))
            child = free.pop()
            child.give([self._waiting.popleft() for _ in range(share)])
        if free:
            self._ask_back(len(free))

    def _ask_back(self, idle: int) -> None:
        """So many children have room, and nothing waits: others may have more than they can run. The caller has the lock."""
        for child in self._children:
            ahead = list(child.in_hand)[self._concurrency :]
            if ahead and not child.is_asked:
                child.is_asked = True
                share = -(-len(ahead) * idle // (idle + 1))
                child.send([m.Recall(ahead[-share:])])

    def _read(self, place: int) -> None:
        child = self._children[place]
        while True:
            try:
                data = child.pipe.recv_bytes()
            except (EOFError, OSError):
                heir = self._replace(place, child)
                if heir is None:
                    return
                child = heir
                continue
            report = _decode_report(data) if data else None
            with self._lock:
                if report is None:  # its first word
                    child.is_ready = self._has_been_able = True
                self._done.put(Report() if report is None else self._heard(child, report))
                self._fill()
            self._notify()

    def _heard(self, child: _Child, report: Report) -> Report:
        """What is to be told of a child's report. The caller has the lock."""
        mine = [answer for answer in report.answers if child.in_hand.pop(answer.id, None) is not None]
        back = [held for held in (child.in_hand.pop(task, None) for task in report.returned or ()) if held is not None]
        if report.returned is not None:
            child.is_asked = False
        return Report(mine, report.busy_s, self._put_back(back))

    def _put_back(self, tasks: Sequence[_Held]) -> list[int] | None:
        """What a child has not begun waits for another, but for what the broker wants back. The caller has the lock."""
        self._waiting.extendleft(held for held in reversed(tasks) if not held.is_wanted_back)
        return [held.task.id for held in tasks if held.is_wanted_back] or None

    def _replace(self, place: int, dead: _Child) -> _Child | None:
        """Tell what ``dead`` took with it, and start another in its place; None: the pool is closed."""
        with self._lock:
            dead.is_ending = True
            held, dead.in_hand = [*dead.in_hand.values()], {}
        dead.process.join()
        code = dead.process.exitcode
        end = f"the handler's process {end_of(code)}"
        why = m.error_body("crashed", end)
        with self._lock:
            if not self._has_been_able and code != -signal.SIGKILL:  # which would be the system's doing
                self._problem = UsageError(f"{end} before it was ready", advice=f"See what it printed. {GUARD_ADVICE}")
            lost = [m.Answer(one.task.id, Status.CRASHED, why) for one in held if dead.has_begun(one)]
            self._done.put(Report(lost, 0.0, self._put_back([one for one in held if not dead.has_begun(one)])))
            self._fill()
        self._notify()
        if not dead.is_ready:
            self._is_closed.wait(RESTART_S)
        while not self._is_closed.is_set():
            try:
                heir = self._make_child()
            except NotReady:
                self._is_closed.wait(RESTART_S)
                continue
            with self._lock:
                if self._is_closed.is_set():
                    heir.kill()
                    heir.bury()
                    return None
                self._children[place] = heir
            dead.bury()
            return heir
        return None


def _cannot_start(error: OSError) -> NotReady:
    text = f"a child process cannot be started: {error.strerror}"
    return NotReady(text, advice="Give a lower --processes, or look at ulimit -u and -n.")


# --- in the child


def _serve(
    functions: dict[str, Callable[..., Any]], concurrency: int, pipe: Connection, begun: Any, trace: Traced | None
) -> None:
    # Ctrl-C, `timeout` and service managers tell the whole group; our parent decides. (To ignore is inherited by programs
    # that a handler starts, to handle is not.)
    for number in STOP_SIGNALS:
        signal.signal(number, lambda _number, _frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    _keep(pipe)
    numbers: dict[int, int] = {}  # of the tasks that are here
    lock = threading.Lock()
    record = _recorder(trace)

    def watch(task: m.Task, answer: m.Answer | None) -> None:
        if answer is None:
            with lock:
                begun.value = max(begun.value, numbers[task.id])
        if record is not None:
            record(task, answer)

    handlers = {name: Handler(name, function) for name, function in functions.items()}
    done: Done = queue.SimpleQueue()
    pool = make_pool(handlers, concurrency, done, lambda: None, watch)
    threading.Thread(target=_report, args=(done, pipe, numbers), daemon=True).start()
    given = 0
    try:
        pipe.send_bytes(b"")
        while True:
            orders = _decode_orders(pipe.recv_bytes())
            tasks = [order for order in orders if isinstance(order, m.Task)]
            if tasks:
                numbers.update((task.id, number) for number, task in enumerate(tasks, given + 1))
                given += len(tasks)
                pool.begin(tasks)
            for order in orders:
                if isinstance(order, m.CancelTask):
                    pool.cancel(order.id)
                elif isinstance(order, m.Recall):
                    done.put(Report(returned=pool.take_back(order.tasks)))
    except (EOFError, OSError):
        os._exit(0)  # our parent is gone


def _keep(pipe: Connection) -> None:
    """See to it that no process that a handler starts has the pipe too: our parent knows by its end that we have ended."""
    os.set_inheritable(pipe.fileno(), False)
    os.register_at_fork(after_in_child=pipe.close)


def _recorder(trace: Traced | None) -> Watch | None:
    if trace is None:
        return None
    name, path, log = trace
    return watcher(name, Trace(path, is_printing=False, name=name, log=log).write)


def _report(done: Done, pipe: Connection, numbers: dict[int, int]) -> None:
    try:
        while True:
            report = done.get()
            for task in (*(answer.id for answer in report.answers), *(report.returned or ())):
                numbers.pop(task, None)
            pipe.send_bytes(_encode(report))
    except OSError:
        os._exit(0)
