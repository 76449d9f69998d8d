"""``cbw why``."""

from __future__ import annotations

import click

from cbw.cli import output
from cbw.cli.completion import complete_request
from cbw.cli.control import Control, controlling, json_printed, reason_text, story_lines
from cbw.core.broker.looks import TELL_WHY
from cbw.errors import CbwError, HandlerFailed


@click.command("why", context_settings={"max_content_width": 110})
@click.argument("request", shell_complete=complete_request)
@controlling
@json_printed
def command(control: Control, request: str, is_json: bool) -> None:
    """Tell why a request has not ended: who has it, or what it waits for, and for how long about. If attempts at it have failed,
    its story follows: when what happened.

    REQUEST is its name in the trace: C1/17, or ticket/T for one that outlives its client. cbw requests lists them.
    """
    try:
        told = control.ask(TELL_WHY, request=request)
    except HandlerFailed as error:
        raise CbwError(error.text, advice=f"The log may have its story: cbw logs story {request}") from None
    if is_json:
        output.json(told)
        return
    output.line(f"{request}: {reason_text(told)}")
    if len(told["story"]) > 2:  # otherwise the first line has said it all
        for line in story_lines(told):
            output.line(line)
