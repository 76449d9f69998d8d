"""``cbw dead``."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Literal

import click
from rich.table import Table

from cbw.cli import output, tables
from cbw.cli.completion import complete_dead, complete_service
from cbw.cli.control import Control, Fields, age_of, confirm, controlling, json_printed
from cbw.cli.option_types import Integer
from cbw.core import catalogue
from cbw.core.broker.dead_services import BODY, DROP, LIST, PAGE_MAX, REQUEUE, SHOW
from cbw.core.identities import ticket_name
from cbw.errors import CbwError, HandlerFailed, UsageError
from cbw.language import said, said_of, translated, word
from cbw.logs.times import span_of

SHOWN_CHARS_MAX = 2000
"""Characters of a body that ``cbw dead show`` prints among the rest. ``--body`` prints all of it."""
DEAD_COLUMNS = ("id", "service", "request", "attempts", "bytes", "given up", "error")
DEAD_FIGURES = DEAD_COLUMNS[3:6]
DEAD_LABELS = ("service", "request", "given up", "requeued", "body")
"""What a line of cbw dead show is about."""
LISTED = 100
"""Dead letters that are listed if nothing else is said."""


class _Letters:
    """The dead letters of a broker, asked of its own services."""

    def __init__(self, control: Control) -> None:
        self.ask = control.ask
        self._call = control.call

    def body(self, name: str) -> bytes:
        """The body of the request that was given up."""
        return self._call(BODY, {"id": name})

    def find(self, fields: Fields, limit: int | None) -> Iterator[Fields]:
        """The letters that ``fields`` choose, the oldest first, and at most ``limit`` of them; asked for page by page."""
        offset = 0
        while limit is None or offset < limit:
            count = PAGE_MAX if limit is None else min(PAGE_MAX, limit - offset)
            page = self.ask(LIST, **fields, offset=offset, limit=count)["letters"]
            yield from page
            offset += len(page)
            if len(page) < count:
                return

    def whole(self, names: list[str]) -> Iterator[Fields]:
        """These with their stories and bodies, but for those that are gone meanwhile."""
        for name in names:
            try:
                letter = self.ask(SHOW, id=name)
                if not {"body", "body_base64"} & letter.keys():
                    letter |= _body_fields(self.body(name))
            except HandlerFailed:
                continue
            yield letter


def _body_fields(body: bytes) -> Fields:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": body}  # written in base64


def _connected(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command, which has the options of :func:`.controlling`, the :class:`_Letters` of the broker that they name."""

    @functools.wraps(function)
    def with_letters(*arguments: Any, control: Control, **options: Any) -> Any:
        return function(*arguments, letters=_Letters(control), **options)

    return controlling(with_letters)


def _filters(function: Callable[..., Any]) -> Callable[..., Any]:
    """Which dead letters are meant; the command gets what to ask the broker for as ``fields``."""

    @functools.wraps(function)
    def with_fields(
        *arguments: Any,
        service: str | None,
        error: str | None,
        older_than: float | None,
        newer_than: float | None,
        **options: Any,
    ) -> Any:
        fields = {"service": service, "error": error, "older_than_s": older_than, "newer_than_s": newer_than}
        given = {name: value for name, value in fields.items() if value is not None}
        return function(*arguments, fields=given, **options)

    for name, metavar, callback, text in (
        ("--newer-than", "AGE", age_of, "Given up less than this long ago: 90s, 10m, 2h, 3d."),
        ("--older-than", "AGE", age_of, "Given up at least this long ago: 90s, 10m, 2h, 3d."),
        ("--error", "TEXT", None, "Those with this text in the error or in the reason of an attempt."),
        ("--service", "NAME", None, 'Those of this service; "" is the nameless one.'),
    ):
        complete = complete_service if name == "--service" else None
        function_of = click.option(name, metavar=metavar, callback=callback, help=text, shell_complete=complete)
        with_fields = function_of(with_fields)
    return with_fields


def _choice(function: Callable[..., Any]) -> Callable[..., Any]:
    """The letters that an act is about: by ids, by filters, or all; the command gets their ids."""

    @functools.wraps(function)
    def with_names(
        *, ids: tuple[str, ...], fields: Fields, is_all: bool, limit: int | None, yes: bool, **options: Any
    ) -> Any:
        if not (ids or fields or is_all):
            raise UsageError("which dead letters?", advice="Give their ids, filters such as --service, or --all.")
        letters: _Letters = options["letters"]
        if ids:
            fields["ids"] = list(ids)
        names = [letter["id"] for letter in letters.find(fields, limit)]
        if missing := [name for name in dict.fromkeys(ids) if name not in names and limit is None]:
            which = "that other options choose too" if len(fields) > 1 else "of that id"
            raise CbwError(f"there is no dead letter {which}: {', '.join(missing)}", advice="cbw dead list shows them.")
        if names and not ids and not yes:
            confirm(asked(click.get_current_context().info_name or "", len(names)))
        return function(names=names, **options)

    for option in (
        click.option("--yes", "-y", is_flag=True, help="Do not ask for a confirmation."),
        click.option("--limit", type=Integer(1), metavar="N", help="At most N, the oldest."),
        click.option("--all", "is_all", is_flag=True, help="All of them."),
    ):
        with_names = option(with_names)
    return click.argument("ids", nargs=-1, metavar="[ID]...", shell_complete=complete_dead)(_filters(with_names))


