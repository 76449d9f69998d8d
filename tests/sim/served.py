"""Whether a service is served: nobody is told that it is not while it is, and nobody waits longer than they may (G6)."""

from __future__ import annotations

from collections.abc import Iterable

from cbw.core.broker.core import BrokerCore
from cbw.core.broker.limits import Limits
from cbw.core.messages import NO_WORKER, Answer, Status, error_of
from cbw.core.record import Record

from .account import Accepted
from .world import ViolationError

UNSERVED = "--unserved"
"""What is said of a request that has waited for too long for a service that nobody serves."""
EXACTNESS_S = 1e-6
LATE_S = 0.02
"""A request whose deadline has passed may wait so much longer for its end."""
SLOW_S = 0.1
"""Seconds for which a request may wait longer than it should."""


class Served:
    """When each service was served for the last time, by a broker that ends what waits for others."""

    def __init__(self, limits: Limits) -> None:
        self._unserved_s = limits.unserved_s
        self._began_at: float | None = None
        self._served_at: dict[str, float] = {}
        self._served: list[str] = []  # after the last step
        self._now = 0.0  # of the last step
        self._told: dict[int, None] = {}  # requests that have ended because nobody served them then

    def clear(self) -> None:
        """The broker has died."""
        self._began_at = None
        self._served_at.clear()
        self._served.clear()
        self._told.clear()

    def stepped(self, core: BrokerCore, now: float) -> None:
        """The core has decided."""
        if self._began_at is None:
            self._began_at = now
        self._now = now
        if self._unserved_s is not None:
            served = [service.name for service in core.requests.dispatcher.services.values() if service.workers]
            self._served_at.update(dict.fromkeys([*self._served, *served], now))  # its last worker was there until now
            self._served = served

    def _since(self, service: str) -> float:
        began_at = self._began_at if self._began_at is not None else 0.0
        return self._served_at.get(service, began_at)

    def ended(self, record: Record, accepted: Accepted, now: float) -> None:
        """A request ends, as its service has not been served for so long.

        Raises:
            ViolationError: it has.
        """
        unserved_s = now - (self._since(record.service) if self._began_at is not None else now)
        if self._unserved_s is None or (self._began_at is not None and unserved_s < self._unserved_s - EXACTNESS_S):
            raise ViolationError(f"G6: {accepted.token} ended, and its service was served {unserved_s:.3f} s ago")

    def told(self, answer: Answer, token: str, core: BrokerCore, now: float) -> None:
        """A client is told of its request, perhaps not for the first time: what could not be delivered remains its end (G7).

        Raises:
            ViolationError: it is told that nobody serves it, and somebody does.
        """
        if answer.status is not Status.EXPIRED or UNSERVED in (error := error_of(answer.body))[1]:
            return
        is_first = answer.id not in self._told
        if is_first and error[0] == NO_WORKER and error[1].startswith("no worker here serves "):
            self._told[answer.id] = None
            name = error[1].removeprefix("no worker here serves ").partition(";")[0]
            for service in core.requests.dispatcher.services.values():
                known = repr(service.name) if service.name else "requests that name no service"
                if known == name and any(worker.since < now for worker in service.workers.values()):
                    raise ViolationError(f"G6: {token} is told that {name} is not served, and it is")

    def check(self, core: BrokerCore, now: float) -> None:
        """
        Raises:
            ViolationError: a request waits longer than it may.
        """
        if self._unserved_s is None or self._began_at is None:
            return
        for service in core.requests.dispatcher.services.values():
            if service.waiting_count and not service.workers:
                late_s = now - self._since(service.name) - self._unserved_s
                if late_s > SLOW_S:
                    raise ViolationError(f"G6: requests for {service.name!r} wait {late_s:.3f} s too long for a worker")


def nobody_waits_past_the_deadline(requests: Iterable[Accepted], stored_at: float, now: float) -> None:
    """What was accepted before ``stored_at`` need not wait for the journal.

    Raises:
        ViolationError: one waits, and its deadline has passed.
    """
    for accepted in requests:
        if accepted.deadline_at is not None and accepted.deadline_at < now - LATE_S:
            is_waiting = not accepted.attempts or accepted.attempts[-1].void
            if is_waiting and accepted.at < stored_at:
                raise ViolationError(f"G6: {accepted.token} waits past its deadline")
