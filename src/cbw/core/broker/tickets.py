"""Requests that outlive their clients: each belongs to a ticket, under which its answer is kept for whoever asks for it.

A ticket stands in the place of a client (:class:`~cbw.core.broker.tables.TicketRow`), so what happens to its request is decided
where it is for all others, in :mod:`.requests`. Here it is decided who is told, and for how long the answer is kept.

Clients that wait are forgotten with their connections: after the next hello they send everything again that is not answered.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from itertools import islice

import msgspec

from cbw.core import catalogue
from cbw.core.agenda import Agenda
from cbw.core.broker.limits import Limits
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.requests import Requests
from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import ClientRow, DeadLetter, TicketRow
from cbw.core.catalogue import EventName
from cbw.core.dialect import ClientDialect
from cbw.core.identities import NAME_CHARS_MAX, is_name
from cbw.core.journal_records import TICKET, Asker
from cbw.core.messages import NO_WORKER, Answer, Collect, Message, Request, Start, Started, Status, error_body
from cbw.core.plain_messages import Envelope

REQUEST_ID = 1
"""The number of the one request that a ticket has."""
TICKET_BYTES = 1500
"""What a ticket takes beside its name and its answer: its row, and what the journal remembers of it (measured: 1300 bytes, and
1550 with a journal)."""
WAIT_BYTES = 300
"""What a client takes that waits for a ticket: its place in two tables (measured: 200 bytes), and its message."""
WAITS_SHARE = 4
"""One client that waits for tickets may take one of so many parts of the room for all, so that it leaves some for others."""
EXPIRED_MAX = 1000
"""Answers that are dropped at once when their time is over, so that a broker does not stand still for a million."""
FINGERPRINT_BYTES = 16
"""Bytes by which two requests with one ticket are compared: nobody finds two with the same 128 bits by accident."""


class TicketDialect(ClientDialect):
    """In the place of a dialect for those that nobody talks to. They can be refused, like clients that have sessions."""

    name = TICKET
    has_sessions = True


_DIALECT = TicketDialect()


class Tickets:
    """All tickets. What they take together, with those that wait for them, is bounded by ``results_bytes_max``: the oldest
    answers make room, and if there are none, nothing more is taken on.
    """

    def __init__(self, outbox: Outbox, requests: Requests, limits: Limits, agenda: Agenda) -> None:
        self.rows: dict[str, TicketRow] = {}
        self.bytes = 0
        self._results: OrderedDict[TicketRow, None] = OrderedDict()  # whose requests have ended, oldest first
        self._waits: dict[ClientRow, dict[int, TicketRow]] = {}  # for which tickets clients wait, by their messages
        self._expiry = agenda.timer(self._expire)
        self._outbox = outbox
        self._requests = requests
        self._limits = limits
        requests.on_ticket = self._heard

    @property
    def results(self) -> int:
        """How many answers are kept."""
        return len(self._results)

    # --- what clients say

    def start(self, client: ClientRow, start: Start) -> None:
        """``client`` wants this request to be started, unless it is here already."""
        fingerprint = fingerprint_of(start.service, start.body)
        row = self.rows.get(start.ticket)
        if not is_name(start.ticket):
            text = f"a ticket has 1 to {NAME_CHARS_MAX} characters"
            self._tell_error(client, start.id, Status.BAD_REQUEST, text)
        elif row is None:
            self._begin(client, start, fingerprint)
        elif row.fingerprint != fingerprint:
            text = f"another request, with another body or service, has the ticket {start.ticket!r}"
            self._tell_error(client, start.id, Status.TICKET_TAKEN, text)
        else:
            self._outbox.counts["requests_joined"] += 1
            if row.is_stored:
                self._tell(client, self._started(start.id))
            else:
                self._wait(client, start.id, row, is_start=True)

    def _begin(self, client: ClientRow, start: Start, fingerprint: bytes) -> None:
        row = TicketRow(start.ticket, client.name, _DIALECT, fingerprint)
        row.key = client.key
        expiries = self._requests.expiries
        if start.requires_worker and not expiries.is_served(start.service):
            text = expiries.why_unserved(client, start.service, self._outbox.now)
            self._tell(client, Answer(start.id, Status.EXPIRED, error_body(NO_WORKER, text)))
            return
        if not self._may_wait(client, start.id, _size_of(row)):
            return
        self._add(row)
        self._wait(client, start.id, row, is_start=True)
        times = start.ttl, start.priority, start.delay_s
        self._accept(row, Request(REQUEST_ID, start.service, start.body, *times, start.headers))

    def _accept(self, row: TicketRow, request: Request, envelope: Envelope = ()) -> None:
        self._requests.accept(row, [request], envelope)
        if row.entries and self._requests.journal is None:
            self._stored(row)

    def collect(self, client: ClientRow, collect: Collect) -> None:
        """``client`` wants the answer of a ticket, now or when there is one."""
        row = self.rows.get(collect.ticket)
        if row is None:
            text = f"this broker has no request with the ticket {collect.ticket[:NAME_CHARS_MAX]!r}, or no longer"
            self._tell_error(client, collect.id, Status.UNKNOWN_TICKET, text)
        elif row.answer is not None:
            self._tell(client, Answer(collect.id, row.answer.status, row.answer.body))
        else:
            self._wait(client, collect.id, row, is_start=False)

    def cancel(self, client: ClientRow, key: int, *, is_late: bool = False) -> None:
        """``client`` does not want an answer to its message ``key`` any more. The request goes on.

        ``is_late``: the client's time is over, and it wants to know where the request is.
        """
        row = self._waits.get(client, {}).pop(key, None)
        if row is None:
            return
        is_start = row.waiting.pop((client, key))
        self.bytes -= WAIT_BYTES
        if is_late and not is_start and (entry := row.entries.get(REQUEST_ID)) is not None:
            kind, text = self._requests.expiries.why(entry, self._outbox.now)
            self._tell(client, Answer(key, Status.EXPIRED, error_body(kind, f"{text}; it goes on")))

    def leave(self, client: ClientRow) -> None:
        """``client`` has lost its connection. It asks again for all that it wants when it has another."""
        for key in list(self._waits.get(client, ())):
            self.cancel(client, key)
        self._waits.pop(client, None)

    def _wait(self, client: ClientRow, key: int, row: TicketRow, *, is_start: bool) -> None:
        """Let ``client`` wait for ``row``, if there is room."""
        self.cancel(client, key)  # it is sent again
        if self._may_wait(client, key, 0):
            self._waits.setdefault(client, {})[key] = row
            row.waiting[client, key] = is_start
            self.bytes += WAIT_BYTES

    def _may_wait(self, client: ClientRow, key: int, size: int) -> bool:
        """Whether there is room for one more that waits, and ``size`` bytes more; if not, ``client`` is told."""
        count = len(self._waits.get(client, ()))
        if (count + 1) * WAIT_BYTES > self._limits.results_bytes_max // WAITS_SHARE:
            text = f"this client waits for {count} tickets already (--results-bytes-max)"
        elif not self._has_room(size + WAIT_BYTES):
            text = f"tickets take {self.bytes} bytes already (--results-bytes-max)"
        else:
            return True
        counts = self._outbox.counts
        counts["requests_refused"] += 1
        counts["refused_busy"] += 1
        self._tell_error(client, key, Status.BUSY, text)
        return False

    def _started(self, key: int) -> Started:
        return Started(key, is_durable=self._requests.journal is not None)

    def _tell(self, client: ClientRow, message: Message) -> None:
        self._outbox.tell_client(client, message)

    def _tell_error(self, client: ClientRow, key: int, status: Status, text: str) -> None:
        self._tell(client, Answer(key, status, error_body(status.name.lower(), text)))

    # --- what becomes of their requests

    def _heard(self, row: TicketRow, answer: Answer | None, number: int) -> None:
        if answer is None:
            self._stored(row)
        else:
            self._ended(row, answer, number)

    def _stored(self, row: TicketRow) -> None:
        """The request of ``row`` is accepted, and stored if there is a journal: those that wait for no more can go."""
        row.is_stored = True
        for (client, key), is_start in list(row.waiting.items()):
            if is_start:
                self.cancel(client, key)
                self._tell(client, self._started(key))

    def _ended(self, row: TicketRow, answer: Answer, number: int) -> None:
        """The request of ``row`` has ended, and its end is stored as ``number`` if there is a journal; or it was refused."""
        row.number = number
        if not row.is_stored and answer.status is Status.OK:  # the broker has answered it itself, at once
            self._stored(row)
        for client, key in list(row.waiting):
            self.cancel(client, key)
            self._tell(client, Answer(key, answer.status, answer.body, answer.retry_after_s))
        if not row.is_stored or answer.status is Status.STOPPING:
            self._remove(row)
        else:
            self._keep(row, answer, self._outbox.now)

    def _keep(self, row: TicketRow, answer: Answer, ended_at: float) -> None:
        row.answer, row.ended_at = answer, ended_at
        row.entries, row.waiting = {}, {}  # a dict that was filled keeps its size: 400 bytes for a day
        self.bytes += len(answer.body)
        self._results[row] = None
        self._expiry.set_by(ended_at + self._limits.results_keep_s)
        if _size_of(row) + len(answer.body) > self._limits.results_bytes_max:  # no room for it, whoever goes
            self._drop(row, catalogue.RESULT_DROPPED, "results_dropped", "it is larger than --results-bytes-max")
        self._has_room(0)

    # --- dead letters

    def requeue(self, letter: DeadLetter, request: Request, envelope: Envelope) -> TicketRow | None:
        """Send ``letter`` again as ``request``, whose answer goes to the ticket that the letter has, and return that.

        None: nothing was done, as it has no ticket, or another answer belongs to that by now, or there is no room for it.
        """
        row = self._reopened(letter) if letter.ticket else None
        if row is not None:
            self._accept(row, msgspec.structs.replace(request, id=REQUEST_ID), envelope)
        return row

    def _reopened(self, letter: DeadLetter) -> TicketRow | None:
        fingerprint, row = fingerprint_of(letter.service, letter.body), self.rows.get(letter.ticket)
        if row is None:
            row = TicketRow(letter.ticket, letter.client, _DIALECT, fingerprint)
            if not self._has_room(_size_of(row)):
                return None
            self._add(row)
        elif row.fingerprint != fingerprint or (row.answer is not None and row.answer.status is Status.OK):
            return None
        elif row.answer is not None:
            del self._results[row]
            self.bytes -= len(row.answer.body)
            row.answer = None
            self._drop_stored(row)
        elif (entry := row.entries.get(REQUEST_ID)) is not None and entry.state is RequestState.ENDED:
            row.number = entry.number  # the error that made it a dead letter is just being stored
            del row.entries[REQUEST_ID]
            self._drop_stored(row)
        return row

    def _drop_stored(self, row: TicketRow) -> None:
        if row.number and self._requests.journal is not None:
            self._requests.journal.drop([row.number])
        row.number = 0

    # --- from a journal

    def restore(self, asker: Asker, fingerprint: bytes) -> TicketRow:
        """A ticket of an earlier broker, whose journal calls it ``asker``."""
        row = TicketRow(asker.name, asker.boot, _DIALECT, fingerprint)
        row.is_stored = True
        self._add(row)
        self._has_room(0)
        return row

    def restore_answer(self, row: TicketRow, answer: Answer, number: int, ended_at: float) -> None:
        """The answer of ``row``, which stands in the journal as ``number``. The oldest comes first."""
        row.number = number
        self._keep(row, answer, ended_at)

    # --- the room that they take

    def _add(self, row: TicketRow) -> None:
        self.rows[row.ticket] = row
        self.bytes += _size_of(row)

    def _remove(self, row: TicketRow) -> None:
        del self.rows[row.ticket]
        self._results.pop(row, None)
        self.bytes -= _size_of(row) + (len(row.answer.body) if row.answer is not None else 0)
        self._drop_stored(row)

    def _has_room(self, size: int) -> bool:
        """Drop the oldest answers until ``size`` bytes more are within the bound; whether they are."""
        bytes_max = self._limits.results_bytes_max
        while self._results and self.bytes + size > bytes_max:
            why = f"there is too much (--results-bytes-max {bytes_max})"
            self._drop(next(iter(self._results)), catalogue.RESULT_DROPPED, "results_dropped", why)
        return self.bytes + size <= bytes_max

    def _expire(self, now: float) -> None:
        keep_s = self._limits.results_keep_s
        for row in list(islice(self._results, EXPIRED_MAX)):
            if row.ended_at + keep_s > now:
                break
            self._drop(row, catalogue.RESULT_EXPIRED, "results_expired", f"it was kept for {keep_s:g} s")
        if self._results:
            self._expiry.set(next(iter(self._results)).ended_at + keep_s)

    def _drop(self, row: TicketRow, event: EventName, count: str, why: str) -> None:
        self._remove(row)
        self._outbox.counts[count] += 1
        self._outbox.trace(event, request=row.request_name(REQUEST_ID), client=row.name, text=why)


def fingerprint_of(service: str, body: bytes) -> bytes:
    """What two requests have in common that ask the same of the same service."""
    digest = hashlib.blake2b(service.encode(errors="replace"), digest_size=FINGERPRINT_BYTES)
    digest.update(b"\0")
    digest.update(body)
    return digest.digest()


def _size_of(row: TicketRow) -> int:
    return TICKET_BYTES + len(row.ticket)
