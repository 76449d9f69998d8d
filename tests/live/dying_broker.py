"""``cbw broker`` that kills itself at one moment of a request's life: ``python -m tests.live.dying_broker MOMENT COUNT …``.

It dies when that moment has come for the COUNT-th time. The arguments behind are those of ``cbw broker``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from cbw.cli.main import main
from cbw.core.broker import events, journal
from cbw.core.broker.driver import Driver
from cbw.core.broker.events import AppendToJournal, Event, JournalStored, SendToClient, SendToWorker, WorkerSaid
from cbw.core.broker.recovery import Recovery
from cbw.core.journal_records import RequestAccepted, RequestEnded, TaskBegun
from cbw.core.messages import Answer, Task
from cbw.journal.file import FileJournal
from cbw.wire.journal import decode_batch

Order = Event
Test = Callable[[Any], bool]


def writes(kind: type) -> Test:
    """Whether an order writes such a record."""
    return lambda order: type(order) is AppendToJournal and any(type(r) is kind for r in order.batch.records)


def sends(kind: type[SendToClient] | type[SendToWorker], message: type) -> Test:
    """Whether an order sends such a message."""
    return lambda order: isinstance(order, kind) and any(type(m) is message for m in order.messages)


ORDERS: dict[str, tuple[str, Test]] = {
    "accepted, not given to the journal": ("before", writes(RequestAccepted)),
    "accepted, given to the journal": ("after", writes(RequestAccepted)),
    "task about to leave": ("before", sends(SendToWorker, Task)),
    "task has left": ("after", sends(SendToWorker, Task)),
    "task's beginning given to the journal": ("after", writes(TaskBegun)),
    "ended, not given to the journal": ("before", writes(RequestEnded)),
    "ended, given to the journal": ("after", writes(RequestEnded)),
    "answer about to leave": ("before", sends(SendToClient, Answer)),
    "answer has left": ("after", sends(SendToClient, Answer)),
    "compaction about to begin": ("before", lambda order: type(order) is events.CompactJournal),
}
"""Moments around an order of the core."""
FACTS: dict[str, Test] = {
    "stored, not told to the core": lambda fact: type(fact) is JournalStored,
    "answer read, not told to the core": lambda fact: (
        type(fact) is WorkerSaid and any(type(m) is Answer for m in fact.messages)
    ),
}
"""Moments before a fact reaches the core."""
WRITES = ("accepted, about to be written", "accepted, written", "ended, about to be written", "ended, written")
"""Moments in the thread that writes."""
STARTS = ("journal read, ports not bound",)
MOMENTS = (*ORDERS, *FACTS, *WRITES, *STARTS)


class Death:
    """Comes the ``count``-th time."""

    def __init__(self, moment: str, count: int) -> None:
        self.moment = moment
        self._left = count

    def comes(self) -> None:
        """This is the moment."""
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def plant(death: Death) -> None:
    """Let ``death`` come at its moment."""
    if death.moment in ORDERS:
        _around_orders(death, *ORDERS[death.moment])
    elif death.moment in FACTS:
        _before_facts(death, FACTS[death.moment])
    elif death.moment in WRITES:
        _around_writes(death)
    else:
        restore = Recovery.restore

        def and_die(self: Recovery, *arguments: Any) -> None:
            restore(self, *arguments)
            death.comes()

        Recovery.restore = and_die  # type: ignore[method-assign,assignment]


def _around_orders(death: Death, when: str, is_it: Test) -> None:
    carry_out = Driver._carry_out

    def one_by_one(self: Driver, orders: list[Event]) -> list[Event]:
        undelivered: list[Event] = []
        for order in orders:
            if when == "before" and is_it(order):
                death.comes()
            undelivered += carry_out(self, [order])
            if when == "after" and is_it(order):
                death.comes()
        return undelivered

    Driver._carry_out = one_by_one  # type: ignore[method-assign]


def _before_facts(death: Death, is_it: Test) -> None:
    decide = Driver._decide

    def or_die(self: Driver, facts: list[Event]) -> list[Event]:
        if any(map(is_it, facts)):
            death.comes()
        return decide(self, facts)

    Driver._decide = or_die  # type: ignore[method-assign]


def _around_writes(death: Death) -> None:
    append = FileJournal.append
    kind = RequestAccepted if death.moment.startswith("accepted") else RequestEnded

    def or_die(self: FileJournal, position: int, batches: Any) -> Any:
        is_it = any(type(record) is kind for data in batches for record in decode_batch(position, data).records)
        if is_it and not death.moment.endswith(", written"):
            death.comes()
        outcome = append(self, position, batches)
        if is_it and death.moment.endswith(", written"):
            death.comes()
        return outcome

    FileJournal.append = or_die  # type: ignore[method-assign]


if __name__ == "__main__":
    if sys.argv[1].startswith("compaction"):
        journal.SLACK_BYTES = journal.COMPACT_BYTES = 20_000
    plant(Death(sys.argv[1], int(sys.argv[2])))
    sys.exit(main(["broker", *sys.argv[3:]]))
