"""Which bodies of one ``map`` are sent, which requests are in flight, and which answers are given to the program."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from cbw import codec
from cbw.core.client.events import Ended
from cbw.errors import UsageError

WINDOW = 256
"""Requests that ``map`` keeps in flight: enough for full batches, few enough to fit the workers' credit."""
BATCHES_PER_WINDOW = 4
"""Batches into which a window is divided, so that client, broker and worker each have one to work on."""
SLOW_S = 0.001
"""Seconds after which a batch is sent with the bodies that it has: the program takes its time to make the next one."""


class MapWindow:
    """Decides for one ``map`` which bodies are sent and which answers are given to the program, and when.

    Until :attr:`is_done`, its owner repeats: send the batches of :meth:`take_bodies` and tell the ids to :meth:`sent`; wait
    for answers, unless :attr:`is_slow`, and tell them to :meth:`ended`; give the program those of :meth:`take_answers`.
    """

    def __init__(self, bodies: Iterable[Any], window: int, *, is_ordered: bool) -> None:
        if not isinstance(window, int) or window < 1:
            raise UsageError(f"window is {window!r}; it must be a whole number, at least 1")
        self._bodies = iter(bodies)
        self._window = window
        self._batch_max = -(-window // BATCHES_PER_WINDOW)
        self._is_ordered = is_ordered
        self._has_more = True
        self.is_slow = False
        """Whether the program makes bodies so slowly that it should get its answers before it is asked for the next one."""
        self._next_in = self._next_out = 0
        self._answered: dict[int, Ended] = {}  # by position; the program has not got these yet
        self.in_flight: dict[int, int] = {}  # request ids to positions
        self.done = 0

    @property
    def is_done(self) -> bool:
        """Whether every body was sent and answered."""
        return not self._has_more and not self.in_flight

    def take_bodies(self) -> list[bytes]:
        """The next batch to be sent, encoded; empty: no room in the window, or no more bodies."""
        self.is_slow = False
        room = min(self._batch_max, self._window - len(self.in_flight) - len(self._answered))
        if not self._has_more or room < 1:
            return []
        batch: list[bytes] = []
        until = time.monotonic() + SLOW_S
        for body in islice(self._bodies, room):
            batch.append(body if type(body) is bytes else codec.encode(body))
            if time.monotonic() > until:
                self.is_slow = True
                break
        else:
            self._has_more = len(batch) == room
        return batch

    def sent(self, request_ids: Sequence[int]) -> None:
        """The last batch has these ids."""
        first = self._next_in
        self._next_in += len(request_ids)
        self.in_flight.update(zip(request_ids, range(first, self._next_in), strict=True))

    def ended(self, ended: Ended) -> None:
        """A request has ended."""
        self._answered[self.in_flight.pop(ended.answer.id)] = ended
        self.done += 1

    def take_answers(self) -> Iterator[tuple[int, Ended]]:
        """The answers that the program gets now, each with its position."""
        answered = self._answered
        if self._is_ordered:
            while self._next_out in answered:
                position = self._next_out
                self._next_out += 1
                yield position, answered.pop(position)
        else:
            while answered:
                position = next(iter(answered))
                yield position, answered.pop(position)
