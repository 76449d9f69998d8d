"""``cbw undrain``."""

from __future__ import annotations

import click

from cbw.cli.completion import complete_drained
from cbw.cli.control import Control, controlling, done, json_printed
from cbw.core.broker.acts import UNDRAIN
from cbw.language import said_of


@click.command("undrain", context_settings={"max_content_width": 110})
@click.argument("workers", nargs=-1, required=True, metavar="WORKER...", shell_complete=complete_drained)
@controlling
@json_printed
def command(control: Control, workers: tuple[str, ...], is_json: bool) -> None:
    """Give workers that were drained work again."""
    answers = control.each(UNDRAIN, "workers", workers)
    done(
        answers,
        "undrained",
        lambda count: said_of(count, "1 worker undrained", "{count} workers undrained"),
        is_json=is_json,
    )
