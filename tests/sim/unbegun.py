"""What waits, for the checker: in the broker's queues, or unbegun with a worker."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import TYPE_CHECKING

from cbw.core.broker.snapshot import state_of
from cbw.core.broker.states import RequestState

from .account import SeenAttempt, number_of
from .operator import Operator
from .peer import Peer
from .plain_workers import PlainWorker
from .workers import SimWorker

if TYPE_CHECKING:
    from .broker import SimBroker


def not_begun(
    broker: SimBroker, attempts: Mapping[int, SeenAttempt], paused: Container[str], is_calm: Callable[[Peer], bool]
) -> list[tuple[int, str]]:
    """The requests that have not begun, of services that are not paused: in the queues, or with a worker that nothing has
    disturbed.
    """
    core = broker.core
    found = [
        (number_of(entry), service.name)
        for service in core.requests.dispatcher.services.values()
        if service.name not in paused
        for entry in (*service.waiting, *service.suspects)
        if entry.state is not RequestState.ENDED
    ]
    for worker in core.workers.by_peer.values():
        connection = broker.workers.connection_of(worker.peer)
        if worker.dialect.returns_silently or connection is None or connection.link.connection is not connection:
            continue
        if not is_calm(connection.link.process):
            continue
        for task, entry in worker.in_hand.items():
            is_wanted = entry.state is not RequestState.ENDED and entry.request.service not in paused
            if is_wanted and attempts[task].began_at is None:
                found.append((number_of(entry), entry.request.service))
    return found


def has_settled(broker: SimBroker, since: float, worker: Peer) -> bool:
    """Whether nothing has disturbed ``worker`` since then."""
    connection = worker.connection_to(broker.workers)
    if connection is None or connection.is_lost or not worker.is_alive:
        return False
    known = broker.core.workers.by_peer.get(connection.peer)
    if known is not None and state_of(known) == "late":
        worker.disturbed()  # a lab worker's answer did not come, so it is left in peace
    return worker.settled_at < since


def idle_servers(
    servers: Iterable[SimWorker | PlainWorker],
    broker: SimBroker,
    operator: Operator,
    is_calm: Callable[[Peer], bool],
    since: float,
) -> dict[str, SimWorker | PlainWorker]:
    """One that nothing has disturbed and that is idle ``since`` then, as itself sees it, for each service that has one."""
    idle: dict[str, SimWorker | PlainWorker] = {}
    for worker in servers:
        if (isinstance(worker, PlainWorker) and worker.is_orphan) or operator.has_drained(worker):
            continue
        if isinstance(worker, SimWorker) and not worker.is_registered_at(broker.number):
            continue  # another one has its name there
        if worker.idle_since is not None and worker.idle_since < since and is_calm(worker):
            for service in worker.services:
                idle[service] = worker
    return idle
