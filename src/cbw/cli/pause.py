"""``cbw pause``."""

from __future__ import annotations

import click

from cbw.cli import output
from cbw.cli.completion import complete_service
from cbw.cli.control import Control, controlling, json_printed
from cbw.core.broker.acts import PAUSE
from cbw.language import said


@click.command("pause", context_settings={"max_content_width": 110})
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...", shell_complete=complete_service)
@controlling
@json_printed
def command(control: Control, services: tuple[str, ...], is_json: bool) -> None:
    """Let the requests of services wait: what a worker has goes on, and deadlines hold. cbw resume hands out again.

    "" is the nameless service. A pause ends with the broker.
    """
    answers = control.each(PAUSE, "services", services)
    if is_json:
        output.json({"paused": sum(answer["paused"] for answer in answers), "all_paused": answers[-1]["all_paused"]})
    else:
        output.line(said("paused: {services}", services=", ".join(map(output.called, answers[-1]["all_paused"]))))
