"""A broker before it serves: it waits for its journal, or one of several, whose owner another broker may be, and then reads it.

Meanwhile it binds no port, so that every client and worker finds the other one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from cbw.broker import Broker
from cbw.core.messages import Answer
from cbw.journal.backend import Backend
from cbw.observe.inquiry import status_of


@runtime_checkable
class Shared(Protocol):
    """A journal that the brokers of several machines can reach, or several; one broker at a time is the owner of each."""

    def acquire(self, is_stopped: Callable[[], bool], tell: Callable[[str], None]) -> Backend | None:
        """Wait until one is ours, which is returned. None: ``is_stopped`` said so before. ``tell`` is told what is waited for."""
        ...

    def describe(self) -> dict[str, Any]:
        """What is known of the journal, for people."""
        ...

    def close(self) -> None:
        """Give back what it holds. Safe to call twice."""
        ...


class Standby:
    """Waits for ``journal`` on behalf of the broker ``name``. ``tell`` is told for whom it waits, whenever that changes, and
    which journal it takes."""

    def __init__(self, journal: Backend | Shared | None, name: str, tell: Callable[[str], None]) -> None:
        self._waits_for = journal
        self.journal: Backend | None = None
        """The broker's journal, once :meth:`wait` is over; None: it is to have none."""
        self._name = name
        self._print = tell
        self._started_at = time.monotonic()
        self._problem = "it begins"
        self._is_stopped = False
        self._broker: Broker | None = None

    def stop(self) -> None:
        """End :meth:`wait`; or stop the broker that this has become. Called by signal handlers."""
        self._is_stopped = True
        if self._broker is not None:
            self._broker.stop()

    def reopen_trace(self) -> None:
        """Open the trace's file anew, after it was moved. Before there is a broker there is no trace."""
        if self._broker is not None:
            self._broker.reopen_trace()

    def wait(self) -> bool:
        """Wait until the journal is this broker's. False: it was stopped before.

        Raises:
            JournalError: the journal cannot be used.
        """
        if isinstance(self._waits_for, Shared):
            try:
                self.journal = self._waits_for.acquire(lambda: self._is_stopped, self._tell)
            finally:
                if self.journal is None:
                    self._waits_for.close()
            if self.journal is None:
                return False
            self._print(f"takes the journal {self.journal.describe()['name']}")  # one of several, maybe
        else:
            self.journal = self._waits_for
        self._problem = "it reads its journal"
        return True

    def becomes(self, broker: Broker) -> None:
        """From now on this is ``broker``, with :attr:`journal`."""
        self._broker = broker
        if self._is_stopped:
            broker.stop()

    def status(self) -> dict[str, Any] | None:
        """What its page says: that of the broker, or why there is none yet."""
        if self._broker is not None:
            return self._broker.inquiry.ask()
        journal = self.journal or self._waits_for
        shown = None if journal is None else journal.describe()
        return status_of("standby", self._name, self._started_at, self._problem, journal=shown)

    def operate(self, service: str, body: bytes, who: str, *, may_act: bool) -> Answer | None:
        """The broker's answer to an operator, ``who`` asks one of its own services. None: there is no broker yet."""
        return None if self._broker is None else self._broker.operate(service, body, who, may_act=may_act)

    def events(self) -> list[dict[str, Any]]:
        """The latest events of the broker, oldest first."""
        return [] if self._broker is None else self._broker.events()

    def _tell(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            self._print(problem)
