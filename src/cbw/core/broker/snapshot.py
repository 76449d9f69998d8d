"""What a broker's status pages show, as plain data."""

from __future__ import annotations

from collections import Counter
from heapq import nlargest
from itertools import islice
from typing import Any, Protocol

import msgspec

from cbw.core.broker.clients import Clients
from cbw.core.broker.durations import Durations, ServiceDurations
from cbw.core.broker.limits import Limits
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.requests import Requests
from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import Entry, Presence, ReqWorkerRow, ServiceRow, WorkerRow, request_name, running_of
from cbw.core.broker.tickets import Tickets
from cbw.core.broker.verdict import verdict
from cbw.core.broker.workers import Workers
from cbw.core.histogram import BOUNDS_S, Latencies, quantile_of

CLIENTS_SHOWN_MAX = 20
"""Clients that are shown: those with the most requests here."""
WORKERS_SHOWN_MAX = 1000
"""Workers that are shown."""
PROGRESS_SHOWN_MAX = 100
"""Requests whose progress is shown: those that have told theirs last."""
SERVICES_SHOWN_MAX = 200
"""Services that are shown."""
WANTED_SHOWN_MAX = 1000
"""Services of which is shown how many workers they could use."""


class Rooms(Protocol):
    """The rooms of a broker's core, for looking at."""

    limits: Limits
    outbox: Outbox
    requests: Requests
    tickets: Tickets
    clients: Clients
    workers: Workers


def snapshot(core: Rooms, now: float, questions: int = 0) -> dict[str, Any]:
    """Everything countable about ``core`` at ``now`` (monotonic seconds); times in seconds, ages instead of dates. So many of its
    requests are ``questions`` for this, and left out.
    """
    requests = core.requests
    workers = list(core.workers.by_peer.values())
    services = requests.dispatcher.services.values()
    shown = [service for service in services if service.workers or service.waiting_count or service.delayed]
    waiting = sum(service.waiting_count for service in services)
    delayed = len(requests.dispatcher.delays)
    running, elsewhere = running_of(workers), _elsewhere(workers)
    paused = requests.dispatcher.paused
    clients = [client for client in core.clients.by_peer.values() if client.entries]
    durations = requests.durations
    durations.count()
    status = {
        "counts": dict(core.outbox.counts),
        "requests": requests.count - questions,
        "requests_bytes": requests.bytes,
        "parked_bytes": requests.parked.bytes,
        "dead_letters": len(requests.dead),
        "dead_letters_bytes": requests.dead.bytes,
        "tickets": len(core.tickets.rows),
        "results": core.tickets.results,
        "tickets_bytes": core.tickets.bytes,
        "waiting": waiting,
        "delayed": delayed,
        "in_flight": requests.count - questions - waiting - delayed,
        "is_paused": requests.back_pressure.is_on,
        "refusal": requests.journal.refusal if requests.journal is not None else "",
        "latency": {"bounds_s": BOUNDS_S, **_counts(durations.all)},
        "service_durations": [_durations(name, one) for name, one in durations.by_service.items()],
        "other_durations": _durations("", durations.others),
        "clients": len(core.clients.by_peer),
        "busiest_clients": [
            {"client": client.name, "requests": len(client.entries), **(client.key.fields or {})}
            for client in nlargest(CLIENTS_SHOWN_MAX, clients, key=lambda client: len(client.entries))
        ],
        "progress": _progress(requests, now),
        "services": [
            _service(service, running, elsewhere, now, durations, is_paused=service.name in paused)
            for service in shown[:SERVICES_SHOWN_MAX]
        ],
        "other_services": _totals(shown[SERVICES_SHOWN_MAX:], now),
        "workers_wanted": [
            {"service": name, "wanted": wanted}
            for name, wanted in islice(requests.dispatcher.workers_wanted.count(running).items(), WANTED_SHOWN_MAX)
        ],
        "worker_count": len(workers),
        "worker_states": Counter(map(state_of, workers)),
        "shared_workers": sum(worker.is_shared for worker in workers),
        "workers": [shown_worker(worker, now) for worker in workers[:WORKERS_SHOWN_MAX]],
        "limits": msgspec.structs.asdict(core.limits),
    }
    status["verdict"] = msgspec.structs.asdict(verdict(status))
    return status


def _progress(requests: Requests, now: float) -> list[dict[str, Any]]:
    """What handlers have told last of how far they are."""
    return [
        {
            "request": request_name(entry),
            "service": entry.request.service,
            "worker": entry.worker.name if entry.worker is not None else "",
            "running_s": now - entry.handed_out_at,
            "done": made.done,
            "total": made.total,
            "text": made.text,
        }
        for entry, made in list(requests.streams.progress.items())[-PROGRESS_SHOWN_MAX:]
    ]


def _counts(latencies: Latencies) -> dict[str, Any]:
    return {"counts": list(latencies.counts), "total_s": latencies.total_s}


