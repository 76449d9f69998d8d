"""The broker's own service ``cbw.schema``: what may be asked of its other services, and what they answer, as JSON Schema."""

from __future__ import annotations

from typing import Any

import msgspec

from cbw.core.broker import acts, dead_services, looks
from cbw.core.broker.own_services import Serve, json_answer
from cbw.core.broker.service_list import SERVICES, ListedService
from cbw.core.broker.tables import ClientRow
from cbw.core.broker.why import Why
from cbw.core.messages import Answer

SCHEMA = "cbw.schema"
QUERIES: dict[str, tuple[type, Any]] = {
    looks.SHOW_STATUS: (looks.StatusQuery, dict[str, Any]),
    SERVICES: (looks.StatusQuery, list[ListedService]),
    looks.LIST_WORKERS: (looks.WorkersQuery, looks.WorkerPage),
    looks.LIST_REQUESTS: (looks.RequestsQuery, looks.RequestPage),
    looks.TELL_WHY: (looks.WhyQuery, Why),
    acts.CANCEL: (acts.CancelQuery, acts.CancelledRequests),
    acts.PURGE: (acts.PurgeQuery, acts.Purged),
    acts.DRAIN: (acts.DrainQuery, acts.Drained),
    acts.UNDRAIN: (acts.DrainQuery, acts.Undrained),
    acts.PAUSE: (acts.PauseQuery, acts.Paused),
    acts.RESUME: (acts.PauseQuery, acts.Resumed),
    dead_services.LIST: (dead_services.ListQuery, dict[str, Any]),
    dead_services.SHOW: (dead_services.OneQuery, dict[str, Any]),
    dead_services.REQUEUE: (dead_services.RequeueQuery, dict[str, Any]),
    dead_services.DROP: (dead_services.DropQuery, dict[str, Any]),
}
"""What each service is asked, and what it answers."""


def schema() -> dict[str, Any]:
    """One JSON Schema for everything: the definitions, and by service which of them is asked and which is answered."""
    types = [kind for both in QUERIES.values() for kind in both]
    each, components = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    asked, answered = each[::2], each[1::2]
    services = {
        name: {"asks": one, "answers": other} for name, one, other in zip(QUERIES, asked, answered, strict=True)
    }
    return {"services": services, "$defs": components}


def tell_schema(_client: ClientRow, _body: bytes) -> Answer:
    """Answers a request of any body."""
    return json_answer(schema())


ALL: dict[str, Serve] = {SCHEMA: tell_schema}
