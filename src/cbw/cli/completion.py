"""What the shell offers when Tab is pressed: names of workers, services and requests that a broker has now."""

from __future__ import annotations

import re
from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_HARMLESS = re.compile(r"[\w.@%+=:,/][\w.@%+=:,/-]*")
"""Names that are offered. Peers choose them, and shells put what is offered into the command line as it is: one that is called
``$(reboot)`` must be typed by whoever wants it."""


def completing(kind: str) -> Complete:
    """Completes names of a kind of :data:`offers.OFFERS`: those that begin like what was typed, and are not in the line yet."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        from cbw.cli.offers import OFFERS  # here: it takes a tenth of a second, and only Tab needs it

        typed = context.params.get(parameter.name or "") or ()
        fitting = (offer for offer in OFFERS[kind](context) if offer[0].startswith(begun) and offer[0] not in typed)
        return [CompletionItem(name, help=text) for name, text in fitting if _HARMLESS.fullmatch(name)]

    return complete


complete_worker = completing("worker")
"""Workers that can be drained."""
complete_drained = completing("drained")
"""Workers that can be undrained."""
complete_service = completing("service")
"""Services with workers or requests."""
complete_paused = completing("paused")
"""Services that can be resumed."""
complete_request = completing("request")
"""Requests that have not ended."""
complete_dead = completing("dead")
"""Dead letters."""


def complete_called(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """What ``cbw call`` takes: a service and then its arguments, or with ``--service`` a file."""
    is_body = bool(context.params.get("arguments")) or context.params.get("service") is not None
    return [CompletionItem(begun, type="file")] if is_body else complete_service(context, parameter, begun)
