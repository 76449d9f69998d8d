"""``cbw result``."""

from __future__ import annotations

import click

from cbw import settings
from cbw.cli import output
from cbw.cli.call import asking, broker_option, json_option
from cbw.cli.options import keys_option, setting_options


@click.command("result", context_settings={"max_content_width": 110})
@click.argument("ticket")
@broker_option
@setting_options(*settings.CLIENT)
@keys_option
@json_option
def command(ticket: str, broker: str | None, timeout_s: float) -> None:
    """Wait for the answer of the request that was started under TICKET, and print it. It can be fetched again.

    The request goes on if the time is over, or if you press Ctrl-C.

    \b
    ticket=$(cbw call --service report --detach year.json)
    cbw result $ticket --timeout 3600 > report.pdf
    """
    with asking(broker, timeout_s) as client:
        output.data(client.result(ticket))
