"""``cbw drain``."""

from __future__ import annotations

import click

from cbw.cli.completion import complete_worker
from cbw.cli.control import Control, controlling, done, json_printed
from cbw.core.broker.acts import DRAIN
from cbw.language import said_of


@click.command("drain", context_settings={"max_content_width": 110})
@click.argument("workers", nargs=-1, required=True, metavar="WORKER...", shell_complete=complete_worker)
@controlling
@json_printed
def command(control: Control, workers: tuple[str, ...], is_json: bool) -> None:
    """Give workers nothing more: they finish what they have begun, and give back what they have not.

    So a worker can be stopped without failing a request: cbw ps tells when it is drained. cbw undrain gives it work again.
    Other brokers that it serves go on giving it work: drain it at each of them.
    """
    answers = control.each(DRAIN, "workers", workers)
    done(
        answers, "drained", lambda count: said_of(count, "1 worker drained", "{count} workers drained"), is_json=is_json
    )
