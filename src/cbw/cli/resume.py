"""``cbw resume``."""

from __future__ import annotations

import click

from cbw.cli.completion import complete_paused
from cbw.cli.control import Control, controlling, done, json_printed
from cbw.core.broker.acts import RESUME
from cbw.language import said


@click.command("resume", context_settings={"max_content_width": 110})
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...", shell_complete=complete_paused)
@controlling
@json_printed
def command(control: Control, services: tuple[str, ...], is_json: bool) -> None:
    """Hand out requests of paused services again."""
    done(control.each(RESUME, "services", services), "resumed", _told, is_json=is_json)


def _told(count: int) -> str:
    return said("1 service resumed") if count == 1 else said("{count} services resumed", count=count)
