"""Planted bugs in what an operator does to a broker. Importing this adds them to the other canaries."""

from __future__ import annotations

from typing import Any

import cbw.core.broker.acts
from cbw.core.broker.dispatch import Dispatcher
from cbw.core.broker.finding import find
from cbw.core.broker.worker_table import WorkerTable

from .canary import Patch, canary
from .plan import Plan


def _with_operator(plan: Plan) -> None:
    plan.rates["operator"] = 4.0


@canary("control", _with_operator)
def drained_workers_get_more() -> list[Patch]:
    """It is only noted that a worker is drained."""
    return [(WorkerTable, "drain", lambda table, worker: table.drained.update({worker.name: worker.boot}))]


@canary("control", _with_operator)
def paused_services_are_served() -> list[Patch]:
    """A pause changes nothing."""
    return [(Dispatcher, "pause", lambda dispatcher, name: None)]


@canary("control", _with_operator)
def a_purge_takes_what_runs() -> list[Patch]:
    """What a worker has is ended too."""

    def find_all(rooms: Any, chosen: Any, states: Any, *more: Any) -> Any:
        return find(rooms, chosen, ("running", *states), *more)

    return [(cbw.core.broker.acts, "find", find_all)]
