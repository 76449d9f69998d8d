"""What a broker's status pages show, as plain data."""

from __future__ import annotations

from collections import Counter
from heapq import nlargest
from typing import Any

import msgspec

from cbw.core.broker.core import BrokerCore
from cbw.core.broker.tables import Presence, ReqWorkerRow, ServiceRow, WorkerRow, request_name
from cbw.core.histogram import BOUNDS_S

CLIENTS_SHOWN_MAX = 20
"""Clients that are shown: those with the most requests here."""
WORKERS_SHOWN_MAX = 1000
"""Workers that are shown."""
PROGRESS_SHOWN_MAX = 100
"""Requests whose progress is shown: those that have told theirs last."""
SERVICES_SHOWN_MAX = 200
"""Services that are shown."""


def snapshot(core: BrokerCore, now: float) -> dict[str, Any]:
    """Everything countable about ``core`` at ``now`` (monotonic seconds); times in seconds, ages instead of dates."""
    requests = core.requests
    workers = list(core.workers.by_peer.values())
    services = requests.dispatcher.services.values()
    shown = [service for service in services if service.workers or service.waiting_count or service.delayed]
    waiting = sum(service.waiting_count for service in services)
    delayed = len(requests.dispatcher.delays)
    clients = [client for client in core.clients.by_peer.values() if client.entries]
    latencies = requests.latencies
    return {
        "counts": dict(core.outbox.counts),
        "requests": requests.count,
        "requests_bytes": requests.bytes,
        "parked_bytes": requests.parked.bytes,
        "dead_letters": len(requests.dead),
        "dead_letters_bytes": requests.dead.bytes,
        "tickets": len(core.tickets.rows),
        "results": core.tickets.results,
        "tickets_bytes": core.tickets.bytes,
        "waiting": waiting,
        "delayed": delayed,
        "in_flight": requests.count - waiting - delayed,
        "is_paused": requests.back_pressure.is_on,
        "latency": {"bounds_s": BOUNDS_S, "counts": list(latencies.counts), "total_s": latencies.total_s},
        "clients": len(core.clients.by_peer),
        "busiest_clients": [
            {"client": client.name, "requests": len(client.entries), **(client.key.fields or {})}
            for client in nlargest(CLIENTS_SHOWN_MAX, clients, key=lambda client: len(client.entries))
        ],
        "progress": [
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
        ],
        "services": [
            {
                "service": service.name,
                "waiting": service.waiting_count,
                "delayed": service.delayed,
                "workers": len(service.workers),
                "free_workers": len(service.free),
            }
            for service in shown[:SERVICES_SHOWN_MAX]
        ],
        "other_services": _totals(shown[SERVICES_SHOWN_MAX:]),
        "worker_count": len(workers),
        "worker_states": Counter(map(state_of, workers)),
        "workers": [_worker(worker, now) for worker in workers[:WORKERS_SHOWN_MAX]],
        "limits": msgspec.structs.asdict(core.limits),
    }


def _totals(services: list[ServiceRow]) -> dict[str, int]:
    """What waits for these services, and how many workers are registered for them; a worker counts for each of its services."""
    return {
        "waiting": sum(service.waiting_count for service in services),
        "delayed": sum(service.delayed for service in services),
        "workers": sum(len(service.workers) for service in services),
    }


def _worker(worker: WorkerRow, now: float) -> dict[str, Any]:
    return {
        "worker": worker.name,
        "state": state_of(worker),
        **(worker.key.fields or {}),
        "dialect": worker.dialect.name,
        "services": [service.name for service in worker.services],
        "concurrency": worker.concurrency,
        "credit": worker.credit,
        "in_hand": len(worker.in_hand),
        "answered": worker.answered,
        "failed": worker.failed,
        "age_s": now - worker.since,
        "silent_s": now - worker.heard_at,
    }


def state_of(worker: WorkerRow) -> str:
    """``busy``, ``free``, ``leaving`` (it wants no more), ``late`` (a REQ worker that owes an answer) or ``absent``."""
    if isinstance(worker, ReqWorkerRow) and worker.presence is not Presence.HEARD:
        return "late" if worker.presence is Presence.LATE else "absent"
    if worker.in_hand:
        return "busy"
    return "free" if worker.credit else "leaving"
