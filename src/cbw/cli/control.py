"""Commands that look into a running broker or steer it: how they reach it, and how they print what it answers."""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from cbw import settings
from cbw.cli import output
from cbw.cli.connection import client_brokers, meeting
from cbw.cli.options import keys_option, setting_options
from cbw.client.sync_client import Client
from cbw.core.broker.looks import LISTED_MAX
from cbw.core.broker.reasons import REASONS
from cbw.errors import CbwError, UsageError
from cbw.keys.folder import KeyFolder
from cbw.keys.key_file import SECRET_SUFFIX
from cbw.language import said, translated, word
from cbw.logs.times import span_of
from cbw.visible import visible

COMPLETE_S = 0.5
"""Longest time that the completion of a name waits for a broker: a person waits for it."""
TEXT_CELLS_MIN = 10
"""Width in cells down to which a column of texts is made narrower: names begin to be hard to read."""
WORDS_IN = ("state", "service")
"""Columns in which words of ours stand: states, and what a service without a name is called."""
UNKNOWN = "?"
"""What stands in the place of something that the broker has not told, as it is of an earlier version."""
Fields = dict[str, Any]


class Control:
    """The own services of a broker, asked by ``client``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def ask(self, service: str, /, **fields: Any) -> Any:
        """The JSON that the broker answers. While it is busy, the client asks again."""
        return msgspec.json.decode(self.call(service, fields))

    def call(self, service: str, fields: Fields) -> bytes:
        """What it answers, exactly as it is."""
        return self._client.call(fields, service)

    def each(self, service: str, name: str, values: Sequence[str]) -> list[Any]:
        """The answers to requests with all ``values`` of the field ``name``: as many requests as they need."""
        pages = (list(values[first : first + LISTED_MAX]) for first in range(0, len(values), LISTED_MAX))
        return [self.ask(service, **{name: page}) for page in pages]


def controlling(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--broker``, ``--timeout`` and ``--keys``; the command gets the :class:`Control` of that broker."""

    @functools.wraps(function)
    def with_control(*arguments: Any, broker: str | None, timeout_s: float, **options: Any) -> Any:
        brokers = client_brokers(broker)
        with Client(broker, timeout=timeout_s, keys=_key()) as client, meeting(client, brokers, timeout_s):
            return function(*arguments, control=Control(client), **options)

    text = "Broker to ask, and its port for clients. [env: BROKER_HOST, BROKER_PORT]"
    option = click.option("--broker", metavar="HOST:PORT", help=text)
    return option(setting_options(*settings.CLIENT)(keys_option(with_control)))


def _key() -> Path | None:
    """The key of an admin, or else of a client; None: there are no keys."""
    folder = KeyFolder.at(None)
    return None if folder is None else folder.secret_of("admin", "client")


json_printed = click.option("--json", "is_json", is_flag=True, help="Print one JSON object, also of an error.")


