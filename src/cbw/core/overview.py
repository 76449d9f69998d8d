"""What a broker's status pages show, as plain data."""

from __future__ import annotations

from collections import Counter
from heapq import nlargest
from typing import Any

import msgspec

from cbw.core.broker import BrokerCore
from cbw.core.latency import BOUNDS_S
from cbw.core.tables import PlainWorker, Presence, Worker

CLIENTS_MAX = 20
"""So many clients are told of, those with the most requests here."""
WORKERS_MAX = 1000
"""And so many workers."""
SERVICES_MAX = 200


def overview(core: BrokerCore, now: float) -> dict[str, Any]:
    """Everything countable about ``core`` at ``now`` (monotonic seconds); times in seconds, ages instead of dates."""
    workers = list(core.workers.values())
    services = [service for service in core.services.values() if service.workers or service.waiting_count]
    waiting = sum(service.waiting_count for service in core.services.values())
    clients = [client for client in core.clients.values() if client.entries]
    return {
        "counts": dict(core.counts),
        "requests": core.requests,
        "requests_bytes": core.requests_bytes,
        "kept_bytes": core.kept_bytes,
        "waiting": waiting,
        "in_flight": core.requests - waiting,
        "is_paused": core.is_paused,
        "latency": {"bounds_s": BOUNDS_S, "counts": list(core.latencies.counts), "total_s": core.latencies.total_s},
        "clients": len(core.clients),
        "busiest_clients": [
            {"client": client.name, "requests": len(client.entries)}
            for client in nlargest(CLIENTS_MAX, clients, key=lambda client: len(client.entries))
        ],
        "services": [
            {
                "service": service.name,
                "waiting": service.waiting_count,
                "workers": len(service.workers),
                "free_workers": len(service.free),
            }
            for service in services[:SERVICES_MAX]
        ],
        "worker_count": len(workers),
        "worker_states": Counter(map(state_of, workers)),
        "workers": [_worker(worker, now) for worker in workers[:WORKERS_MAX]],
        "limits": msgspec.structs.asdict(core.limits),
    }


def _worker(worker: Worker, now: float) -> dict[str, Any]:
    return {
        "worker": worker.name,
        "state": state_of(worker),
        "dialect": "plain" if worker.is_plain else "cbw",
        "services": [service.name for service in worker.services],
        "concurrency": worker.concurrency,
        "credit": worker.credit,
        "in_hand": len(worker.in_hand),
        "answered": worker.answered,
        "failed": worker.failed,
        "age_s": now - worker.since,
        "silent_s": now - worker.heard_at,
    }


def state_of(worker: Worker) -> str:
    """``busy``, ``free``, ``leaving`` (it wants no more), ``late`` (a plain one that owes an answer) or ``absent``."""
    if isinstance(worker, PlainWorker) and worker.presence is not Presence.HEARD:
        return "late" if worker.presence is Presence.LATE else "absent"
    if worker.in_hand:
        return "busy"
    return "free" if worker.credit else "leaving"
