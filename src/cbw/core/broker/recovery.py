"""Puts what a journal says back into the tables of a broker that starts.

What was accepted and has not ended waits again. What a worker was given stays with it for a while, as the worker may live and
still be at it. Answers that their clients may not have are parked. Everybody counts as away, and is known when it is back.
"""

from __future__ import annotations

from operator import attrgetter

from cbw.core import catalogue
from cbw.core.broker.clients import Clients
from cbw.core.broker.dead_letters import NOBODY
from cbw.core.broker.journal import Journal
from cbw.core.broker.journal_items import finished_of, joined, letter_of, shifted
from cbw.core.broker.memory import memory_of
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
        for stored in sorted(replay.answers.values(), key=attrgetter("ended_at")):
            self._restore_answer(stored, offset)
        self._restore_requests(replay, offset)
        letters = [letter_of(kept, offset) for kept in replay.dead.values()]
        self._journal.need(letters)
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
            self._journal.need((finished,))
            self._tickets.restore_answer(ticket, finished.answer, number, finished.ended_at)
            return
        client = self._client(stored.asker)
        if client is None:
            self._journal.forget_unwanted(number)
            return
        finished = finished_of(stored, client, offset)
        self._journal.need((finished,))
        self._clients.seen_id(client, stored.id)
        self._requests.parked.park(client, finished.envelope, finished.answer, number)

    def _restore_requests(self, replay: Replay, offset: float) -> None:
        entries = self._entries(replay, offset)
        self._journal.need(entries)
        self._requests.enter(entries)
        begun = replay.begun
        if begun:
            entries = [
                entry for entry in entries if entry.number not in begun or not self._is_with_worker(entry, begun)
            ]
        self._requests.queue_again(entries)

    def _entries(self, replay: Replay, offset: float) -> list[Entry]:
        """The requests as rows, in the order of :func:`_in_order`, without those whose answer nobody can ever have."""
        # A million may wait: all of this is spelt out, and the usual one makes no call but to make its two rows.
        entries: list[Entry] = []
        asker, client, story = None, None, {**replay.failures, **replay.delayed}
        for accepted in _in_order(replay):
            number, parts, deadline_at = accepted.number, accepted.body, accepted.deadline_at
            body = parts[0] if len(parts) == 1 else joined(parts)
            if accepted.asker is not asker:
                asker = accepted.asker
                client = self._asker_of(accepted, body)
            if client is None:
                self._journal.forget_unwanted(number)
                continue
            headers, envelope = accepted.headers, accepted.envelope
            request = Request(accepted.id, accepted.service, body, None, accepted.priority, None, headers)
            is_usual = len(envelope) < 2 and type(body) is bytes and headers is None
            entry = Entry(
                request,
                client,
                ACCEPTED,
                accepted.accepted_at - offset,
                None if deadline_at is None else deadline_at - offset,
                envelope,
                len(body) if is_usual else memory_of(request, envelope),
                accepted.attempt,
                number=number,
            )
            entries.append(entry)
            if number in story:
                self._restore_story(entry, replay, offset)
            dialect = client.dialect
            if not dialect.has_sessions:
                self._clients.seen_id(client, accepted.id)
                if dialect.takes_partials:
                    self._requests.streams.begin_plain(entry)
            elif accepted.stream is not None:
                self._requests.streams.restore(entry, *accepted.stream)
        return entries

    def _asker_of(self, accepted: RequestAccepted, body: bytes) -> ClientRow | None:
        """Who asked; None if it can never come back."""
        asker = accepted.asker
        if asker.dialect == TICKET:
            return self._tickets.restore(asker, fingerprint_of(accepted.service, body))
        return self._client(asker)

    def _restore_story(self, entry: Entry, replay: Replay, offset: float) -> None:
        if (failures := replay.failures.get(entry.number)) is not None:
            self._requests.dead.stories.tell(entry, [shifted(attempt, -offset) for attempt in failures])
        if (delayed := replay.delayed.get(entry.number)) is not None:
            entry.delay = Delay(delayed.until - offset, delayed.retries, delayed.kind, delayed.text)

    def _is_with_worker(self, entry: Entry, begun: dict[int, TaskBegun]) -> bool:
        """Whether the worker that was given ``entry`` may be at it still; then it has it again."""
        task = begun[entry.number]
        dialect = dialects.worker_named(task.dialect or NATIVE)
        if dialect is None:
            return False
        self._workers.restore_task(task, dialect, entry)
        return True


def _in_order(replay: Replay) -> list[RequestAccepted]:
    """The requests, in the order in which they could be handed out, and of their numbers: so they are queued. In the journal, one
    that was delayed stands before others that waited when it was due, and one that was written again behind younger ones.
    """
    delayed = replay.delayed
    records = sorted(replay.accepted.values(), key=attrgetter("number"))
    if delayed:
        records.sort(key=lambda one: delayed[one.number].until if one.number in delayed else one.accepted_at)
    else:
        records.sort(key=attrgetter("accepted_at"))
    return records