def _durations(service: str, durations: ServiceDurations) -> dict[str, Any]:
    requests, attempts = _counts(durations.requests), _counts(durations.attempts)
    return {"service": service, "requests": requests, "attempts": attempts}


def _service(
    service: ServiceRow,
    running: Counter[str],
    elsewhere: Counter[str],
    now: float,
    durations: Durations,
    *,
    is_paused: bool,
) -> dict[str, Any]:
    return {
        "service": service.name,
        "waiting": service.waiting_count,
        "oldest_s": _oldest_s(service, now),
        "running": running[service.name],
        "delayed": service.delayed,
        "workers": len(service.workers),
        "free_workers": len(service.free),
        "elsewhere_workers": elsewhere[service.name],
        **msgspec.structs.asdict(durations.figures(service.name, now)),
        "age_s": now - durations.known_since(service),
        "is_paused": is_paused,
    }


def _oldest_s(service: ServiceRow, now: float) -> float:
    """How long the request has waited that has waited longest; 0: none waits."""
    return max(0.0, now - service.oldest_since)


def _totals(services: list[ServiceRow], now: float) -> dict[str, float]:
    """What waits for these services, and how many workers are registered for them; a worker counts for each of its services."""
    return {
        "waiting": sum(service.waiting_count for service in services),
        "oldest_s": max((_oldest_s(service, now) for service in services), default=0.0),
        "delayed": sum(service.delayed for service in services),
        "workers": sum(len(service.workers) for service in services),
    }


def shown_worker(worker: WorkerRow, now: float) -> dict[str, Any]:
    """What is shown of ``worker``. It ``is_shared`` with other brokers: which, it does not say.

    It is ``at`` its oldest request, for ``at_s``, and ``mean_s`` is the time between two answers
    while it has work; ``busy`` is the share of its life that it had work, ``rate`` its answers a second
    lately. Of its last thousand answers or so, half came within
    ``p50_s`` of the handing out, and 99 % within ``p99_s``; what was answered has to be counted before.
    """
    at, took = oldest(worker), worker.took
    busy_s = worker.busy_s + (now - max(worker.answered_at, at.handed_out_at) if at else 0.0)
    return {
        "worker": worker.name,
        "state": state_of(worker),
        "is_shared": worker.is_shared,
        **(worker.key.fields or {}),
        "dialect": worker.dialect.name,
        "services": [service.name for service in worker.services],
        "concurrency": worker.concurrency,
        "credit": worker.credit,
        "in_hand": len(worker.in_hand),
        "answered": worker.answered,
        "failed": worker.failed,
        "rate": _rate(worker, now),
        "at": request_name(at) if at else None,
        "at_service": at.request.service if at else None,
        "at_s": now - at.handed_out_at if at else None,
        "mean_s": mean_s(worker),
        "p50_s": None if took is None else quantile_of(took, 0.5),
        "p99_s": None if took is None else quantile_of(took, 0.99),
        "busy": min(1.0, busy_s / max(now - worker.since, 1e-3)),
        "age_s": now - worker.since,
        "silent_s": now - worker.heard_at,
    }


def _rate(worker: WorkerRow, now: float) -> float:
    """Answers of ``worker`` a second, since its oldest mark."""
    since, answered = worker.rate_marks[0] if worker.rate_marks else (worker.since, 0)
    return (worker.answered - answered) / max(now - since, 1.0)


def oldest(worker: WorkerRow) -> Entry | None:
    """What ``worker`` has had in hand for longest."""
    return next((entry for entry in worker.in_hand.values() if entry.state is not RequestState.ENDED), None)


def mean_s(worker: WorkerRow) -> float | None:
    """The mean time between two answers of ``worker`` while it has work; None: it has not answered yet."""
    return worker.busy_s / worker.answered if worker.answered else None


def _elsewhere(workers: list[WorkerRow]) -> Counter[str]:
    """How many workers of each service are with the other brokers that they serve."""
    away = (worker for worker in workers if worker.is_shared and state_of(worker) == "elsewhere")
    return Counter(service.name for worker in away for service in worker.services)


def state_of(worker: WorkerRow) -> str:
    """``busy``, ``free``, ``elsewhere`` (other brokers that it serves too have all its slots), ``leaving`` (it wants no more),
    ``late`` (a REQ worker that owes an answer) or ``absent``; ``draining`` and ``drained``: it gets nothing more, as somebody has
    asked for that, and has something in hand or has not.
    """
    if isinstance(worker, ReqWorkerRow) and worker.presence is not Presence.HEARD:
        return "late" if worker.presence is Presence.LATE else "absent"
    if worker.is_drained:
        return "draining" if worker.in_hand else "drained"
    if worker.in_hand:
        return "busy"
    if worker.credit:
        return "free"
    return "elsewhere" if worker.is_shared else "leaving"
