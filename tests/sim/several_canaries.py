"""Planted bugs in how several brokers share their workers. Importing this adds them to the others."""

from __future__ import annotations

from cbw.core.broker.demands import Demands
from cbw.core.worker.shares import Shares

from .canary import Patch, canary
from .plan import Plan


def _several_brokers_at_work(plan: Plan) -> None:
    plan.brokers = 2 if plan.workers else 1
    plan.rates = {}
    plan.workers = plan.workers[:1]
    plan.plain_workers = plan.plain_workers if not plan.workers else []
    for worker in plan.workers:
        worker.services, worker.concurrency = ["", "a", "b"], 1
    for client in plan.clients:
        for _, jobs in client.bursts:
            for job in jobs:
                job.work_s, job.kind, job.ttl_s = 0.05, "", None


@canary("G2", _several_brokers_at_work)
def demands_are_ignored() -> list[Patch]:
    """A worker that has work of one broker never has a slot for another."""
    return [(Shares, "demanded", lambda self, share, service, waiting, now: None)]


@canary("G2", _several_brokers_at_work)
def slots_stay_where_they_are() -> list[Patch]:
    """What one broker has no use for is not given to another that has demanded it."""
    return [(Shares, "_meet", lambda self, needy, spare: spare)]


@canary("G2", _several_brokers_at_work)
def offers_end_at_once() -> list[Patch]:
    """A demand is forgotten in the moment in which it is met, and never repeated."""

    def forget(self: Shares, now: float) -> None:
        for share in self._shares:
            if share.demand and share.unused:
                share.demand.clear()
        self.divide(now)

    return [(Shares, "_forget_demands", forget), (Demands, "offers_less", lambda self, worker: None)]
