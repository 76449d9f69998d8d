"""``cbw resume``."""

from __future__ import annotations

import click

from cbw.cli.completion import complete_paused
from cbw.cli.control import Control, controlling, done, json_printed
from cbw.core.broker.acts import RESUME
from cbw.language import said_of


@click.command("resume", context_settings={"max_content_width": 110})
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...", shell_complete=complete_paused)
@controlling
@json_printed
def command(control: Control, services: tuple[str, ...], is_json: bool) -> None:
    """Hand out requests of paused services again."""
    answers = control.each(RESUME, "services", services)
    done(
        answers,
        "resumed",
        lambda count: said_of(count, "1 service resumed", "{count} services resumed"),
        is_json=is_json,
    )
