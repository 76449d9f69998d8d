"""The questions of the lab's programs: what a broker has read, and what had died with an earlier one."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from .clients import PlainClient
from .durability import Durability
from .world import Process, World


@dataclass(eq=False)
class ReadQuestion:
    """A question that a broker has read."""

    reader: Questions
    at: float
    request: int = 0  # the number that it got as a request
    forgotten_at: float | None = None  # that broker died and had not stored it: as if it had never been read

    def is_known(self, now: float) -> bool:
        """Whether the broker knew of it at that time."""
        return self.at <= now and (self.forgotten_at is None or now < self.forgotten_at)


class Questions:
    """Those that one broker reads, beside those of others with its journal. By numbers: the same may be asked again."""

    def __init__(self, world: World, durability: Durability) -> None:
        self._world = world
        self._durability = durability
        self._told = durability.told
        self._arrived: deque[ReadQuestion] = deque()  # read in this turn, and no requests yet

    def number(self) -> int:
        """Of a new question."""
        self._told.asked += 1
        return self._told.asked

    def read(self, number: int, asker: Process) -> None:
        """The broker reads it."""
        if isinstance(asker, PlainClient):
            asker.was_read(number)
        question = self._told.read[number] = ReadQuestion(self, self._world.now)
        self._arrived.append(question)

    def become_request(self, request: int) -> None:
        """The one that was read first of those that are no requests yet gets this number."""
        self._arrived.popleft().request = request

    def broker_died(self) -> None:
        """What it had read and not stored was never read, for all that the next broker can know."""
        for question in self._told.read.values():
            if question.reader is not self or question.forgotten_at is not None:
                continue
            if not self._durability.has_stored(question.request):
                question.forgotten_at = self._world.now

    def was_known(self, number: int, at: float) -> bool:
        """Whether the broker that lived then had read the question, or its journal told it."""
        question = self._told.read.get(number)
        return question is not None and question.is_known(at)
