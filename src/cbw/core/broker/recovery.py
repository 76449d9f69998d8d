"""Puts what a journal says back into the tables of a broker that starts.

What was accepted and has not ended waits again. What a worker was given stays with it for a while, as the worker may live and
still be at it. Answers that their clients may not have are parked. Everybody counts as away, and is known when it is back.
"""

from __future__ import annotations

from functools import partial

from cbw.core import catalogue
from cbw.core.broker.clients import Clients
from cbw.core.broker.dead_letters import NOBODY
from cbw.core.broker.journal import Journal
from cbw.core.broker.journal_items import finished_of, joined, letter_of, shifted
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.replay import Replay
from cbw.core.broker.requests import Requests
from cbw.core.broker.states import ACCEPTED
from cbw.core.broker.tables import ClientRow, Delay, Entry
from cbw.core.broker.tickets import Tickets, fingerprint_of
from cbw.core.broker.workers import Workers
from cbw.core.journal_records import TICKET, AnswerStored, Asker, RequestAccepted, TaskBegun
from cbw.core.messages import Request
from cbw.core.port import is_anonymous
from cbw.wire import dialects

NATIVE = "cbw"
"""The dialect of workers that say hello."""


class Recovery:
    """Puts a :class:`Replay` into the rooms of a core that has not been stepped yet."""

    def __init__(
        self,
        outbox: Outbox,
        requests: Requests,
        clients: Clients,
        tickets: Tickets,
        workers: Workers,
        journal: Journal,
    ) -> None:
        self._outbox = outbox
        self._requests = requests
        self._clients = clients
        self._tickets = tickets
        self._workers = workers
        self._journal = journal
        self._askers: dict[Asker, ClientRow | None] = {NOBODY: requests.dead.nobody}

    def restore(self, replay: Replay, now: float) -> None:
        """Do it, at ``now`` (monotonic seconds)."""
        offset = self._journal.restore(replay, now)
        for stored in sorted(replay.answers.values(), key=lambda stored: stored.ended_at):
            self._restore_answer(stored, offset)
        for accepted in sorted(replay.accepted.values(), key=partial(_waits_since, replay)):
            self._restore_request(accepted, replay.begun.get(accepted.number), replay, offset)
        letters = [letter_of(kept, offset) for kept in replay.dead.values()]
        for letter in letters:
            self._journal.need(letter)
        self._requests.dead.restore(letters)
        for peer, name in replay.workers.items():
            if (dialect := dialects.worker_named(name)) is not None:
                self._workers.restore_returning(peer, dialect)
        if replay.sizes:
            kept = f"{len(replay.accepted)} requests, {len(replay.answers)} answers"
            text = f"{kept}, {len(replay.begun)} tasks, {len(letters)} dead letters"
            self._outbox.trace(catalogue.RECOVERED, count=len(replay.accepted), text=text)

    def _client(self, asker: Asker) -> ClientRow | None:
        """The client that asked; None if it can never come back."""
        if asker not in self._askers:
            dialect = dialects.client_named(asker.dialect)
            is_gone = dialect is None or (not dialect.has_sessions and is_anonymous(asker.peer))
            self._askers[asker] = None if is_gone or dialect is None else self._clients.restore(asker, dialect)
        return self._askers[asker]

    def _restore_answer(self, stored: AnswerStored, offset: float) -> None:
        number = stored.number
        if stored.asker.dialect == TICKET:
            ticket = self._tickets.restore(stored.asker, stored.fingerprint)
            finished = finished_of(stored, ticket, offset)
            self._journal.need(finished)
            self._tickets.restore_answer(ticket, finished.answer, number, finished.ended_at)
            return
        client = self._client(stored.asker)
        if client is None:
            self._journal.forget_unwanted(number)
            return
        finished = finished_of(stored, client, offset)
        self._journal.need(finished)
        self._clients.seen_id(client, stored.id)
        self._requests.parked.park(client, finished.envelope, finished.answer, number)

    def _restore_request(
        self, accepted: RequestAccepted, begun: TaskBegun | None, replay: Replay, offset: float
    ) -> None:
        number = accepted.number
        request = Request(
            accepted.id, accepted.service, joined(accepted.body), None, accepted.priority, None, accepted.headers
        )
        if accepted.asker.dialect == TICKET:
            fingerprint = fingerprint_of(request.service, request.body)
            client: ClientRow | None = self._tickets.restore(accepted.asker, fingerprint)
        else:
            client = self._client(accepted.asker)
        if client is None:
            self._journal.forget_unwanted(accepted.number)
            return
        self._clients.seen_id(client, accepted.id)
        deadline_at = None if accepted.deadline_at is None else accepted.deadline_at - offset
        accepted_at = accepted.accepted_at - offset
        entry = Entry(request, client, ACCEPTED, accepted_at, deadline_at, accepted.envelope)
        entry.attempt = accepted.attempt
        entry.number = number
        if (failures := replay.failures.get(number)) is not None:
            self._requests.dead.stories.tell(entry, [shifted(attempt, -offset) for attempt in failures])
        if (delayed := replay.delayed.get(number)) is not None:
            entry.delay = Delay(delayed.until - offset, delayed.retries, delayed.kind, delayed.text)
        if accepted.stream is not None and client.dialect.has_sessions:
            self._requests.streams.restore(entry, *accepted.stream)
        elif client.dialect.takes_partials:
            self._requests.streams.begin_plain(entry)
        self._journal.need(entry)
        self._requests.enter(entry)
        dialect = dialects.worker_named(begun.dialect or NATIVE) if begun is not None else None
        if begun is None or dialect is None:
            self._requests.queue_again(entry)
        else:
            self._workers.restore_task(begun, dialect, entry)


def _waits_since(replay: Replay, accepted: RequestAccepted) -> tuple[float, int]:
    """Since when the request could be handed out, and its number: in this order requests are queued. In the journal, one that was
    delayed stands before others that waited when it was due, and one that was written again behind others that are younger.
    """
    delayed = replay.delayed.get(accepted.number)
    return accepted.accepted_at if delayed is None else delayed.until, accepted.number
