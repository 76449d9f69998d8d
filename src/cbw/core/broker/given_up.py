"""Whose the tasks were that were given up, so that the trace can tell what a late answer belongs to."""

from __future__ import annotations

from typing import NamedTuple

from cbw.core.broker.tables import Entry, request_name

GIVEN_UP_MAX = 10_000
"""Most tasks and workers that are remembered; the oldest are forgotten first. Each takes some 300 bytes."""


class Whose(NamedTuple):
    """The request that a task was an attempt at, as a trace names it."""

    request: str
    client: str
    service: str


NOBODYS = Whose("", "", "")


class GivenUpTasks:
    """Attempts that were given up while their workers may still answer. Of a REQ worker, whose answers name no task, it is the
    last one.
    """

    def __init__(self) -> None:
        self._found: dict[int | str, Whose] = {}

    def add(self, entry: Entry, worker: str) -> None:
        """The attempt at ``entry`` that ``worker`` has is given up."""
        whose = whose_is(entry)
        for key in (entry.task, worker):
            self._found.pop(key, None)
            self._found[key] = whose
        while len(self._found) > GIVEN_UP_MAX:
            del self._found[next(iter(self._found))]

    def find(self, task: int, worker: str) -> Whose:
        """Whose ``task`` was; 0: the last one of ``worker``. Empty if that is not known."""
        return self._found.get(task or worker, NOBODYS)


def whose_is(entry: Entry) -> Whose:
    """What a trace says of ``entry``."""
    return Whose(request_name(entry), entry.client.name, entry.request.service)
