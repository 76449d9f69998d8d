"""``cbw top``."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import Any, NoReturn

import click

from cbw.cli import output
from cbw.cli.control import Control, Fields, controlling, reason_text, story_lines
from cbw.cli.option_types import Number
from cbw.cli.signals import stopping_at_once
from cbw.cli.top_view import TopView
from cbw.core.broker.looks import LIST_REQUESTS, SHOW_STATUS, TELL_WHY
from cbw.errors import CbwError, HandlerFailed, RequestError, UsageError
from cbw.language import said, translated

REQUESTS_SHOWN = 200
"""Requests that are asked for each time: those that have been in their state for longest."""
KEYS = {"\t": "tab", "\x1b[A": "up", "\x1b[B": "down", "k": "up", "j": "down", "\x03": "q"}
STYLES = {"": "", "bold": "\x1b[1m", "reverse": "\x1b[7m", "dim": "\x1b[2m"}


@click.command("top", context_settings={"max_content_width": 110})
@click.option(
    "--every",
    "every_s",
    type=Number(0.2),
    default=1.0,
    show_default=True,
    help="Seconds between two looks at the broker.",
)
@click.option(
    "--json",
    "is_json",
    is_flag=True,
    help="Print a JSON object, as one line, at each look, until Ctrl-C: the time, the status of the broker with its services and "
    "workers, and its requests. It needs no terminal.",
)
@controlling
def command(control: Control, every_s: float, is_json: bool) -> None:
    """Watch a broker live: its workers, its requests, its services. Tab goes from one table to the next.

    Programs read it with --json: a line at each look, with the seconds since 1970 (time), what cbw.status tells (status), and at
    most 200 requests (requests), those that have been in their state for longest.

    \b
    up, down   choose a row          < >  sort by another column     v  reverse
    d, u       drain or undrain the chosen worker
    w, c       tell why the chosen request waits, or cancel it
    s          tell the whole story of the chosen request, or of the one that the chosen worker is at
    p, r       pause or resume the chosen service
    q          quit
    """
    if is_json:
        with stopping_at_once():
            _print_snapshots(control, every_s)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "cbw top wants a terminal", advice="For programs there is cbw top --json. cbw ps prints the same once."
        )
    view = TopView()
    with _screen():
        look_at = 0.0
        while not view.is_over:
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + every_s
                _look(control, view)
                _draw(view)
            for key in _keys(look_at - time.monotonic()):
                asked = view.key(key)
                if asked is not None:
                    view.message = _ask(control, *asked)
                    look_at = 0.0
                _tell_story(control, view)
                _draw(view)


def _print_snapshots(control: Control, every_s: float) -> NoReturn:
    while True:
        look_at = time.monotonic() + every_s
        status, requests = _snapshot(control)
        output.json({"time": round(time.time(), 3), "status": status, "requests": requests})
        time.sleep(max(0.0, look_at - time.monotonic()))


def _snapshot(control: Control) -> tuple[Fields, list[Fields]]:
    """The status, and the requests that have been in their state for longest."""
    return control.ask(SHOW_STATUS), control.ask(LIST_REQUESTS, limit=REQUESTS_SHOWN)["requests"]


def _look(control: Control, view: TopView) -> None:
    view.look(*_snapshot(control), time.monotonic())
    _tell_story(control, view)


def _tell_story(control: Control, view: TopView) -> None:
    """Ask for the story that is to be shown, if one is."""
    if not view.story_of:
        return
    try:
        told = control.ask(TELL_WHY, request=view.story_of)
    except HandlerFailed as error:
        where = said("the log may have all of it: cbw logs story {request}", request=view.story_of)
        view.tell(f"{translated(error.text)}; {where}")
    else:
        view.tell(reason_text(told), story_lines(told))


def _ask(control: Control, service: str, fields: dict[str, Any]) -> str:
    """What the broker says to what a key stands for, in one line."""
    try:
        answer = control.ask(service, **fields)
    except RequestError as error:
        return translated(error.text)
    except CbwError as error:
        return translated(str(error))
    what = next(iter(fields.values()))
    if "text" in answer:
        return f"{what}: {reason_text(answer)}"
    verb = next(iter(answer))
    return f"{verb}: {what[0]}" if answer[verb] else f"not {verb}: {what[0]}"


def _draw(view: TopView) -> None:
    width, height = shutil.get_terminal_size()
    shown = [STYLES[style] + output.styled(text) + "\x1b[0m\x1b[K" for style, text in view.lines(width, height)]
    output.raw("\x1b[H" + "\r\n".join(shown[:height]) + "\x1b[J")


def _keys(timeout_s: float) -> Iterator[str]:
    """What was typed meanwhile."""
    if not select.select([sys.stdin], [], [], max(0.0, timeout_s))[0]:
        return
    typed = os.read(sys.stdin.fileno(), 1024).decode(errors="replace")
    while typed:
        size = 3 if typed.startswith("\x1b[") else 1
        key, typed = typed[:size], typed[size:]
        yield KEYS.get(key, key)


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """The whole terminal, and each key at once; as it was before at the end."""
    before = termios.tcgetattr(sys.stdin)
    output.raw("\x1b[?1049h\x1b[?25l")
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        output.raw("\x1b[?25h\x1b[?1049l")
