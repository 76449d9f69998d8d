"""Which workers a picture of a broker's page shows, when there are more of them than it has rows."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from enum import IntEnum
from heapq import nsmallest
from typing import Any, NamedTuple

HOLD_S = 5.0
"""How long a row stays after its worker last had something to show: people need some seconds to read it."""
SLOW_REQUEST_S = 1.0
"""From this time on the longest-running requests come first. Below it the order would be another in each sample."""


class Rank(IntEnum):
    """What a worker has to show; the least comes first."""

    LOST = 0  #: it was lost lately
    LATE = 1  #: it owes an answer that is overdue, or gave one too late
    SLOW = 2  #: it has been at one request for :data:`SLOW_REQUEST_S` or longer
    BUSY = 3  #: it is at work, or has answered since the last sample
    IDLE = 4  #: nothing


class Urgency(NamedTuple):
    """How urgently a worker is to be shown: the least comes first. ``order`` decides within a rank."""

    rank: Rank
    order: float = 0.0


_BUSY, _IDLE = Urgency(Rank.BUSY), Urgency(Rank.IDLE)


def urgencies(
    workers: Iterable[Mapping[str, Any]],
    active: Container[str],
    lost: Mapping[str, float],
    late: Container[str],
    rows_max: int,
) -> dict[str, Urgency]:
    """The urgency of each worker, by name, in the order of ``workers`` (rows of a status); then those that are only lost.

    ``active`` have answered since the last sample, ``lost`` says how many seconds ago each was lost, and ``late`` have answered
    too late. Lost and late workers together get at most half of ``rows_max``, the newest losses first: after the loss of a whole
    machine the busy workers are still to be seen.
    """
    room = rows_max // 2
    newest = sorted(lost, key=lost.__getitem__)[:room]
    room -= len(newest)
    found = {}
    for row in workers:
        name = row["worker"]
        found[name] = urgency = _urgency(
            row, name in active, is_late=room > 0 and (name in late or row["state"] == "late")
        )
        room -= urgency.rank is Rank.LATE
    return found | {name: Urgency(Rank.LOST, lost[name]) for name in newest}


def _urgency(row: Mapping[str, Any], is_active: bool, *, is_late: bool) -> Urgency:
    at_s = row["at_s"] or 0.0
    if is_late:
        return Urgency(Rank.LATE, -at_s)
    if at_s >= SLOW_REQUEST_S:
        return Urgency(Rank.SLOW, -at_s)
    return _BUSY if is_active or row["at"] else _IDLE


class _Row:
    def __init__(self, name: str, until: float) -> None:
        self.name = name
        self.until = until


class WorkerChoice:
    """The workers in the ``rows_max`` rows of a picture. A worker stays in its row: who comes takes the row of who goes."""

    def __init__(self, rows_max: int) -> None:
        self._rows_max = rows_max
        self._rows: list[_Row] = []

    def choose(self, urgency: Mapping[str, Urgency], now: float) -> list[str]:
        """The names in the rows, at ``now``. Who is not in ``urgency`` is gone; equally urgent workers are taken in its order.

        A row that shows something is kept for :data:`HOLD_S` longer. Only a lost or late worker takes it before.
        """
        for row in self._rows:
            if row.name in urgency and urgency[row.name].rank < Rank.IDLE:
                row.until = now + HOLD_S
        shown = {row.name for row in self._rows}
        coming = nsmallest(self._rows_max, (name for name in urgency if name not in shown), key=urgency.__getitem__)
        coming.reverse()  # the most urgent is the last now
        self._fill(urgency, coming, now)
        while coming and self._replace(urgency, coming[-1], now):
            coming.pop()
        return [row.name for row in self._rows]

    def _fill(self, urgency: Mapping[str, Urgency], coming: list[str], now: float) -> None:
        """Give empty rows, and those of workers that are gone, to who comes."""
        rows = []
        for row in self._rows:
            if row.name in urgency:
                rows.append(row)
            elif coming:
                rows.append(_row(coming.pop(), urgency, now))
        while coming and len(rows) < self._rows_max:
            rows.append(_row(coming.pop(), urgency, now))
        self._rows = rows

    def _replace(self, urgency: Mapping[str, Urgency], name: str, now: float) -> bool:
        """Give ``name`` the row of the least urgent worker; False: it is not less urgent, or may not go yet."""
        rank = urgency[name].rank
        may_go = [
            (urgency[row.name], number)
            for number, row in enumerate(self._rows)
            if row.until <= now or (rank <= Rank.LATE and urgency[row.name].rank > rank)
        ]
        least, number = max(may_go, default=(Urgency(Rank.LOST), 0))
        if urgency[name] >= least:
            return False
        self._rows[number] = _row(name, urgency, now)
        return True


def _row(name: str, urgency: Mapping[str, Urgency], now: float) -> _Row:
    return _Row(name, now + HOLD_S if urgency[name].rank < Rank.IDLE else now)
