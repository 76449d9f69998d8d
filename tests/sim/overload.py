"""What a broker and its clients owe each other when there is too much to do (G9)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from cbw.core.broker.core import BrokerCore
from cbw.core.broker.limits import Limits
from cbw.core.client.events import Ended
from cbw.core.client.retries import JITTER
from cbw.core.record import Record

from .ledger import Note
from .plan import Job, Plan
from .tickets import NAMES
from .world import ViolationError


def refused_as_busy(job: Job, ended: Ended, submitted_at: float | None, limits: Limits, now: float) -> None:
    """A client was told that the broker is full: it must be small, and there must have been no time to come back."""
    if limits.requests_max >= 1000 and limits.requests_bytes_max >= 1 << 21:
        raise ViolationError(f"G9: {job.token} was refused, but the broker is not full")
    hint_s = ended.answer.retry_after_s
    if job.ttl_s is None or submitted_at is None or hint_s is None:
        return
    if submitted_at + job.ttl_s - now > hint_s * (1 + JITTER):
        raise ViolationError(f"G9: {job.token} was not sent again, though it had the time")


def need_limits_kept(core: BrokerCore, plan: Plan) -> None:
    """The broker holds no more than it may. A program of the lab cannot be refused: it is not read any more, a turn later."""
    limits, requests, turn = plan.limits, core.requests, plan.turn_messages
    requests_max, bytes_max = limits.requests_max, limits.requests_bytes_max
    if plan.plain_clients:
        requests_max, bytes_max = 2 * requests_max + turn, 2 * bytes_max + 50_000 * turn
    if requests.count > requests_max:
        raise ViolationError(f"G9: {requests.count} requests")
    if requests.bytes > bytes_max:
        raise ViolationError(f"G9: {requests.bytes} bytes")
    if requests.parked.bytes > limits.parked_bytes_max:
        raise ViolationError(f"G9: {requests.parked.bytes} bytes of answers are parked")


class Fairness:
    """Clients take turns within a service, and a client's own requests go by their priorities.

    Knows the requests that wait in the broker and were never handed out, and who was served while their clients waited. What
    was handed out before and waits again comes first or travels alone: it takes no turn. A broker that ``has_journal`` lets a
    request wait when it is stored.
    """

    def __init__(self, *, has_journal: bool) -> None:
        self._has_journal = has_journal
        self._storing: dict[int, tuple[Record, Job]] = {}
        self._waiting: dict[str, dict[str, dict[int, int]]] = defaultdict(dict)  # service → client → request → priority
        self._served: dict[tuple[str, str], Counter[str]] = {}  # who had how many turns since this one was in line

    def clear(self) -> None:
        """The broker has died."""
        self._storing.clear()
        self._waiting.clear()
        self._served.clear()

    def heard(self, record: Record, request: int, job: Job) -> None:
        """Something has happened to ``request``, which is for ``job``."""
        client = record.client
        if record.request.startswith(NAMES):  # what one client has started takes turns of its own
            client = f"tickets of {client}"
        is_due = record.event == "due" and record.attempt == 1
        if is_due or (record.event == "accepted" and not self._has_journal):
            self._begins_to_wait(record.service, client, request, job.priority)
        elif record.event == "accepted":
            self._storing[request] = record, job
        elif record.event == "handed_out":
            self._handed_out(record.service, client, request)
        else:
            self._storing.pop(request, None)
            self._ended(record.service, client, request)

    def stored(self, requests: Iterable[int]) -> None:
        """The broker is told that these are stored. Those that have not ended begin to wait."""
        for request in requests:
            if request in self._storing:
                record, job = self._storing.pop(request)
                self._begins_to_wait(record.service, record.client, request, job.priority)

    def recovered(self, notes: Iterable[Note]) -> None:
        """These wait in a new broker, the oldest first."""
        for note in notes:
            self._begins_to_wait(note.service, note.client, note.id, note.priority)

    def _begins_to_wait(self, service: str, client: str, request: int, priority: int) -> None:
        waiting = self._waiting[service].setdefault(client, {})
        if not waiting:
            self._served[service, client] = Counter()
        waiting[request] = priority

    def _ended(self, service: str, client: str, request: int) -> None:
        """It waits no longer, and had no turn."""
        waiting = self._waiting[service].get(client, {})
        waiting.pop(request, None)
        if not waiting:
            self._waiting[service].pop(client, None)
            self._served.pop((service, client), None)

    def _handed_out(self, service: str, client: str, request: int) -> None:
        """Its client has had a turn, if this was the first time."""
        own = self._waiting[service].get(client, {})
        if request not in own:
            return
        first = max(own.values())
        best = next(other for other, priority in own.items() if priority == first)
        if request != best:
            raise ViolationError(f"G9: {client}/{request} was handed out before {client}/{best}, whose turn it was")
        for other in self._waiting[service]:
            if other != client:
                turns = self._served[service, other]
                turns[client] += 1
                if turns[client] > 1:
                    raise ViolationError(f"G9: {client} had {turns[client]} turns while {other} waited for one")
        self._served[service, client] = Counter()
        self._ended(service, client, request)