def age_of(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """The seconds that an option means."""
    return None if text is None else span_of(text)


def confirm(what: str) -> None:
    """Go on only if the person at the terminal wants ``what``, such as "end 3 requests of render"."""
    if not sys.stdin.isatty():
        raise UsageError(f"this would {what}, and nobody can confirm it", advice="Add --yes.")
    if not click.confirm(said("really {what}?", what=what), err=True):
        raise CbwError("nothing was changed")


def done(answers: Iterable[Fields], verb: str, tell: Callable[[int], str], *, is_json: bool) -> None:
    """Print what was done: ``tell`` says it of so many. The answers have the number under ``verb``.

    Raises:
        CbwError: some are not there.
    """
    answers = list(answers)
    missing = [name for answer in answers for name in answer["missing"]]
    count = sum(answer[verb] for answer in answers)
    if is_json:
        output.json({verb: count, "missing": missing})
    else:
        output.line(tell(count))
    if missing:
        raise CbwError(f"not there: {', '.join(missing)}", advice="cbw ps and cbw requests show what is there.")


def show_rows(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = (), spare: Sequence[str] = ()
) -> None:
    """Print a table on a terminal, otherwise lines with tabs between the columns. Those in ``right`` are numbers. Where the
    terminal is too narrow for all, those in ``spare`` are left out, the first one first.

    People read the table, so its headings, and the states in it, are in their language. Programs read the lines: these are not.
    """
    if not sys.stdout.isatty():
        for row in rows:
            output.row(row)
        return
    from rich.table import Table

    from cbw.cli import tables

    rows = [
        [word(cell, name) if name in WORDS_IN else cell for name, cell in zip(columns, row, strict=True)]
        for row in rows
    ]
    columns, right, spare = ([word(name, "table") for name in names] for names in (columns, right, spare))
    width = shutil.get_terminal_size().columns
    kept, is_dense = columns_within(columns, rows, right, spare, width)
    table = Table(box=None, padding=(0, 1, 0, 0)) if is_dense else Table()
    for name in (columns[number] for number in kept):
        table.add_column(name, justify="right" if name in right else "left", no_wrap=name in right, overflow="fold")
    for row in rows:
        table.add_row(*(tables.cell(row[number]) for number in kept))
    tables.show(table)


def columns_within(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str], spare: Sequence[str], width: int
) -> tuple[list[int], bool]:
    """Which columns of a table to show within ``width``, and whether without lines between them: that saves two cells a column.
    Numbers are never broken, other texts may be after :data:`TEXT_CELLS_MIN` cells.
    """
    from rich.cells import cell_len  # here, as Rich takes time to import

    texts = [[name, *(visible(row[number]) for row in rows)] for number, name in enumerate(columns)]
    sizes = [max(map(cell_len, column)) for column in texts]
    sizes = [
        size if name in right else min(size, max(len(name), TEXT_CELLS_MIN))
        for name, size in zip(columns, sizes, strict=True)
    ]
    kept, spare = list(range(len(columns))), [*spare]
    while True:
        needed = sum(sizes[number] + 1 for number in kept)
        if needed + 2 * len(kept) + 1 <= width:
            return kept, False
        if needed <= width or not spare:
            return kept, True
        kept.remove(columns.index(spare.pop(0)))


def cell_text(show: Callable[[Any], str], row: Mapping[str, Any]) -> str:
    """What ``show`` makes of ``row``; :data:`UNKNOWN` if the broker has not told a field that it needs."""
    try:
        return show(row)
    except KeyError:
        return UNKNOWN


def per_second(value: float | None) -> str:
    """A rate, as people say it; nothing if there is none."""
    if value is None:
        return ""
    return f"{value:.0f}/s" if value >= 100 else f"{value:.1f}/s"


def seconds(value: float | None) -> str:
    """A time, as people say it; nothing if there is none."""
    if value is None:
        return ""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.1f} s" if value >= 1 else f"{value * 1000:.3g} ms"


def reason_text(told: Fields) -> str:
    """Why a request has not ended, as an answer of ``cbw.why`` tells it, in the language of the environment."""
    try:
        return "".join(
            word(REASONS[one["kind"]], "why").format(
                **{name: _put_in(one["kind"], name, value) for name, value in one["about"].items()}
            )
            for one in told["clauses"]
        )
    except KeyError:  # a broker of another version has other clauses
        return str(told["text"])


def _put_in(kind: str, name: str, value: str | list[str]) -> str:
    """What is put into a clause of that kind. What a handler has raised stays in its own words."""
    if isinstance(value, list):
        return value[0] if len(value) == 1 else f"{', '.join(value[:-1])} {word('and', 'why')} {value[-1]}"
    if name == "service":
        return word("service {name}", "why").format(name=value) if value else word("the nameless service", "why")
    return translated(value) if (kind, name) == ("dead", "error") else value


def story_lines(told: Fields) -> list[str]:
    """The story in an answer of ``cbw.why``, a line for each step, oldest first."""
    lines = []
    for step in told["story"]:
        worker = f" {step['worker']}" if step["worker"] else ""
        reason = f": {translated(step['text'])}" if step["text"] else ""
        ago = word("{time} ago", "step").format(time=f"{seconds(step['ago_s']):>8}")
        lines.append(f"{ago}  {word(step['event'].replace('_', ' '), 'step')}{worker}{reason}")
    return lines


def asked_quickly(broker: str | None, service: str, **fields: Any) -> Fields:
    """What the broker at that address answers at once, for the completion of names; nothing if there is none.

    With a client's key it is not asked: it would refuse, and record that, each time that somebody presses Tab.
    """
    try:
        if (key := _key()) is not None and key.name == f"client{SECRET_SUFFIX}":
            return {}
        with Client(broker, timeout=COMPLETE_S, keys=key) as client:
            answer: Fields = Control(client).ask(service, **fields)
            return answer
    except (CbwError, click.ClickException):
        return {}
