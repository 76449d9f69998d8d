"""Handlers in child processes: they may crash, or hold the GIL for as long as they like.

Each child runs a pool of its own and is fed over a pipe by :class:`ProcessPool`; one thread here reads each child's
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
from cbw.errors import UsageError
from cbw.handler import Handler, cancelled
from cbw.pool import Done, make_pool, watcher
from cbw.trace import LogTarget, Trace

RESTART_S = 0.5
"""A child that died before it was ready is not started again sooner."""
Traced = tuple[str, str | None, LogTarget | None]
"""What a child's trace is made of: the worker's id, the trace file, the logger."""
_spawn = multiprocessing.get_context("spawn")
_encode = msgspec.msgpack.encode
_decode_orders = msgspec.msgpack.Decoder(list[m.Task | m.CancelTask]).decode
_decode_done = msgspec.msgpack.Decoder(tuple[list[m.Answer], float]).decode


class _Child:
    """One child process, the tasks it holds, and our end of its pipe."""

    def __init__(self, handlers: Mapping[str, Handler], concurrency: int, trace: Traced | None) -> None:
        self.pipe, theirs = _spawn.Pipe()
        self.in_hand: dict[int, None] = {}
        self.is_ready = False
        functions = {handler.service: handler.function for handler in handlers.values()}
        self.process = _spawn.Process(target=_serve, args=(functions, concurrency, theirs, trace), daemon=True)
        try:
            self.process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            advice = "Define it with def, at the top level of a module that can be imported."
            raise UsageError(f"a handler cannot go to a child process: {error}", advice=advice) from None
        theirs.close()

    def send(self, orders: Sequence[m.Task | m.CancelTask]) -> None:
        with contextlib.suppress(OSError):  # it died: its reader sees that
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
        self._is_closed = False
        self._children = [self._make_child() for _ in range(processes)]
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
                    child.process.kill()
                    self._done.put(([cancelled(task)], 0.0))
                elif task in child.in_hand:
                    child.send([m.CancelTask(task)])
        self._notify()

    def work_here(self) -> bool:
        return False

    def go_on(self) -> None:
        """Nothing to do: the children work anyway."""

    def close(self) -> None:
        self._is_closed = True
        for child in self._children:
            child.process.kill()
        for reader in self._readers:
            reader.join()
        for child in self._children:
            child.process.join()
            child.process.close()

    # --- inside

    def _fill(self) -> None:
        """Give waiting tasks to children with room, in equal shares. The caller has the lock."""
        free = [child for child in self._children if len(child.in_hand) < self._concurrency]
        while free and self._waiting:
            share = -(-len(self._waiting) // len(free))
            child = free.pop()
            tasks = [_with_time_left(*self._waiting.popleft()) for _ in range(share)]
            child.in_hand.update(dict.fromkeys(task.id for task in tasks))
            child.send(tasks)

    def _read(self, place: int) -> None:
        while not self._is_closed:
            child = self._children[place]
            try:
                data = child.pipe.recv_bytes()
            except (EOFError, OSError):
                self._bury(place, child)
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

    def _bury(self, place: int, child: _Child) -> None:
        child.process.join()
        if self._is_closed:
            return
        if not child.is_ready:
            time.sleep(RESTART_S)
        why = m.error_body("crashed", f"the handler's process {_end_of(child.process.exitcode)}")
        child.pipe.close()
        child.process.close()
        heir = self._make_child()
        with self._lock:
            lost, child.in_hand = child.in_hand, {}
            self._children[place] = heir
            self._fill()
        if lost:
            self._done.put(([m.Answer(task, Status.CRASHED, why) for task in lost], 0.0))
            self._notify()


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
