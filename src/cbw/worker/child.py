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
from cbw.core.worker.events import AnswersWentOn, HandlerCalled, PoolFact, TasksFinished, TasksReturned
from cbw.errors import NotReady
from cbw.language import translated
from cbw.observe.program_logs import show_logs, tell_stories
from cbw.observe.trace import LogTarget, Trace
from cbw.signals import STOP_SIGNALS
from cbw.worker.handler import Handler
from cbw.worker.lifespan import Lifespans
from cbw.worker.pools import make_pool
from cbw.worker.watchers import watches

ServedFunction = tuple[Callable[..., Any], Retrying, float | None, int | None, float]
"""A function that serves requests, when it is called again, how long it may take, how many requests it takes at once, and for how
long it waits for so many."""


class EndTask(messages.Message, tag=99):
    """The handler of task ``id`` has exceeded its time limit: end it, if that is possible."""

    id: int


class ReopenTrace(messages.Message, tag=98):
    """The trace file was moved away: begin a new one."""


class EndProcess(messages.Message, tag=97):
    """Nothing is to be begun or answered any more: close what the lifespans have opened, and end this process in order."""


ChildOrder = (
    messages.Task
    | messages.StreamTask
    | messages.PartsWanted
    | messages.Recall
    | messages.CancelTask
    | EndTask
    | ReopenTrace
    | EndProcess
)
PARENTS_SIGNALS = (*STOP_SIGNALS, signal.SIGHUP)
"""Signals that a whole group of processes may get, and that only the parent decides about."""
encode_to_pipe = msgspec.msgpack.Encoder(enc_hook=bytes).encode  # for subclasses of bytes, which handlers may return
decode_fact = msgspec.msgpack.Decoder(TasksFinished | TasksReturned | HandlerCalled | AnswersWentOn).decode
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
    for number in PARENTS_SIGNALS:
        signal.signal(number, lambda _number, _frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PARENTS_SIGNALS)
    _keep_from_programs(pipe)
    if trace.is_printing:
        show_logs()
    try:
        child = _Child(services, concurrency, pipe, begun, trace)
        child.serve()
    except (EOFError, OSError):
        os._exit(0)  # the parent is gone
    except NotReady as error:  # of a lifespan, with its traceback
        print(f"{translated(str(error))}\n     {translated(error.advice)}", file=sys.stderr, flush=True)
        os._exit(NotReady.exit_code)
    if not child.is_idle:
        os._exit(0)  # handlers still run


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
        self._trace = own = Trace(
            trace.path, is_printing=trace.is_printing, name=trace.worker, log=trace.log if trace.wants_all else None
        )
        if trace.is_printing:
            tell_stories(trace.worker, own)
        self._record, on_failed = watches(trace.worker, own, own.write)
        self._facts: queue.SimpleQueue[PoolFact] = queue.SimpleQueue()
        self._pipe_lock = threading.Lock()
        handlers = {name: Handler(name, *service) for name, service in services.items()}
        self._lifespans = Lifespans(handlers.values(), self.fail)
        self._lifespans.open()
        self._pool = make_pool(handlers, concurrency, self, self._watch, on_failed, self._lifespans.loop_thread)
        threading.Thread(target=self._write, daemon=True).start()

    @property
    def is_idle(self) -> bool:
        """Whether no handler runs."""
        return not self._numbers

    def serve(self) -> None:
        """Carry out orders until the pipe ends, or there is to be an end."""
        self._send(b"")
        while True:
            orders = _decode_orders(self._pipe.recv_bytes())
            tasks = [order for order in orders if isinstance(order, messages.Task)]
            if tasks:
                self._numbers.update((task.id, number) for number, task in enumerate(tasks, self._given + 1))
                self._given += len(tasks)
                self._pool.begin(tasks)
            for order in orders:
                if isinstance(order, EndProcess):
                    self._pool.close()
                    self._lifespans.close()
                    self._trace.close()
                    self._pipe.close()
                    return
                if isinstance(order, messages.CancelTask):
                    self._pool.cancel(order.id)
                elif isinstance(order, ReopenTrace):
                    self._trace.reopen()
                elif isinstance(order, messages.PartsWanted):
                    self._pool.grant(order.id, order.parts)
                elif isinstance(order, EndTask):
                    self._pool.end_overdue(order.id)  # the parent has answered; here it is told what the handler does
                elif isinstance(order, messages.Recall):
                    self.report(TasksReturned(self._pool.take_back(order.tasks)))

    # --- what the pool asks of its owner

    def report(self, fact: PoolFact) -> None:
        if type(fact) is HandlerCalled:  # at once: its handler is called next, and may not let another thread run
            self._send(encode_to_pipe(fact))
        else:
            self._facts.put(fact)

    def fail(self, error: BaseException) -> NoReturn:
        """End this process: the parent starts another, which does not know what went wrong in this one."""
        traceback.print_exception(error)
        os._exit(1)

    def record_event(self, event: EventName, text: str, task: messages.Task | None = None, traceback: str = "") -> None:
        raise NotImplementedError("the parent knows what is stuck, and which processes there are")

    # --- inside

    def _send(self, data: bytes) -> None:
        with self._pipe_lock:
            self._pipe.send_bytes(data)

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
                self._send(encode_to_pipe(fact))
        except OSError:
            os._exit(0)  # the parent is gone
        except BaseException as error:  # such an answer never arrives, and nor would those behind it
            self.fail(error)
