"""What a seed means for unusual requests: those that outlive their clients, and those that want more than an answer."""

from __future__ import annotations

from random import Random

import msgspec

from .plan import Job, Plan, Wish

TICKETS_FROM = 10**15
"""Tickets are numbers, so that the trace's name of a request ends with a number of its own; those of clients are smaller."""
TICKETS_MAX = 12
UNSERVED = 0.2
"""Share of the brokers that end what waits for a service that nobody serves."""
EXTRAS = 0.3
"""Chance that the requests of a run want one of the things that are not usual."""
OWN = "own"
OWN_NOTHING = "cbw.nothing"
"""No broker has it."""
OWN_SERVICES = ("cbw.services", "cbw.status", "cbw.schema", OWN_NOTHING)


def draw_tickets(plan: Plan, rng: Random) -> None:
    """Whether some requests outlive their clients. The chance for it is its own, so that all else is as it would be without.

    What a broker forgets without a journal is gone; what it does with one is not known here.
    """
    if not plan.clients or plan.journal is not None or plan.brokers > 1 or rng.random() < 0.3:
        return
    is_ample = rng.random() < 0.7
    plan.limits = msgspec.structs.replace(
        plan.limits,
        results_bytes_max=plan.limits.results_bytes_max if is_ample else 8_000,
        results_keep_s=rng.choice([86400.0, 86400.0, 3.0]),
    )
    is_doubtful = is_ample and plan.limits.requests_max >= 1000 and plan.limits.requests_bytes_max >= 1 << 20
    for at, wish in _wishes(plan, rng, are_doubtful=is_doubtful):
        rng.choice(plan.clients).wishes.append((at, wish))


def _wishes(plan: Plan, rng: Random, *, are_doubtful: bool) -> list[tuple[float, Wish]]:
    """What programs want, and when. ``are_doubtful``: several jobs may be meant by one ticket."""
    services = sorted({service for worker in plan.workers for service in worker.services}) or [""]
    made: list[tuple[float, Wish]] = []
    for number in range(rng.randint(1, TICKETS_MAX)):
        ticket = str(TICKETS_FROM + number)
        job = Job(
            f"TICKET/{number}", rng.choice(services), 0.1 * rng.random(), rng.choice(["", "", "", "raise", "die"])
        )
        at = rng.uniform(0, plan.faults_s)
        made.append((at, Wish(ticket, job, is_start=True)))
        if rng.random() < 0.3:  # again, or something else with the same ticket
            is_other = are_doubtful and rng.random() < 0.4
            other = Job(f"TICKET/{number}-other", job.service, job.work_s) if is_other else job
            made.append((at + rng.random(), Wish(ticket, other, is_start=True)))
        for _ in range(rng.randint(0, 4)):
            wish = Wish(ticket, job, is_start=False, ttl_s=rng.choice([None, None, 0.05, 1.0]))
            made.append((at + rng.uniform(-0.2, 2), wish))
    return made


def draw_extras(plan: Plan, rng: Random) -> None:
    """What some requests of our clients want besides, and how long others may wait for a service that nobody serves."""
    if rng.random() < UNSERVED:
        plan.limits = msgspec.structs.replace(plan.limits, unserved_s=rng.choice([0.5, 3.0]))
    wants_headers, is_choosy, asks_broker, has_limits = (rng.random() < EXTRAS for _ in range(4))
    for job in [job for client in plan.clients for _, jobs in client.bursts for job in jobs]:
        if wants_headers:
            job.headers = {"traceparent": "00-" + job.token, "of": job.token}
        job.requires_worker = is_choosy and rng.random() < 0.2
        job.wants_progress = rng.random() < 0.5
        if job.kind or job.delay_s:
            continue
        if has_limits and rng.random() < 0.2:
            job.kind = f"limit{job.work_s * 10 ** rng.uniform(-1, 0.5):.4f}"
        elif asks_broker and rng.random() < 0.1:
            job.kind, job.service = OWN, rng.choice(OWN_SERVICES)
            job.pad, job.requires_worker = 0, False
