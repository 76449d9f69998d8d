"""What runs in a child process of a :class:`~cbw.worker.processes.ProcessPool`, and what goes through its pipe.

The parent sends lists of orders. The child sends an empty message when it is ready, and then the facts that its own pool
reports. How many tasks it has begun stands in shared memory, so that the parent can read it when the child is dead.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NoReturn, Protocol

import msgspec

from cbw.contract.retrying import Retrying
from cbw.core import messages
from cbw.core.catalogue import EventName
from cbw.core.worker.events import PoolFact, TasksFinished, TasksReturned
from cbw.errors import NotReady
from cbw.observe.program_logs import show_logs, tell_stories
from cbw.observe.trace import LogTarget, Trace
from cbw.signals import STOP_SIGNALS
from cbw.worker.handler import Handler
from cbw.worker.lifespan import Lifespans
from cbw.worker.pool import make_pool
from cbw.worker.watchers import watches

ServedFunction = tuple[Callable[..., Any], Retrying]
"""A function that serves requests, and when it is called again."""
ChildOrder = messages.Task | messages.Recall | messages.CancelTask
encode_to_pipe = msgspec.msgpack.Encoder(enc_hook=bytes).encode  # for subclasses of bytes, which handlers may return
decode_fact = msgspec.msgpack.Decoder(TasksFinished | TasksReturned).decode
_decode_orders = msgspec.msgpack.Decoder(list[ChildOrder]).decode


class TraceOptions(msgspec.Struct, frozen=True):
    """Where the records of handlers go: ``worker`` is the id of the worker whose child this is."""

    worker: str
    path: str | None
    log: LogTarget | None
    is_printing: bool
    wants_all: bool


UNTRACED = TraceOptions("", None, None, is_printing=False, wants_all=False)
"""Failures are told to ``logging``."""


class Counter(Protocol):
    """A number in memory that parent and child share."""

    value: int


def serve_tasks(
    services: dict[str, ServedFunction],
    concurrency: int,
    pipe: Connection,
    begun: Counter,
    trace: TraceOptions,
) -> None:
    """The main function of a child process. It ends with its parent, whose death closes the pipe."""
    # Ctrl-C, `timeout` and service managers signal the whole group, but only the parent decides when a child ends. The
    # signals are handled and not ignored, because programs that a handler starts would inherit that they are ignored.
    for number in STOP_SIGNALS:
        signal.signal(number, lambda _number, _frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    _keep_from_programs(pipe)
    if trace.is_printing:
        show_logs()
    try:
        _Child(services, concurrency, pipe, begun, trace).serve()
    except (EOFError, OSError):
        pass  # the parent is gone
    except NotReady as error:  # of a lifespan, with its traceback
        print(f"{error}\n     {error.advice}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)  # handlers may still run


def _keep_from_programs(pipe: Connection) -> None:
    """No process that a handler starts may hold the pipe: its end tells the parent that this child has ended."""
    os.set_inheritable(pipe.fileno(), False)
    os.register_at_fork(after_in_child=pipe.close)


class _Child:
    """Runs what the parent orders in a pool, whose owner it is."""

    def __init__(
        self,
        services: dict[str, ServedFunction],
        concurrency: int,
        pipe: Connection,
        begun: Counter,
        trace: TraceOptions,
    ) -> None:
        self._pipe = pipe
        self._begun = begun
        self._numbers: dict[int, int] = {}  # of the tasks that are here, in the order in which they came
        self._given = 0
        self._lock = threading.Lock()
        own = Trace(
            trace.path, is_printing=trace.is_printing, name=trace.worker, log=trace.log if trace.wants_all else None
        )
        if trace.is_printing:
            tell_stories(trace.worker, own)
        self._record, on_failed = watches(trace.worker, own, own.write)
        self._facts: queue.SimpleQueue[PoolFact] = queue.SimpleQueue()
        handlers = {name: Handler(name, *service) for name, service in services.items()}
        self._lifespans = Lifespans(handlers.values(), self.fail)
        self._lifespans.open()
        self._pool = make_pool(handlers, concurrency, self, self._watch, on_failed, self._lifespans.loop_thread)
        threading.Thread(target=self._write, daemon=True).start()

    def serve(self) -> None:
        """Carry out orders until an empty list of them comes, or the pipe ends."""
        self._pipe.send_bytes(b"")
        while orders := _decode_orders(self._pipe.recv_bytes()):
            tasks = [order for order in orders if isinstance(order, messages.Task)]
            if tasks:
                self._numbers.update((task.id, number) for number, task in enumerate(tasks, self._given + 1))
                self._given += len(tasks)
                self._pool.begin(tasks)
            for order in orders:
                if isinstance(order, messages.CancelTask):
                    self._pool.cancel(order.id)
                elif isinstance(order, messages.Recall):
                    self.report(TasksReturned(self._pool.take_back(order.tasks)))

        self._lifespans.close()

    # --- what the pool asks of its owner

    def report(self, fact: PoolFact) -> None:
        self._facts.put(fact)

    def fail(self, error: BaseException) -> NoReturn:
        """End this process: the parent starts another, which does not know what went wrong in this one."""
        traceback.print_exception(error)
        os._exit(1)

    def record_event(self, event: EventName, text: str) -> None:
        raise NotImplementedError("only a pool of processes has such events")

    # --- inside

    def _watch(self, task: messages.Task, answer: messages.Answer | None) -> None:
        if answer is None:
            with self._lock:
                self._begun.value = max(self._begun.value, self._numbers[task.id])
        if self._record is not None:
            self._record(task, answer)

    def _write(self) -> None:
        try:
            while True:
                fact = self._facts.get()
                ended = [answer.id for answer in fact.answers] if isinstance(fact, TasksFinished) else []
                for task in fact.tasks if isinstance(fact, TasksReturned) else ended:
                    self._numbers.pop(task, None)
                self._pipe.send_bytes(encode_to_pipe(fact))
        except OSError:
            os._exit(0)  # the parent is gone
        except BaseException as error:  # such an answer never arrives, and nor would those behind it
            self.fail(error)
