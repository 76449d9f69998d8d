"""What must hold of the whole state of a broker's core. For tests: it looks at everything, after each of many steps, so in few
passes and in plain loops.
"""

from __future__ import annotations

from collections.abc import Iterable

from cbw.core import catalogue
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.memory import memory_of
from cbw.core.broker.states import RequestState
from cbw.core.broker.stories import bytes_of
from cbw.core.broker.tables import ClientRow, Entry, ServiceRow, WorkerRow
from cbw.core.broker.tickets import TICKET_BYTES, WAIT_BYTES

ENDED = RequestState.ENDED


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
    to_place = _check_requests(core, clients)
    assert requests.parked.bytes <= core.limits.parked_bytes_max
    letters = requests.dead
    assert len(letters) <= core.limits.dead_max and 0 <= letters.bytes <= core.limits.dead_bytes_max
    assert (letters.bytes > 0) is (len(letters) > 0)
    counts = core.outbox.counts
    kept = counts["dead_letters_kept"] + counts["dead_letters_pushed_out"]
    assert core.limits.dead_max == 0 or counts[catalogue.GAVE_UP] <= kept, "what was given up is not kept (G5)"
    parked = [reply.size for client in clients if client.parked for reply in client.parked.values()]
    assert requests.parked.count == len(parked)
    assert requests.parked.bytes == sum(parked)
    placed = _check_queues(core)
    count = len(placed)
    for worker in (*core.workers.by_peer.values(), *core.workers.recovering):
        held = [entry for entry in worker.in_hand.values() if entry.state is not ENDED]
        count += len(held)
        placed.update(held)
    assert count == len(placed), "a request in two places"
    assert placed == to_place, "a request in no place"


def _check_requests(core: BrokerCore, clients: Iterable[ClientRow]) -> set[Entry]:
    """Their number and sizes are those that are known. Returns those that have not ended, and are not just being stored."""
    requests = core.requests
    to_place: set[Entry] = set()
    listed = count = size = told = 0
    for client in clients:
        for entry in client.entries.values():
            listed += 1
            if entry.state is ENDED:  # its end is being stored
                continue
            count += 1
            size += memory_of(entry.request, entry.envelope)
            if entry.failures:
                told += bytes_of(entry.failures)
            if entry.state is not RequestState.STORING:
                to_place.add(entry)
    assert requests.journal is not None or count == listed
    assert count == requests.count, (count, requests.count)
    assert size == requests.bytes
    assert requests.dead.stories.bytes == told, "bytes of stories that nobody has"
    return to_place


def _check_queues(core: BrokerCore) -> set[Entry]:
    """What waits is with nobody, and what has ended there is counted. Returns what has not."""
    placed: set[Entry] = set()
    count = dead = dead_counted = delayed = delayed_counted = 0
    for service in core.requests.dispatcher.services.values():
        delayed_counted += service.delayed
        dead_counted += service.waiting.dead + service.dead_suspects
        for entry in (*service.waiting, *service.suspects):
            assert entry.worker is None
            if entry.state is ENDED:
                dead += 1
            else:
                count += 1
                placed.add(entry)
    assert dead == dead_counted
    delays = core.requests.dispatcher.delays
    for entry in delays:
        if entry.state is not ENDED:
            assert entry.state is RequestState.DELAYED and entry.worker is None
            delayed += 1
            placed.add(entry)
    assert delayed == len(delays) == delayed_counted
    assert count + delayed == len(placed), "a request in two places"
    return placed


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
    suspect, has_suspect = worker.suspect, False
    for task, entry in worker.in_hand.items():
        assert entry.worker is worker and entry.task == task
        if entry.state is RequestState.ALONE:
            assert entry is suspect and not has_suspect, "suspects travel alone"
        has_suspect |= entry is suspect
        stream = entry.stream
        if stream is not None and entry.client.dialect.has_sessions:
            assert not worker.takes_streams or stream.sent <= stream.granted, "more parts than room"
            assert stream.granted <= stream.wanted, "a worker knows of more room than its client has"
    assert suspect is None or has_suspect, "a suspect that is not there"
    assert worker.credit >= 0
    for service in worker.services:
        assert service.workers.get(worker.peer) is worker, "a worker that nobody can find"


def _check_service(service: ServiceRow, *, is_stopping: bool, is_paused: bool) -> None:
    free, prefetching, overloaded = service.free, service.prefetching, 0
    assert free.keys().isdisjoint(prefetching)
    for worker in service.workers.values():
        overloaded += worker.is_overloaded
        if is_stopping:
            continue
        hand = len(worker.in_hand)
        credit = 0 if worker.is_drained else worker.credit
        assert (worker in free) is (hand < min(worker.concurrency, credit)), "free, and not known to be"
        wants_more = worker.concurrency <= hand < credit and worker.suspect is None
        assert (worker in prefetching) is wants_more
        assert worker.is_overloaded is (hand > worker.concurrency)
    assert service.overloaded == overloaded
    if is_stopping:
        return
    has_fresh = False
    for entry in service.waiting:  # also of a paused one
        if entry.state is RequestState.WAITING:
            has_fresh = True
            assert entry.deadline_at is None or entry.has_timer, "nobody looks at its deadline"
    if is_paused:
        return
    has_room = free or (prefetching and not service.suspects)
    assert not (has_fresh and has_room), "room for work while work waits (G2)"
    has_idle = service.waiting_count and not all(worker.in_hand for worker in free)
    assert not has_idle, "a worker is idle while work waits (G2)"
