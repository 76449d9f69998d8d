"""Requests that are not to be handed out yet, because their client or their handler has asked for that.

A delay ends before the deadline of its request: what could only be handed out later is refused, or ends at once. So nothing
expires here. A request that ended while it was delayed stays as a dead entry until it is due, or is swept out.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from cbw.core import catalogue
from cbw.core.agenda import Agenda
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.states import TRANSITIONS, Change, RequestState
from cbw.core.broker.stories import REASON_CHARS_MAX
from cbw.core.broker.tables import Delay, Entry, ServiceRow, WorkerRow
from cbw.core.messages import DELAY_S_MAX, Answer, Request, error_of

DEAD_DELAYS_MAX = 1000
"""Ended requests that may lie here before they are swept out, once they are more than the living ones."""


class Delays:
    """``service_of`` finds the row of a service, and ``queue`` lets a request wait for a worker, which is due."""

    def __init__(
        self,
        outbox: Outbox,
        agenda: Agenda,
        service_of: Callable[[str], ServiceRow],
        queue: Callable[[Entry], None],
    ) -> None:
        self.dead = 0
        self._heap: list[tuple[float, int, Entry]] = []
        self._number = 0
        self._timer = agenda.timer(self._queue_due)
        self._outbox = outbox
        self._service_of = service_of
        self._queue = queue

    def __len__(self) -> int:
        return len(self._heap) - self.dead

    def __iter__(self) -> Iterator[Entry]:
        """Everything that lies here, dead or alive."""
        return (entry for _, _, entry in self._heap)

    def add(self, entry: Entry) -> None:
        """Keep ``entry``, which is in no queue and no hand, until its delay is over."""
        assert entry.delay is not None
        entry.state = TRANSITIONS[Change.DELAYED][entry.state]
        entry.worker = None
        self._service_of(entry.request.service).delayed += 1
        self._number += 1
        heapq.heappush(self._heap, (entry.delay.until, self._number, entry))
        self._timer.set_by(entry.delay.until)

    def add_new(self, entry: Entry) -> None:
        """Keep a new request for as long as its client has asked for."""
        delay_s = entry.request.delay_s or 0.0
        entry.delay = Delay(entry.accepted_at + delay_s)
        self.add(entry)
        if self._outbox.is_tracing:
            self._outbox.trace_entry(catalogue.DELAYED, entry, text=f"not to be handed out for {delay_s:g} s")

    def retry(self, entry: Entry, worker: WorkerRow, answer: Answer) -> str:
        """Keep ``entry`` until its handler is to be called again, as ``answer`` of ``worker`` wants it.

        Returns why that is not done, if its deadline passes before that; otherwise nothing.
        """
        outbox, after_s = self._outbox, answer.retry_after_s
        if after_s is None or not after_s > 0:  # NaN too
            after_s = 0.0
        after_s = min(after_s, DELAY_S_MAX)
        until = outbox.now + after_s
        if entry.deadline_at is not None and entry.deadline_at <= until:
            return f"the deadline is before the next try, which would be in {after_s:.3g} s"
        kind, text = (part[:REASON_CHARS_MAX] for part in error_of(answer.body))
        outbox.counts["requests_retried"] += 1
        if outbox.is_tracing:
            outbox.trace_entry(catalogue.RETRIED, entry, worker, f"in {after_s:.3g} s, after {kind}: {text}")
        entry.delay = Delay(until, retries_of(entry) + 1, kind, text)
        self.add(entry)
        return ""

    def mark_dead(self, entry: Entry) -> None:
        """``entry`` has ended here; its place is passed over when it would be due."""
        self._service_of(entry.request.service).delayed -= 1
        self.dead += 1
        if self.dead > DEAD_DELAYS_MAX and self.dead > len(self):
            self._heap = [item for item in self._heap if item[2].state is RequestState.DELAYED and item[2] is not entry]
            heapq.heapify(self._heap)
            self.dead = 0

    def _queue_due(self, now: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= now:
            entry = heapq.heappop(heap)[2]
            if entry.state is not RequestState.DELAYED:
                self.dead -= 1
                continue
            entry.state = TRANSITIONS[Change.DUE][entry.state]
            self._service_of(entry.request.service).delayed -= 1
            if self._outbox.is_tracing:
                self._outbox.trace_entry(catalogue.DUE, entry)
            self._queue(entry)
        if heap:
            self._timer.set(heap[0][0])


def why_bad(request: Request) -> str:
    """Why the delay of ``request`` is not possible; empty: it is."""
    delay_s, ttl = request.delay_s or 0.0, request.ttl
    if not 0 <= delay_s <= DELAY_S_MAX:  # NaN too
        return f"the delay is {delay_s:g} s; it must be from 0 to {DELAY_S_MAX:.0f}"
    if ttl is not None and ttl <= delay_s:
        return f"it is not to be handed out for {delay_s:g} s, and its deadline is {ttl:g} s"
    return ""


def retries_of(entry: Entry) -> int:
    """How often a handler has asked for another try."""
    return 0 if entry.delay is None else entry.delay.retries


def last_try(entry: Entry) -> str:
    """How often the handler of ``entry``, which was tried before, has failed, and how at last."""
    assert entry.delay is not None
    times = "once" if entry.delay.retries == 1 else f"{entry.delay.retries} times"
    return f"; its handler failed {times}, at last with {entry.delay.kind}: {entry.delay.text}"


def tried(entry: Entry, why_not_again: str) -> str:
    """How often the handler of ``entry`` was called in vain, in words behind its error; nothing if it was not called again."""
    retries = retries_of(entry)
    if not retries and not why_not_again:
        return ""
    times = f"tried {retries + 1} times" if retries else "tried once"
    return f" ({times}{why_not_again and ': '}{why_not_again})"
