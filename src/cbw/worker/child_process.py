"""One child process that runs handlers, as its parent sees it: the process, its pipe, and the tasks that it holds."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import pickle
import queue
import resource
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

import msgspec

from cbw.core import messages
from cbw.core.worker.events import PoolFact
from cbw.errors import NotReady, UsageError
from cbw.worker.child import (
    PARENTS_SIGNALS,
    ChildOrder,
    EndProcess,
    TraceOptions,
    decode_fact,
    encode_to_pipe,
    serve_tasks,
)
from cbw.worker.handler import Handler

EXIT_S = 1.0
"""Longest time in seconds for which a child whose pipe has ended may run on before it is killed: Python waits at its end for
threads that a handler may have started."""
GUARD_ADVICE = 'Write if __name__ == "__main__": before worker.run(): the children import the program again.'
_spawn = multiprocessing.get_context("spawn")


@dataclass(slots=True)
class HeldTask:
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
            raise cannot_start(error) from None
        self.in_hand: dict[int, HeldTask] = {}
        self.overdue: dict[int, messages.Task] = {}  # those that were answered because of their limits, and may run
        self.has_been_ready = False  # it was ready once
        self.is_ending = False
        self.given = 0  # tasks that it was given, but for those that it has given back
        self.retires_because = ""  # if not empty it gets nothing more, and is ended when it has nothing to finish
        self.is_asked = False  # for tasks that it has not begun, because another child has nothing to do
        self._orders: queue.SimpleQueue[Sequence[ChildOrder]] = queue.SimpleQueue()
        self._last = 0  # the number of the last task that it was given
        services = {
            name: (handler.function, handler.retrying, handler.time_limit_s, handler.batch, 1000 * handler.wait_s)
            for name, handler in handlers.items()
        }
        self.process = _spawn.Process(
            target=serve_tasks, args=(services, concurrency, theirs, self._begun, trace), daemon=True
        )
        # The signals are blocked in the child from its first moment, until it has handlers for them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, PARENTS_SIGNALS)
        try:
            resource_tracker.ensure_running()  # which unblocks some of them if it starts the tracker: it is to do so now
            signal.pthread_sigmask(signal.SIG_BLOCK, PARENTS_SIGNALS)
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
            raise cannot_start(error) from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        try:
            threading.Thread(target=self._write, name=f"to child {self.process.pid}", daemon=True).start()
        except RuntimeError as error:  # no more threads
            self.kill()
            self.mark_dead()
            raise cannot_start(error) from None

    @property
    def is_ready(self) -> bool:
        """Whether it can be given tasks."""
        return self.has_been_ready and not self.is_ending and not self.retires_because

    @property
    def busy_slots(self) -> int:
        """How many tasks it has, or has not ended in spite of their limits."""
        return len(self.in_hand) + len(self.overdue)

    @property
    def resident_bytes(self) -> int:
        """Bytes of memory that its process takes at the moment; 0 if it has just ended.

        Raises:
            UsageError: this system does not tell.
        """
        try:
            pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        except OSError:
            if not Path("/proc/self/statm").exists():
                raise UsageError("--max-memory-per-child needs Linux") from None
            return 0
        return int(pages[1]) * resource.getpagesize() if pages else 0

    def give(self, tasks: Sequence[HeldTask]) -> None:
        """Have it run these."""
        self.given += len(tasks)
        for held in tasks:
            self._last += 1
            held.number = self._last
            self.in_hand[held.task.id] = held
        self.send([held.for_child() for held in tasks])

    def has_begun(self, held: HeldTask) -> bool:
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

    def retire(self, why: str) -> None:
        """Give it nothing more, and take back what it has not begun. When it has nothing in hand any more it can be ended."""
        if not self.retires_because:
            self.retires_because = why
            if self.in_hand:
                self.send([messages.Recall(list(self.in_hand))])

    def end(self) -> None:
        """Have it close its lifespans and end, unless it does already. One with a handler that is stuck is ended at once."""
        if self.overdue:
            self.kill()
        elif not self.is_ending:
            self.is_ending = True
            self.send([EndProcess()])

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
        """Give back the descriptors and the thread of a child that has ended, or is about to."""
        self.process.join()
        self.send([])
        self.pipe.close()
        self.process.close()

    def _write(self) -> None:
        try:
            while orders := self._orders.get():
                self.pipe.send_bytes(encode_to_pipe(orders))
        except OSError:
            pass  # it died: its supervisor sees that
        except Exception:  # it will get no more orders, so it must not live on
            with contextlib.suppress(ValueError):  # it is dead and forgotten
                self.process.kill()


def cannot_start(error: OSError | RuntimeError) -> NotReady:
    """What is raised if the system has not what another child needs."""
    reason = error.strerror if isinstance(error, OSError) else error
    text = f"a child process cannot be started: {reason}"
    return NotReady(text, advice="Give a lower --processes, or look at ulimit -u and -n.")