def asked(act: str, count: int) -> str:
    """What is to be confirmed: the act ``requeue`` or ``drop``, on ``count`` dead letters."""
    if act == "requeue":
        return said_of(count, "requeue 1 dead letter", "requeue {count} dead letters")
    return said_of(count, "drop 1 dead letter", "drop {count} dead letters")


def _positive(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    if text is not None and span_of(text) == 0.0:
        raise UsageError("--ttl has to be more than 0", advice="Write 90s, 10m, 2h or 3d.")
    return None if text is None else span_of(text)


def _letters(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"


@click.group("dead", context_settings={"max_content_width": 110})
def command() -> None:
    """Requests that were given up, which the broker keeps as dead letters: list and show them, send them again, drop them.

    \b
    cbw dead list --service thumbnail --newer-than 1h
    cbw dead show 3f9a01-1
    cbw dead requeue --error "exit code 7"
    cbw dead export letters.jsonl && cbw dead drop --all

    A request becomes a dead letter after --attempts-max attempts (an option of the broker) that took their workers down, or when
    its handler has failed as often as its service allows retries.
    """


@command.command("list")
@_connected
@_filters
@click.option("--limit", type=Integer(1), default=LISTED, show_default=True, metavar="N", help="At most N, the oldest.")
@click.option("--json", "is_json", is_flag=True, help="Print them as JSON.")
def list_dead(letters: _Letters, fields: Fields, limit: int, is_json: bool) -> None:
    """List dead letters, the oldest first: a table on a terminal, otherwise lines with tabs between the columns.

    The columns are: id, service, request, attempts, bytes of the body, how long ago it was given up, error.
    """
    counts = letters.ask(LIST, **fields, limit=1)
    found = list(letters.find(fields, limit))
    if is_json:
        output.json({"total": counts["total"], "matching": counts["matching"], "letters": found})
        return
    rows = [_row(letter) for letter in found]
    if not sys.stdout.isatty():
        for row in rows:
            output.row(row)
        return
    table = Table()
    for name in DEAD_COLUMNS:
        is_figure = name in DEAD_FIGURES
        justify: Literal["right", "left"] = "right" if is_figure else "left"
        table.add_column(word(name, "table"), justify=justify, no_wrap=is_figure, overflow="fold")
    for row, letter in zip(rows, found, strict=True):
        row[-1] = row[-1] if _is_of_a_handler(letter) else translated(row[-1])
        table.add_row(*map(tables.cell, row))
    tables.show(table)
    more = counts["matching"] - len(found)
    shown, total = len(found), counts["total"]
    text = said_of(total, "{shown} of {count} dead letter", "{shown} of {count} dead letters", shown=shown)
    output.line(f"{text}; {said('--limit shows {count} more', count=more)}" if more > 0 else text)


def _row(letter: Fields) -> list[str]:
    request = _request(letter)
    figures = str(letter["attempts"]), str(letter["body_bytes"]), _ago(letter["died_ago_s"])
    return [letter["id"], letter["service"], request, *figures, _error(letter)]


def _error(letter: Fields) -> str:
    """Why it was given up; of an exception its kind too."""
    is_handlers = _is_of_a_handler(letter)
    return ": ".join(filter(None, (letter["kind"], letter["error"]))) if is_handlers else str(letter["error"])


def _is_of_a_handler(letter: Fields) -> bool:
    """Whether its error is an exception of a handler, and no text of the broker's."""
    return letter["kind"] not in catalogue.ERRORS_OF_THE_BROKER


def _request(letter: Fields) -> str:
    """What the trace calls the request."""
    return ticket_name(letter["ticket"]) if letter["ticket"] else f"{letter['client']}/{letter['request']}"


@command.command("show")
@_connected
@click.argument("name", metavar="ID", shell_complete=complete_dead)
@click.option("--body", "is_body", is_flag=True, help="Print only the body of the request, exactly as it is.")
@click.option("--json", "is_json", is_flag=True, help="Print it as JSON.")
def show_dead(letters: _Letters, name: str, is_body: bool, is_json: bool) -> None:
    """Show one dead letter: whose request it was, every attempt at it, and its body.

    \b
    cbw dead show 3f9a01-1
    cbw dead show 3f9a01-1 --body | cbw call --service thumbnail > small.jpg
    """
    if is_body and is_json:
        raise UsageError("--body and --json exclude each other", advice="Leave one of them out.")
    try:
        if is_body:
            output.data(letters.body(name))
            return
        letter = letters.ask(SHOW, id=name)
    except HandlerFailed as error:
        raise CbwError(error.text, advice="cbw dead list shows those that there are.") from None
    if is_json:
        output.json(letter)
    else:
        for line in _story(letter):
            output.line(line)


def _story(letter: Fields) -> list[str]:
    """``letter`` for people, in lines."""
    accepted = word("{time} ago", "step").format(time=_ago(letter["accepted_ago_s"]))
    error = _error(letter) if _is_of_a_handler(letter) else translated(_error(letter))
    facts = {
        "service": word("(nameless)", "service") if not letter["service"] else letter["service"],
        "request": said("{request}, accepted {ago}", request=_request(letter), ago=accepted),
        "given up": f"{word('{time} ago', 'step').format(time=_ago(letter['died_ago_s']))}: {error}",
    }
    if (times := letter["requeued"]) > 0:
        facts["requeued"] = (
            word("1 time before", "step") if times == 1 else word("{count} times before", "step").format(count=times)
        )
    labels = {name: word(name, "dead") for name in DEAD_LABELS}
    width = max(map(len, labels.values())) + 2
    lines = [said("dead letter {id}", id=letter["id"])]
    lines += [f"  {labels[name]:<{width}}{text}" for name, text in facts.items()]
    for number, attempt in enumerate(letter["attempts"], 1):
        reason = attempt["reason"] if _is_of_a_handler(letter) else translated(attempt["reason"])
        lines.append(f"  {_attempt(number, attempt)}: {reason}")
        lines += [f"    {line}" for line in attempt["traceback"].splitlines()]
    text: str | None = letter.get("body")
    size = letter["body_bytes"]
    body = f"{size} byte{'' if size == 1 else 's'}"
    lines.append(f"  {labels['body']:<{width}}{body}" + ("" if text is not None else said(", no text: see --body")))
    lines += [f"    {line}" for line in (text or "")[:SHOWN_CHARS_MAX].splitlines()]
    if text is not None and len(text) > SHOWN_CHARS_MAX:
        lines.append("    " + said("… the rest is printed by --body"))
    return lines


def _attempt(number: int, attempt: Fields) -> str:
    return said(
        "attempt {number} by {worker}, begun {time} ago, failed after {took} s",
        number=number,
        worker=attempt["worker"],
        time=_ago(attempt["begun_ago_s"]),
        took=f"{max(0.0, attempt['begun_ago_s'] - attempt['ended_ago_s']):.3f}",
    )


@command.command("requeue")
@_connected
@_choice
@click.option(
    "--ttl",
    metavar="AGE",
    callback=_positive,
    help="Make dead letters again of those that no worker has begun after this time. Default: they wait without end.",
)
@json_printed
def requeue_dead(letters: _Letters, names: list[str], ttl: float | None, is_json: bool) -> None:
    """Send the requests of dead letters again, as new ones, each with all of --attempts-max attempts.

    The answer of a request with a ticket (cbw call --detach) is kept for cbw result. Nobody gets any other answer, as the clients
    that asked were told that their requests were given up. A request that ends without a good answer becomes a dead letter again.
    """
    options: Fields = {} if ttl is None else {"ttl_s": ttl}
    count, missing, refused = 0, [], ""
    for page in _pages(names):
        done = letters.ask(REQUEUE, ids=page, **options)
        count += done["requeued"]
        missing += done["missing"]
        if refused := done["refused"]:
            break
    left = len(names) - count - len(missing)
    if is_json:
        output.json({"requeued": count, "left": left, "missing": missing})
    elif not refused:
        output.line(said_of(count, "1 dead letter sent again", "{count} dead letters sent again"))
    if refused:
        advice = f"{_letters(count)} sent again, {left} left. Try again when the broker has room."
        raise CbwError(f"the broker takes no more requests: {refused}", advice=advice)


@command.command("drop")
@_connected
@_choice
@json_printed
def drop_dead(letters: _Letters, names: list[str], is_json: bool) -> None:
    """Drop dead letters for good. ``cbw dead export`` saves them before."""
    answers = [letters.ask(DROP, ids=page) for page in _pages(names)]
    count = sum(done["dropped"] for done in answers)
    if is_json:
        output.json({"dropped": count, "missing": [name for done in answers for name in done["missing"]]})
    else:
        output.line(said_of(count, "1 dead letter dropped", "{count} dead letters dropped"))


def _pages(names: list[str]) -> Iterator[list[str]]:
    """``names`` in lists that a broker takes in one request."""
    return (names[first : first + PAGE_MAX] for first in range(0, len(names), PAGE_MAX))


@command.command("export")
@_connected
@click.argument("file", type=click.File("wb"), default="-")
@_filters
@click.option("--limit", type=Integer(1), metavar="N", help="At most N, the oldest.")
def export_dead(letters: _Letters, fields: Fields, limit: int | None, file: BinaryIO) -> None:
    """Write dead letters to FILE (default: standard output), one JSON object a line, with their stories and bodies.

    A body that is UTF-8 text is in the field body, any other in body_base64. Times are ages at the time exported_at.
    """
    count = 0
    for letter in letters.whole([letter["id"] for letter in letters.find(fields, limit)]):
        output.json(letter | {"exported_at": round(time.time(), 3)}, file)
        count += 1
    file.flush()
    with contextlib.suppress(OSError):
        text = said_of(count, "1 dead letter exported", "{count} dead letters exported")
        output.line(text, err=True)


def _ago(seconds: float) -> str:
    """An age, as people say it."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
