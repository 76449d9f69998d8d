"""Handlers in child processes: they may crash, or hold the GIL for as long as they like.

Each child runs a pool of its own and is fed over a pipe. Two threads here belong to each: one writes its orders, as a child
that holds the GIL does not read its pipe, and whoever has the worker's socket must not wait for that; the other reads its
answers. A child that dies takes the attempts that it held with it, and only those; another is started in its place.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from cbw.core import messages as m
from cbw.core.messages import Status
from cbw.errors import NotReady, UsageError
from cbw.handler import Handler, cancelled
from cbw.pool import Done, make_pool, watcher
from cbw.trace import LogTarget, Trace

RESTART_S = 0.5
"""A child that died before it was ready, or cannot be started, is not started again sooner."""
Traced = tuple[str, str | None, LogTarget | None]
"""What a child's trace is made of: the worker's id, the trace file, the logger."""
_spawn = multiprocessing.get_context("spawn")
_encode = msgspec.msgpack.encode
_decode_orders = msgspec.msgpack.Decoder(list[m.Task | m.CancelTask]).decode
_decode_done = msgspec.msgpack.Decoder(tuple[list[m.Answer], float]).decode


class _Child:
    """One child process, the tasks it holds, and our end of its pipe.

    Raises:
        UsageError: the handlers cannot go to another process.
        NotReady: the system starts no more processes.
    """

    def __init__(self, handlers: Mapping[str, Handler], concurrency: int, trace: Traced | None) -> None:
        self.pipe, theirs = _spawn.Pipe()
        self.in_hand: dict[int, None] = {}
        self.is_ready = False
        self.is_ending = False
        self._orders: queue.SimpleQueue[Sequence[m.Task | m.CancelTask]] = queue.SimpleQueue()
        functions = {handler.service: handler.function for handler in handlers.values()}
        self.process = _spawn.Process(target=_serve, args=(functions, concurrency, theirs, trace), daemon=True)
        try:
            self.process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            advice = "Define it with def, at the top level of a module that can be imported."
            raise UsageError(f"a handler cannot go to a child process: {error}", advice=advice) from None
        except OSError as error:
            text = f"a child process cannot be started: {error.strerror}"
            raise NotReady(text, advice="Give a lower --processes, or look at ulimit -u and -n.") from None
        finally:
            theirs.close()
        threading.Thread(target=self._write, name=f"to child {self.process.pid}", daemon=True).start()

    def send(self, orders: Sequence[m.Task | m.CancelTask]) -> None:
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
    """A :class:`~cbw.pool.Pool` of ``processes`` children with ``concurrency`` each."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        processes: int,
        concurrency: int,
        done: Done,
        notify: Callable[[], None],
        trace: Traced | None = None,
    ) -> None:
        self._make_child: Callable[[], _Child] = partial(_Child, handlers, concurrency, trace)
        self._concurrency = concurrency
        self._done = done
        self._notify = notify
        self._lock = threading.Lock()
        self._waiting: deque[tuple[m.Task, float]] = deque()  # with the times at which they came
        self._is_closed = threading.Event()
        self._children: list[_Child] = []
        try:
            for _ in range(processes):
                self._children.append(self._make_child())
        except BaseException:
            self._end()
            raise
        self._readers = [
            threading.Thread(target=self._read, args=(place,), name=f"child {place + 1}", daemon=True)
            for place in range(processes)
        ]
        for reader in self._readers:
            reader.start()

    def begin(self, tasks: Sequence[m.Task], *, is_here: bool = False) -> None:
        with self._lock:
            self._waiting.extend(zip(tasks, repeat(time.monotonic())))
            self._fill()

    def take_back(self, tasks: Iterable[int]) -> list[int]:
        wanted = set(tasks)
        with self._lock:
            back = [task.id for task, _ in self._waiting if task.id in wanted]
            self._waiting = deque(waiting for waiting in self._waiting if waiting[0].id not in wanted)
        return back

    def cancel(self, task: int) -> None:
        """Unlike in other pools a plain function is stopped too, if its child runs nothing else: by ending the child."""
        if self.take_back([task]):
            self._done.put(([cancelled(task)], 0.0))
            self._notify()
            return
        with self._lock:
            for child in self._children:
                if list(child.in_hand) == [task]:
                    child.in_hand.clear()
                    child.kill()
                    self._done.put(([cancelled(task)], 0.0))
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

    def _fill(self) -> None:
        """Give waiting tasks to children with room, in equal shares. The caller has the lock."""
        free = [child for child in self._children if len(child.in_hand) < self._concurrency and not child.is_ending]
        while free and self._waiting:
            share = -(-len(self._waiting) // len(free))
            child = free.pop()
            tasks = [_with_time_left(*self._waiting.popleft()) for _ in range(share)]
            child.in_hand.update(dict.fromkeys(task.id for task in tasks))
            child.send(tasks)

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
            child.is_ready = True
            if not data:
                continue
            answers, busy_s = _decode_done(data)
            with self._lock:
                mine = [answer for answer in answers if answer.id in child.in_hand]
                for answer in mine:
                    del child.in_hand[answer.id]
                self._fill()
            self._done.put((mine, busy_s))
            self._notify()

    def _replace(self, place: int, dead: _Child) -> _Child | None:
        """Tell what ``dead`` took with it, and start another in its place; None: the pool is closed."""
        with self._lock:
            dead.is_ending = True
            lost, dead.in_hand = dead.in_hand, {}
        dead.process.join()
        if lost:
            why = m.error_body("crashed", f"the handler's process {_end_of(dead.process.exitcode)}")
            self._done.put(([m.Answer(task, Status.CRASHED, why) for task in lost], 0.0))
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
                self._fill()
            dead.bury()
            return heir
        return None


def _with_time_left(task: m.Task, received_at: float) -> m.Task:
    """``task`` for a child, which counts from when it gets it."""
    if task.ttl is not None:
        task.ttl -= time.monotonic() - received_at
    return task


def _end_of(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"exited with {code}"


# --- in the child


def _serve(functions: dict[str, Callable[..., Any]], concurrency: int, pipe: Connection, trace: Traced | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; our parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    watch = None
    if trace is not None:
        name, path, log = trace
        watch = watcher(name, Trace(path, is_printing=False, name=name, log=log).write)
    handlers = {name: Handler(name, function) for name, function in functions.items()}
    done: Done = queue.SimpleQueue()
    pool = make_pool(handlers, concurrency, done, lambda: None, watch)
    threading.Thread(target=_report, args=(done, pipe), daemon=True).start()
    try:
        pipe.send_bytes(b"")
        while True:
            orders = _decode_orders(pipe.recv_bytes())
            tasks = [order for order in orders if isinstance(order, m.Task)]
            if tasks:
                pool.begin(tasks)
            for order in orders:
                if isinstance(order, m.CancelTask):
                    pool.cancel(order.id)
    except (EOFError, OSError):
        os._exit(0)  # our parent is gone


def _report(done: Done, pipe: Connection) -> None:
    try:
        while True:
            pipe.send_bytes(_encode(done.get()))
    except OSError:
        os._exit(0)
