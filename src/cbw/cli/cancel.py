"""``cbw cancel``."""

from __future__ import annotations

import click

from cbw.cli.completion import complete_request
from cbw.cli.control import Control, controlling, done, json_printed
from cbw.core.broker.acts import CANCEL
from cbw.language import said_of


@click.command("cancel", context_settings={"max_content_width": 110})
@click.argument("requests", nargs=-1, required=True, metavar="REQUEST...", shell_complete=complete_request)
@controlling
@json_printed
def command(control: Control, requests: tuple[str, ...], is_json: bool) -> None:
    """End requests, wherever they are: each client is told that its request was cancelled.

    REQUEST is the name of a request in the trace: C1/17, or ticket/T for one that outlives its client. cbw requests lists them. A
    worker that runs one is told; an answer that it sends all the same is thrown away.
    """
    answers = control.each(CANCEL, "requests", requests)
    done(
        answers,
        "cancelled",
        lambda count: said_of(count, "1 request cancelled", "{count} requests cancelled"),
        is_json=is_json,
    )
