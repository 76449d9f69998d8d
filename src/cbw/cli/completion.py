"""What the shell offers when Tab is pressed: names of workers, services and requests that a broker has now."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

from cbw.cli.control import Fields, asked_quickly
from cbw.core.broker.dead_services import LIST as LIST_DEAD
from cbw.core.broker.looks import LIST_REQUESTS, LIST_WORKERS, LISTED_MAX, SHOW_STATUS

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
Offer = tuple[str, str]
"""A name, and what the shell says of it."""

_HARMLESS = re.compile(r"[\w.@%+=:,/][\w.@%+=:,/-]*")
"""Names that are offered. Peers choose them, and shells put what is offered into the command line as it is: one that is called
``$(reboot)`` must be typed by whoever wants it."""
DRAINED = ("drained", "draining")


def completing(offers: Callable[[click.Context], Iterable[Offer]]) -> Complete:
    """Makes a completion of ``offers``: those that begin like what was typed, and are not in the command line already."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        typed = context.params.get(parameter.name or "") or ()
        fitting = (offer for offer in offers(context) if offer[0].startswith(begun) and offer[0] not in typed)
        return [CompletionItem(name, help=text) for name, text in fitting if _HARMLESS.fullmatch(name)]

    return complete


def _workers(context: click.Context, *, are_drained: bool) -> Iterable[Offer]:
    rows = _rows(context, LIST_WORKERS, "workers", limit=LISTED_MAX)
    return [(row["worker"], row["state"]) for row in rows if (row["state"] in DRAINED) is are_drained]


def _services(context: click.Context) -> list[Fields]:
    return _rows(context, SHOW_STATUS, "services")


def _rows(context: click.Context, asked: str, field: str, **fields: Any) -> list[Fields]:
    """The rows that the broker of the command line answers; none without a broker."""
    found: list[Fields] = asked_quickly(context.params.get("broker"), asked, **fields).get(field, [])
    return found


complete_worker = completing(lambda context: _workers(context, are_drained=False))
"""Workers that can be drained."""
complete_drained = completing(lambda context: _workers(context, are_drained=True))
"""Workers that can be undrained."""
complete_service = completing(
    lambda context: [
        (row["service"], f"{row['workers']} workers, {row['waiting']} waiting") for row in _services(context)
    ]
)
"""Services with workers or requests."""
complete_paused = completing(
    lambda context: [(row["service"], "paused") for row in _services(context) if row["is_paused"]]
)
"""Services that can be resumed."""
complete_request = completing(
    lambda context: [
        (row["request"], f"{row['state']}, {row['service']}")
        for row in _rows(context, LIST_REQUESTS, "requests", limit=LISTED_MAX)
    ]
)
"""Requests that have not ended."""
complete_dead = completing(
    lambda context: [
        (row["id"], f"{row['service']}: {row['error'].splitlines()[0] if row['error'] else ''}")
        for row in _rows(context, LIST_DEAD, "letters", limit=LISTED_MAX)
    ]
)
"""Dead letters."""


def complete_called(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """What ``cbw call`` takes: a service and then its arguments, or with ``--service`` a file."""
    is_body = bool(context.params.get("arguments")) or context.params.get("service") is not None
    return [CompletionItem(begun, type="file")] if is_body else complete_service(context, parameter, begun)
