"""Services that nobody has served for so long that requests for them end at once (``--unserved``)."""

from __future__ import annotations

import math
from collections.abc import Callable

from cbw.core.agenda import Agenda
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import Entry, ServiceRow

LEFT_MAX = 10_000
"""Most services of which it is remembered when their last worker left. Those that are forgotten count as unserved since then."""


class Impatience:
    """Ends, by ``end``, what waits for a service that had no worker for ``unserved_s`` seconds: since its last one left, or since
    the broker has started.
    """

    def __init__(self, outbox: Outbox, agenda: Agenda, unserved_s: float, end: Callable[[Entry], None]) -> None:
        self.unserved_s = unserved_s
        self._started_at = math.inf
        self._left_at: dict[str, float] = {}
        self._waiting: dict[ServiceRow, None] = {}
        self._outbox = outbox
        self._end = end
        self._start = agenda.timer(self._begin)
        self._start.set(-math.inf)  # in the first step, whose time is not known yet
        self._timer = agenda.timer(self._look_again)

    def _begin(self, now: float) -> None:
        self._started_at = now

    def left(self, service: ServiceRow) -> None:
        """Its last worker is gone."""
        self._left_at.pop(service.name, None)
        self._left_at[service.name] = self._outbox.now
        if len(self._left_at) > LEFT_MAX:
            del self._left_at[next(iter(self._left_at))]

    def look(self, service: ServiceRow) -> None:
        """Requests wait for ``service``, which has no worker."""
        due_at = self._left_at.get(service.name, self._started_at) + self.unserved_s
        if due_at > self._outbox.now:
            self._waiting[service] = None
            self._timer.set_by(due_at)
            return
        for entry in [*service.suspects, *service.waiting]:
            if entry.state is not RequestState.ENDED:
                self._end(entry)

    def _look_again(self, _now: float) -> None:
        waiting, self._waiting = self._waiting, {}
        for service in waiting:
            if not service.workers and service.waiting_count:
                self.look(service)
