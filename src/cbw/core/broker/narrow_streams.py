"""Streams that share the memory for what their clients have not read, because there was not enough of it.

A client says for how many parts it has room, and the worker is told that. What is on its way to clients that read slowly may be
more than the broker may keep for them. It then gives one of them up, whose streams begin anew, and without more ado the same
would happen again, for ever. So they are *narrow* from then on: their workers are told of room only as far as there is memory
for all parts that may come, one stream after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from cbw.core.agenda import Agenda
from cbw.core.broker.backlog import MESSAGE_BYTES
from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import Entry, StreamRow

SHARE = 0.5
"""Part of the memory for what peers have not read that narrow streams fill; the rest is left to everything else."""
ROOM_LOOK_S = 0.02
"""Seconds between two looks whether there is room again, while a narrow stream wants some."""


class NarrowStreams:
    """The streams that have not ended, while memory is scarce. ``grant`` tells a worker up to which part there is room."""

    def __init__(self, agenda: Agenda, bytes_max: int, grant: Callable[[Entry, StreamRow, int], None]) -> None:
        self.unsent_bytes: Callable[[], int] = lambda: 0
        """Tells how much waits for peers that do not read, in bytes; the driver sets it."""
        self._bytes_max = int(bytes_max * SHARE)
        self._grant = grant
        self._streams: dict[Entry, StreamRow] = {}  # the one whose turn is next comes first
        self._look = agenda.timer(self._share_out)

    def add(self, entry: Entry, stream: StreamRow) -> None:
        """Too much was on its way to the client of ``entry``."""
        stream.is_narrow = True
        self._streams[entry] = stream

    def wants_room(self, now: float) -> None:
        """A client wants more of one of them, or a worker has just begun with it."""
        self._look.set_by(now)

    def _share_out(self, now: float) -> None:
        self._streams = {e: stream for e, stream in self._streams.items() if e.state is not RequestState.ENDED}
        at_work = [(entry, stream) for entry, stream in self._streams.items() if entry.worker is not None]
        begun = _begun(at_work)
        on_their_way = sum((stream.granted - stream.sent) * _part_bytes(stream) for _, stream in begun)
        free = self._bytes_max - self.unsent_bytes() - on_their_way
        # One part must always be possible, and of a stream of which nothing has come yet it is not certain that it has begun.
        is_stuck = not any(stream.granted > stream.sent > 0 for _, stream in begun)
        for entry, stream in begun:
            parts = min(stream.wanted - stream.granted, free // _part_bytes(stream))
            if parts <= 0 and is_stuck and stream.wanted > stream.granted == stream.sent:
                parts = 1
            if parts > 0:
                is_stuck = False
                free -= parts * _part_bytes(stream)
                self._streams[entry] = self._streams.pop(entry)
                self._grant(entry, stream, stream.granted + parts)
        if any(stream.granted < stream.wanted for _, stream in at_work):
            self._look.set_by(now + ROOM_LOOK_S)


def _begun(at_work: list[tuple[Entry, StreamRow]]) -> list[tuple[Entry, StreamRow]]:
    """The streams that their workers have begun, which do the oldest tasks in their hands first."""
    workers = dict.fromkeys(entry.worker for entry, _ in at_work)
    tasks = {task for w in workers if w is not None for task in islice(w.in_hand, w.concurrency)}
    return [(entry, stream) for entry, stream in at_work if entry.task in tasks]


def _part_bytes(stream: StreamRow) -> int:
    """What a part may take, as far as the largest one so far tells."""
    return MESSAGE_BYTES + stream.largest
