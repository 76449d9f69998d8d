"""``cbw undrain``."""

from __future__ import annotations

import click

from cbw.cli.completion import complete_drained
from cbw.cli.control import Control, controlling, done, json_printed
from cbw.core.broker.acts import UNDRAIN
from cbw.language import said


@click.command("undrain", context_settings={"max_content_width": 110})
@click.argument("workers", nargs=-1, required=True, metavar="WORKER...", shell_complete=complete_drained)
@controlling
@json_printed
def command(control: Control, workers: tuple[str, ...], is_json: bool) -> None:
    """Give workers that were drained work again."""
    done(control.each(UNDRAIN, "workers", workers), "undrained", _told, is_json=is_json)


def _told(count: int) -> str:
    return said("1 worker undrained") if count == 1 else said("{count} workers undrained", count=count)
