"""Names that a broker has now: workers, services, requests and dead letters, for the completion of a command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

from cbw.cli.control import Fields, asked_quickly
from cbw.core.broker.dead_services import LIST as LIST_DEAD
from cbw.core.broker.looks import LIST_REQUESTS, LIST_WORKERS, LISTED_MAX, SHOW_STATUS

Offer = tuple[str, str]
"""A name, and what the shell says of it."""
DRAINED = ("drained", "draining")


def _rows(context: click.Context, asked: str, field: str, **fields: Any) -> list[Fields]:
    """The rows that the broker of the command line answers; none without a broker."""
    found: list[Fields] = asked_quickly(context.params.get("broker"), asked, **fields).get(field, [])
    return found


def _workers(context: click.Context, *, are_drained: bool) -> list[Offer]:
    rows = _rows(context, LIST_WORKERS, "workers", limit=LISTED_MAX)
    return [(row["worker"], row["state"]) for row in rows if (row["state"] in DRAINED) is are_drained]


def _services(context: click.Context) -> list[Offer]:
    rows = _rows(context, SHOW_STATUS, "services")
    return [(row["service"], f"{row['workers']} workers, {row['waiting']} waiting") for row in rows]


def _paused(context: click.Context) -> list[Offer]:
    return [(row["service"], "paused") for row in _rows(context, SHOW_STATUS, "services") if row["is_paused"]]


def _requests(context: click.Context) -> list[Offer]:
    rows = _rows(context, LIST_REQUESTS, "requests", limit=LISTED_MAX)
    return [(row["request"], f"{row['state']}, {row['service']}") for row in rows]


def _dead(context: click.Context) -> list[Offer]:
    rows = _rows(context, LIST_DEAD, "letters", limit=LISTED_MAX)
    return [(row["id"], f"{row['service']}: {row['error'].splitlines()[0] if row['error'] else ''}") for row in rows]


OFFERS: dict[str, Callable[[click.Context], Iterable[Offer]]] = {
    "worker": lambda context: _workers(context, are_drained=False),
    "drained": lambda context: _workers(context, are_drained=True),
    "service": _services,
    "paused": _paused,
    "request": _requests,
    "dead": _dead,
}
"""What is offered in the place of each kind of name."""
