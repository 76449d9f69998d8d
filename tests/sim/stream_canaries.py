"""Planted bugs in answers that are sent in parts. Importing this adds them to the other canaries."""

from __future__ import annotations

from typing import Any

import msgspec

from cbw.core.broker.streams import Streams
from cbw.core.broker.tables import Entry, StreamRow, WorkerRow
from cbw.core.client.pending import Pending
from cbw.core.client.reader import Reader
from cbw.core.messages import AnswerPart
from cbw.core.parts import PARTS_MAX

from .canary import Patch, canary, without_check
from .drawing import stream
from .plan import Plan


def _streams(plan: Plan) -> None:
    """All jobs are streams, of workers that know them."""
    if plan.workers:
        plan.plain_workers.clear()
    stream(plan)
    for client in plan.clients:
        for _, jobs in client.bursts:
            for job in jobs:
                job.ttl_s = job.cancel_after_s = None


def _streams_of_workers_that_die(plan: Plan) -> None:
    _streams(plan)
    plan.rates["worker crash"] = 1.0
    plan.rates["connection"] = 3.0


def _streams_that_are_given_up(plan: Plan) -> None:
    """While connections break, and with them what was said over them."""
    _streams_of_workers_that_die(plan)
    plan.rates["broker crash"] = 0.5
    plan.limits = msgspec.structs.replace(plan.limits, parked_bytes_max=1 << 20)  # the parts of all clients find room
    for client in plan.clients:
        for _, jobs in client.bursts:
            for job in jobs[::2]:
                job.cancel_after_s = 0.1


@canary("stuck", _streams)
def parts_are_lost() -> list[Patch]:
    """Now and then one does not leave the broker."""
    pass_on: Any = Streams._pass_on

    def forget(self: Streams, entry: Entry, row: StreamRow, number: int, body: bytes) -> None:
        if number % 11:
            pass_on(self, entry, row, number, body)

    return [(Streams, "_pass_on", forget)]


@canary("G4", _streams_of_workers_that_die)
def parts_of_a_dead_attempt_are_passed_on() -> list[Patch]:
    """Whoever sends them, as long as the request lives."""

    def careless(self: Streams, worker: WorkerRow, part: AnswerPart) -> None:
        entry = worker.in_hand.get(part.id)
        living = None if entry is None else entry.client.entries.get(entry.request.id)
        if living is not None and living.stream is not None:
            living.stream.sent = part.number
            pass_on(self, living, living.stream, part.number, part.body)

    pass_on: Any = Streams._pass_on
    return without_check((Streams, "part_came", careless))


@canary("G4", _streams_of_workers_that_die)
def streams_begin_anew_unasked() -> list[Patch]:
    """As if each had said that it may."""

    def always(self: Streams, entry: Entry) -> bool:
        if entry.stream is not None:
            row = entry.stream
            row.sent, row.wanted, row.granted = 0, row.first, row.first
        return False

    return [(Streams, "breaks", always)]


@canary("G9", _streams)
def there_is_room_for_any_number_of_parts() -> list[Patch]:
    """The client asks for more than its program takes."""

    def greedy(self: Reader, count: int) -> bool:
        self.wanted = self.received + 3 * PARTS_MAX
        return True

    return without_check((Reader, "took", greedy))


@canary("stuck", _streams)
def room_is_never_told() -> list[Patch]:
    """Handlers wait for ever behind the first parts."""
    return [(Reader, "took", lambda self, count: False)]


@canary("stuck", _streams_that_are_given_up)
def that_a_stream_was_given_up_is_told_once() -> list[Patch]:
    """If that is lost with its connection, the handler waits for ever."""
    return [(Pending, "is_stream", False)]
