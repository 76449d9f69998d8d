"""What commands print. Everything goes through here, as most of it holds names, answers or errors of peers.

Lines for people are printed with what could act on a terminal made visible (:mod:`cbw.visible`), wherever they go. Bodies and
lines of files are data: a terminal gets them made visible too, and a file or a pipe gets them exactly as they are.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO

import click
import msgspec

from cbw.clock import stamp
from cbw.errors import CbwError, HandlerFailed
from cbw.language import translated
from cbw.visible import visible, visible_bytes, visible_cell, visible_json, visible_lines

COLOUR = False if os.environ.get("NO_COLOR") else None
"""Whether help and errors are in colour. None: where it can be seen."""


class Styled(msgspec.Struct, frozen=True):
    """A piece of a line in a colour, bold or dim, which shows on terminals only."""

    text: str
    fg: str | None = None
    bold: bool | None = None
    dim: bool | None = None

    def printed(self, text: str) -> str:
        """``text`` between the terminal's codes for this style."""
        return click.style(text, fg=self.fg, bold=self.bold, dim=self.dim)


Piece = str | Styled


def called(service: str) -> str:
    """A service, as people say it."""
    return service or "(nameless)"


def styled(*pieces: Piece) -> str:
    """``pieces`` as one line, whatever is in them."""
    return "".join(
        piece.printed(visible(piece.text)) if isinstance(piece, Styled) else visible(piece) for piece in pieces
    )


def line(*pieces: Piece, err: bool = False, color: bool | None = None) -> None:
    """Print one line to standard output, or to standard error. ``color``: with its styles or without; None: on a terminal."""
    click.echo(styled(*pieces), err=err, color=color)


def row(cells: Iterable[str]) -> None:
    """Print one line with tabs between its columns, and none in them: for programs, which take it apart at the tabs."""
    click.echo("\t".join(map(visible_cell, cells)))


def told(text: str, *, err: bool = False, fg: str | None = None) -> None:
    """Print one line of a role, in a colour if need be, with the time in front if lines are to have it."""
    line(stamp(), Styled(text, fg=fg), err=err)


def printed(ready: Sequence[str]) -> None:
    """Print lines that :func:`styled` has made, in one write: there may be a million of them."""
    if ready:
        sys.stdout.write("\n".join(ready) + "\n")
        sys.stdout.flush()


def raw(text: str) -> None:
    """Write ``text`` to a terminal as it is: it has control characters of ours, and what peers say was made visible before."""
    sys.stdout.write(text)
    sys.stdout.flush()


def lines(text: str, *, err: bool = False) -> None:
    """Print a text that may have several lines: one of ours, whose newlines are meant."""
    click.echo(visible_lines(text), err=err)


def words_of(error: CbwError) -> str:
    """What ``error`` says, in the language of the environment; a handler's exception in its own words."""
    return str(error) if isinstance(error, HandlerFailed) else translated(str(error))


def failure(error: CbwError, place: str = "") -> None:
    """Print why the command fails, and what to do next, to standard error. ``place``: where what is wrong was set."""
    line(Styled(f"cbw: {words_of(error)}", fg="red"), err=True, color=COLOUR)
    if advice := " ".join(filter(None, [translated(error.advice), place])):
        lines(f"     {advice}", err=True)


def misuse(error: click.ClickException) -> None:
    """Print why the arguments make no sense, and how the command is used, to standard error."""
    shown = io.StringIO()
    error.show(shown)
    usage, mark, why = shown.getvalue().rstrip("\n").partition("Error: ")
    click.echo("\n".join(map(translated, usage.split("\n"))) + mark + translated(why), err=True)


def data(body: bytes) -> None:
    """Print ``body`` as it is, but on a terminal visibly and with the end of a line behind it."""
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
        return
    click.echo(visible_bytes(body), nl=not body.endswith(b"\n"))


def file_lines(found: Sequence[bytes]) -> None:
    """Print whole lines of a file, without their ends, as :func:`data` does."""
    if found:
        data(b"\n".join(found) + b"\n")


def json_line(value: Any) -> bytes:
    """``value`` as a line of JSON that can be printed anywhere."""
    return visible_json(msgspec.json.encode(value)) + b"\n"


def json(value: Any, file: BinaryIO | None = None) -> None:
    """Print ``value`` as a line of JSON, to standard output or to ``file``."""
    if file is None:
        click.echo(json_line(value).decode(), nl=False)
    else:
        file.write(json_line(value))
