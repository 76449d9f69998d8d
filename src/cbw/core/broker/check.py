"""What must hold of the whole state of a broker's core. For tests: it looks at everything."""

from __future__ import annotations

from collections import Counter

from cbw.core import catalogue
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.memory import memory_of
from cbw.core.broker.states import RequestState
from cbw.core.broker.stories import bytes_of
from cbw.core.broker.tables import ServiceRow, WorkerRow
from cbw.core.broker.tickets import TICKET_BYTES, WAIT_BYTES


def check(core: BrokerCore) -> None:
    """Assert that the state of ``core`` makes sense.

    Raises:
        AssertionError: it does not, which is a fault of the core.
    """
    _check_places(core)
    _check_tickets(core)
    for worker in core.workers.by_peer.values():
        _check_hand(worker)
    dispatcher, is_stopping = core.requests.dispatcher, core.requests.stopping.is_on
    is_full = core.requests.journal is not None and core.requests.journal.is_full
    for service in dispatcher.services.values():
        is_paused = is_full or service.name in dispatcher.paused
        _check_service(service, is_stopping=is_stopping, is_paused=is_paused)


def _check_places(core: BrokerCore) -> None:
    """Every request is in exactly one place, and the sums are right."""
    requests, clients = core.requests, [*core.clients.all, *core.tickets.rows.values()]
    listed = [entry for client in clients for entry in client.entries.values()]
    alive = [
        entry for entry in listed if entry.state is not RequestState.ENDED
    ]  # of the others, the ends are being stored
    assert requests.journal is not None or len(alive) == len(listed)
    assert len(alive) == requests.count, (len(alive), requests.count)
    assert sum(memory_of(entry.request, entry.envelope) for entry in alive) == requests.bytes
    assert requests.parked.bytes <= core.limits.parked_bytes_max
    letters = requests.dead
    assert len(letters) <= core.limits.dead_max and 0 <= letters.bytes <= core.limits.dead_bytes_max
    assert (letters.bytes > 0) is (len(letters) > 0)
    told = sum(bytes_of(entry.failures or ()) for entry in alive)
    assert letters.stories.bytes == told, "bytes of stories that nobody has"
    counts = core.outbox.counts
    kept = counts["dead_letters_kept"] + counts["dead_letters_pushed_out"]
    assert core.limits.dead_max == 0 or counts[catalogue.GAVE_UP] <= kept, "what was given up is not kept (G5)"
    parked = [reply for client in clients for reply in client.parked.values()]
    assert requests.parked.count == len(parked)
    assert requests.parked.bytes == sum(reply.size for reply in parked)
    services = requests.dispatcher.services.values()
    queued = [entry for service in services for entry in (*service.waiting, *service.suspects)]
    workers = (*core.workers.by_peer.values(), *core.workers.recovering)
    held = [entry for worker in workers for entry in worker.in_hand.values()]
    dead = sum(service.waiting.dead + service.dead_suspects for service in services)
    assert sum(entry.state is RequestState.ENDED for entry in queued) == dead
    delays = requests.dispatcher.delays
    delayed = [entry for entry in delays if entry.state is not RequestState.ENDED]
    assert all(entry.state is RequestState.DELAYED and entry.worker is None for entry in delayed)
    assert len(delayed) == len(delays) == sum(service.delayed for service in services)
    places = Counter(id(entry) for entry in (*queued, *held, *delayed) if entry.state is not RequestState.ENDED)
    assert set(places.values()) <= {1}, "a request in two places"
    assert places.keys() == {id(e) for e in alive if e.state is not RequestState.STORING}, "a request in no place"
    assert all(entry.worker is None for entry in queued)


def _check_tickets(core: BrokerCore) -> None:
    """Nobody waits for what is there, nobody who is away waits, and the sums are right."""
    tickets = core.tickets
    rows = tickets.rows.values()
    kept = [row.answer for row in rows if row.answer is not None]
    assert len(kept) == tickets.results
    assert all((row.answer is None) == bool(row.entries) for row in rows), "a ticket has a request or an answer"
    assert not any(row.waiting for row in rows if row.answer is not None), "somebody waits for an answer that is there"
    waiting = [client for row in rows for client, _ in row.waiting]
    assert all(client.absent_since is None for client in waiting)
    size = sum(TICKET_BYTES + len(row.ticket) for row in rows) + sum(len(answer.body) for answer in kept)
    assert tickets.bytes == size + WAIT_BYTES * len(waiting)
    assert not kept or tickets.bytes <= core.limits.results_bytes_max


def _check_hand(worker: WorkerRow) -> None:
    suspects = [entry for entry in worker.in_hand.values() if entry.state is RequestState.ALONE]
    assert suspects in ([], [worker.suspect]), "suspects travel alone"
    assert worker.suspect is None or worker.suspect in worker.in_hand.values(), "a suspect that is not there"
    assert worker.credit >= 0
    assert all(service.workers.get(worker.peer) is worker for service in worker.services), (
        "a worker that nobody can find"
    )
    streams = [e.stream for e in worker.in_hand.values() if e.stream is not None and e.client.dialect.has_sessions]
    assert not worker.takes_streams or all(stream.sent <= stream.granted for stream in streams), "more parts than room"
    assert all(stream.granted <= stream.wanted for stream in streams), "a worker knows of more room than its client has"
    assert all(entry.worker is worker and entry.task == task for task, entry in worker.in_hand.items())


def _check_service(service: ServiceRow, *, is_stopping: bool, is_paused: bool) -> None:
    assert not (set(service.free) & set(service.prefetching))
    assert service.overloaded == sum(worker.is_overloaded for worker in service.workers.values())
    if is_stopping:
        return
    for worker in service.workers.values():
        hand = len(worker.in_hand)
        credit = 0 if worker.is_drained else worker.credit
        assert (worker in service.free) is (hand < min(worker.concurrency, credit)), "free, and not known to be"
        wants_more = worker.concurrency <= hand < credit and worker.suspect is None
        assert (worker in service.prefetching) is wants_more
        assert worker.is_overloaded is (hand > worker.concurrency)
    waiting = [entry for entry in service.waiting if entry.state is RequestState.WAITING]  # also of a paused one
    assert all(entry.deadline_at is None or entry.has_timer for entry in waiting), "nobody looks at its deadline"
    if is_paused:
        return
    has_fresh = any(entry.state is RequestState.WAITING for entry in service.waiting)
    has_room = service.free or (service.prefetching and not service.suspects)
    assert not (has_fresh and has_room), "room for work while work waits (G2)"
    has_idle = any(not worker.in_hand for worker in service.free)
    assert not (has_idle and service.waiting_count), "a worker is idle while work waits (G2)"
