"""``cbw drain``."""

from __future__ import annotations

import click

from cbw.cli.completion import complete_worker
from cbw.cli.control import Control, controlling, done, json_printed
from cbw.core.broker.acts import DRAIN
from cbw.language import said


@click.command("drain", context_settings={"max_content_width": 110})
@click.argument("workers", nargs=-1, required=True, metavar="WORKER...", shell_complete=complete_worker)
@controlling
@json_printed
def command(control: Control, workers: tuple[str, ...], is_json: bool) -> None:
    """Give workers nothing more: they finish what they have begun, and give back what they have not.

    So a worker can be stopped without failing a request: cbw ps tells when it is drained. cbw undrain gives it work again.
    Other brokers that it serves go on giving it work: drain it at each of them.
    """
    done(control.each(DRAIN, "workers", workers), "drained", _told, is_json=is_json)


def _told(count: int) -> str:
    return said("1 worker drained") if count == 1 else said("{count} workers drained", count=count)
