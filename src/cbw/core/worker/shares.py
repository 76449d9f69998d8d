"""How a worker shares its slots among the brokers that it serves.

A worker with nothing in hand offers all its slots to every broker, so whoever has a request first can use them. From the first
task on each slot is offered to one broker only, so that no more is sent than there is room for; what was on its way is given
back. A broker with requests that wait, and no slot here, demands some: it gets what others do not use, and of what others do
use the next that comes free, until all that demand have the same. So a slot is never kept from one broker for another that has
nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from cbw.core.agenda import Agenda

OFFER_ALL_AFTER_S = 0.01
"""Seconds with nothing in hand after which all slots are offered to every broker again. At once would cost two messages to each
broker for every lone request; a broker that does not want to wait can demand."""
DEMAND_KEPT_S = 0.02
"""Seconds for which a slot is kept for a broker that has demanded it, is offered it, and sends nothing. It may be frozen."""


class Share:
    """The part of one broker. ``in_hand`` are its tasks."""

    def __init__(self, in_hand: Collection[int]) -> None:
        self.offered = 0
        """How many tasks this broker may have in hand here."""
        self.demand: dict[str, int] = {}
        """How many of its requests wait for a slot here, by service."""
        self.in_hand = in_hand
        self.sent_last = 0  # when it has last sent a task, as a number that grows
        self.heard_at = 0.0  # when it has last sent a task, or demanded
        self.unused_since: float | None = None
        """Since when slots are offered to it and not in use; None: there are none."""

    @property
    def waiting(self) -> int:
        """How many of its requests wait for a slot here, as far as it has said so."""
        return sum(self.demand.values())

    @property
    def held(self) -> int:
        """Slots that nobody else can be offered: those in use, and those offered to it."""
        return max(self.offered, len(self.in_hand))

    @property
    def unused(self) -> int:
        """Slots that are offered to it and not in use."""
        return max(0, self.offered - len(self.in_hand))


class Shares:
    """Divides the slots of a worker, ``capacity`` of them, among the brokers that have joined."""

    def __init__(self, agenda: Agenda, capacity: Callable[[], int]) -> None:
        self._capacity = capacity
        self._shares: list[Share] = []
        self._is_open = True  # all slots are offered to everybody
        self._tasks_sent = 0
        self._offer_all = agenda.timer(self._open)
        self._unkept = agenda.timer(self._forget_demands)

    @property
    def are_several(self) -> bool:
        """Whether there is anything to share."""
        return len(self._shares) > 1

    @property
    def in_hand(self) -> int:
        """Tasks of all brokers together."""
        return sum(len(share.in_hand) for share in self._shares)

    @property
    def greeting(self) -> int:
        """What can be offered to a broker that joins."""
        return self._capacity() if not self._shares or (self._is_open and not self.in_hand) else 0

    def is_in_hand(self, task: int) -> bool:
        """Whether some broker waits for ``task``."""
        return any(task in share.in_hand for share in self._shares)

    def join(self, share: Share, now: float) -> None:
        """A broker has welcomed the worker."""
        share.demand.clear()
        share.offered = 0
        share.heard_at = now
        self._shares.append(share)
        self._is_open = self._is_open and not self.in_hand  # it may go on with tasks of its earlier broker
        self.divide(now)

    def leave(self, share: Share, now: float) -> None:
        """Its session is over."""
        if share in self._shares:
            self._shares.remove(share)
            self.divide(now)

    def took(self, share: Share, services: list[str], now: float) -> None:
        """The broker of ``share`` has sent a task for each of ``services``."""
        self._tasks_sent += 1
        share.sent_last, share.heard_at = self._tasks_sent, now
        for service in services:
            left = share.demand.pop(service, 0) - 1
            if left > 0:
                share.demand[service] = left
        if self._is_open and self.are_several:
            self._is_open = False
            for other in self._shares:
                other.offered = self._capacity() if other is share else 0
        self.divide(now)

    def demanded(self, share: Share, service: str, waiting: int, now: float) -> None:
        """The broker of ``share`` has so many requests for ``service`` that wait; none: not any more."""
        share.heard_at = now
        share.demand.pop(service, None)
        if waiting > 0:
            share.demand[service] = waiting
        self.divide(now)

    def divide(self, now: float) -> None:
        """Set what is offered to each, after any change."""
        capacity = self._capacity()
        if not self.are_several or self._is_open or capacity <= 0:
            for share in self._shares:
                share.offered = capacity
            return
        if self.in_hand or any(share.demand for share in self._shares):
            self._offer_all.clear()
        elif not self._offer_all.is_set:
            self._offer_all.set(now + OFFER_ALL_AFTER_S)
        spare = self._take_back_excess(capacity)
        for share in sorted(self._shares, key=_sent_last):  # who has waited longest for a task is first
            spare = self._meet(share, spare)
        if spare:
            favourite = max(self._shares, key=_sent_last)
            favourite.offered = favourite.held + spare
        for share in self._shares:
            if not share.unused:
                share.unused_since = None
            elif share.unused_since is None:
                share.unused_since = now
        if any(share.demand and share.unused for share in self._shares):
            self._unkept.set_by(now + DEMAND_KEPT_S)

    def _take_back_excess(self, capacity: int) -> int:
        """Offer no more than there is; how many slots are left that are offered to nobody."""
        spare = capacity - sum(share.held for share in self._shares)
        for share in sorted(self._shares, key=_needs_unused):
            if spare >= 0:
                break
            less = min(share.unused, -spare)
            share.offered -= less
            spare += less
        return max(0, spare)

    def _meet(self, needy: Share, spare: int) -> int:
        """Offer ``needy`` what it demands, of the ``spare`` slots and of those of others; how many are still spare."""
        need = needy.waiting - needy.unused
        if need <= 0:
            return spare
        given = min(need, spare)
        _offer(needy, given)
        need -= given
        for other in self._shares:
            if need <= 0:
                break
            if other is needy:
                continue
            moved = min(need, max(0, other.unused - other.waiting))  # it has no use for these
            lead = other.held - moved - needy.held - moved
            is_next = needy.held + moved == 0 and needy.sent_last < other.sent_last  # a slot that all want goes round
            over = -(-lead // 2) if is_next else lead // 2
            moved += max(0, min(need - moved, other.unused - moved, over))
            other.offered -= moved
            _offer(needy, moved)
            need -= moved
        return spare - given

    def _open(self, now: float) -> None:
        if not self.in_hand:
            self._is_open = True
            self.divide(now)

    def _forget_demands(self, now: float) -> None:
        for share in self._shares:
            since = share.unused_since
            if share.demand and since is not None and now - max(since, share.heard_at) >= DEMAND_KEPT_S:
                share.demand.clear()
        self.divide(now)


def _offer(share: Share, slots: int) -> None:
    if slots:
        share.offered = share.held + slots


def _sent_last(share: Share) -> int:
    return share.sent_last


def _needs_unused(share: Share) -> tuple[int, int]:
    """Less for those that need what is offered to them less."""
    return min(share.waiting, share.unused), -share.sent_last
