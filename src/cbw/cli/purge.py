"""``cbw purge``."""

from __future__ import annotations

import click

from cbw.cli import output
from cbw.cli.completion import complete_service
from cbw.cli.control import Control, age_of, confirm, controlling, json_printed
from cbw.core.broker.acts import PURGE
from cbw.core.broker.looks import LIST_REQUESTS
from cbw.errors import UsageError
from cbw.language import said_of


@click.command("purge", context_settings={"max_content_width": 110})
@click.argument("service", required=False, shell_complete=complete_service)
@click.option("--all", "is_all", is_flag=True, help="Of all services.")
@click.option("--client", metavar="ID", help="Only the requests of this client.")
@click.option(
    "--older-than",
    metavar="AGE",
    callback=age_of,
    help="Only what was accepted at least so long ago: 90s, 10m, 2h, 3d.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask for a confirmation.")
@controlling
@json_printed
def command(
    control: Control,
    service: str | None,
    is_all: bool,
    client: str | None,
    older_than: float | None,
    yes: bool,
    is_json: bool,
) -> None:
    """End the requests of SERVICE that no worker has: each client is told that its request was cancelled. What runs goes on.

    "" is the nameless service.
    """
    if (service is None) is not is_all:
        raise UsageError("what is to be purged?", advice="Name one service, or give --all.")
    chosen = {"service": service, "client": client, "older_than_s": older_than}
    fields = {name: value for name, value in chosen.items() if value is not None}
    if not yes:
        count = sum(
            control.ask(LIST_REQUESTS, **fields, state=state, limit=1)["matching"] for state in ("waiting", "delayed")
        )
        confirm(_asked(count, service))
    count, is_complete = 0, False
    while not is_complete:
        answer = control.ask(PURGE, **fields, all=is_all)
        count, is_complete = count + answer["purged"], answer["is_complete"] or not answer["purged"]
    if is_json:
        output.json({"purged": count})
    else:
        output.line(said_of(count, "1 request purged", "{count} requests purged"))


def _asked(count: int, service: str | None) -> str:
    if service is None:
        return said_of(count, "end 1 request", "end {count} requests, of all services")
    called = output.called(service)
    return said_of(count, "end 1 request of {service}", "end {count} requests of {service}", service=called)
