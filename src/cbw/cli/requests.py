"""``cbw requests``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import click

from cbw.cli import output
from cbw.cli.completion import complete_service
from cbw.cli.control import Control, Fields, age_of, cell_text, controlling, json_printed, seconds, show_rows
from cbw.cli.option_types import Integer
from cbw.core.broker.looks import LIST_REQUESTS, LISTED_MAX
from cbw.language import said

CELLS: Sequence[tuple[str, Callable[[Fields], str]]] = (
    ("request", lambda row: str(row["request"])),
    ("service", lambda row: output.called(row["service"])),
    ("state", lambda row: str(row["state"])),
    ("for", lambda row: seconds(row["in_state_s"])),
    ("worker", lambda row: row["worker"] or ""),
    ("attempt", lambda row: str(row["attempt"])),
    ("bytes", lambda row: str(row["body_bytes"])),
    ("age", lambda row: seconds(row["age_s"])),
)
"""The headings of the columns, and what stands in them."""


@click.command("requests", context_settings={"max_content_width": 110})
@click.option("--state", type=click.Choice(["waiting", "running", "delayed"]), help="Only those in this state.")
@click.option(
    "--service",
    metavar="NAME",
    shell_complete=complete_service,
    help='Only those of this service; "" is the nameless one.',
)
@click.option("--client", metavar="ID", help="Only those of this client.")
@click.option("--older-than", metavar="AGE", callback=age_of, help="Accepted at least so long ago: 90s, 10m, 2h, 3d.")
@click.option("--limit", type=Integer(1, LISTED_MAX), default=50, show_default=True, metavar="N", help="At most N.")
@click.option("--offset", type=Integer(0), default=0, metavar="N", help="Leave out the first N.")
@controlling
@json_printed
def command(
    control: Control,
    state: str | None,
    service: str | None,
    client: str | None,
    older_than: float | None,
    limit: int,
    offset: int,
    is_json: bool,
) -> None:
    """List the requests that have not ended, those that have been in their state for longest first.

    A table on a terminal, otherwise lines with tabs between the columns: request, service, state and how long it lasts, worker,
    attempt, bytes of the body, and how long ago the broker accepted it.
    """
    chosen = {"state": state, "service": service, "client": client, "older_than_s": older_than}
    fields = {name: value for name, value in chosen.items() if value is not None}
    page = control.ask(LIST_REQUESTS, **fields, limit=limit, offset=offset)
    if is_json:
        output.json(page)
        return
    rows = [[cell_text(show, one) for _, show in CELLS] for one in page["requests"]]
    show_rows([name for name, _ in CELLS], rows, right=("for", "attempt", "bytes", "age"))
    if sys.stdout.isatty():
        output.line(_footer(page))


def _footer(page: Fields) -> str:
    shown, matching = len(page["requests"]), page["matching"]
    if page.get("is_complete", True):
        return said("{shown} of {matching} requests; cbw why REQUEST tells more of one", shown=shown, matching=matching)
    return said(
        "{shown} of {matching} or more requests; cbw why REQUEST tells more of one", shown=shown, matching=matching
    )
