"""``cbw logs``."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from cbw import settings
from cbw.cli import output
from cbw.cli.option_types import Integer
from cbw.cli.options import setting_options
from cbw.clock import clock_of, day_of
from cbw.core import catalogue
from cbw.core.catalogue import EVENTS, LEVELS, ROLES
from cbw.core.record import Record, level_of
from cbw.errors import CbwError, UsageError
from cbw.language import said, translated, word
from cbw.logs.files import Part, opened
from cbw.logs.find import near, records_of
from cbw.logs.follow import Follower
from cbw.logs.search import FIELDS, Query, Search, found, last_found, record_of
from cbw.logs.stats import QUANTILES, Stats, stats_of
from cbw.logs.story import Story, tell
from cbw.logs.times import time_of
from cbw.observe.trace import TRACEBACK, text_of
from cbw.visible import visible

FOLLOWED_LINES = 10
"""With ``--follow`` so many lines of the past come first, as with tail."""
SERVICE_STATS = ("service", "answered", "failed", "p50", "p99", "worker's p50", "worker's p99")
"""Headings of a table of cbw logs stats; the next two also."""
WORKER_STATS = ("worker", "done", "errors", "attempts lost", "fenced", "was lost", "p50", "p99")
CLIENT_STATS = ("client", "requests", "answered", "failed")
CLIENTS_LISTED_MAX = 20
"""Clients that are listed: those with the most requests. ``--json`` lists all."""
_BEFORE_WORKER = {
    catalogue.HANDED_OUT: "to ",
    catalogue.ANSWERED: "by ",
    catalogue.FAILED: "by ",
    catalogue.RETRIED: "by ",
}
"""What stands before the worker in a line of a story; for other events it is the word "worker"."""
_LEVEL_COLOURS = {"warning": "yellow", "error": "red", "critical": "red"}
_ROLE_COLOURS = {"broker": "cyan", "worker": "green", "client": "blue", "logger": "magenta"}
_HELP = {
    "request": "Of this request: CLIENT/ID.",
    "event": "Of this kind, as accepted or worker_lost.",
    "service": 'About requests of this service; "" is the nameless one.',
}

F = TypeVar("F")
Show = Callable[[list[bytes]], None]


class _Logs(click.Command):
    """``cbw logs`` itself, and ``cbw logs story`` and ``cbw logs stats``, which are commands of their own."""

    @property
    def commands(self) -> dict[str, click.Command]:
        """Those, by name."""
        return {"story": story, "stats": stats}

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        command = self.commands.get(args[0]) if args else None
        if command is None:
            return super().make_context(info_name, args, parent, **extra)
        return command.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)


def _complete_file(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Files, and the commands of ``cbw logs``, which bash wants behind them."""
    names = context.command.commands if isinstance(context.command, _Logs) else ()
    return [CompletionItem(begun, type="file"), *(CompletionItem(name) for name in names if name.startswith(begun))]


def _log_file(function: Callable[..., Any]) -> Callable[..., Any]:
    """The argument FILE, which stands for a folder too; the command gets it complete."""

    @functools.wraps(function)
    def with_file(*arguments: Any, file: Path | None, logger_dir: str, **options: Any) -> Any:
        file = file or Path(logger_dir) / "logs"
        try:
            file = file / "logs" if file.is_dir() else file
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror}") from None
        return function(*arguments, file=file, **options)

    argument = click.argument(
        "file", type=click.Path(path_type=Path), default=None, metavar="[FILE]", shell_complete=_complete_file
    )
    return argument(setting_options(settings.LOGGER_DIR)(with_file))


def _period(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--since`` and ``--until``, as seconds since 1970 or None."""

    def parse(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
        return None if text is None else time_of(text, time.time())

    for name, text in (
        ("--until", "Up to this time."),
        ("--since", "From this time on: 10m, 2h ago, 17:30, ISO 8601."),
    ):
        function = click.option(name, metavar="TIME", callback=parse, help=text)(function)
    return function


def _filters(function: Callable[..., Any]) -> Callable[..., Any]:
    for name in FIELDS:
        text = _HELP.get(name, f"Of this {name}.")
        function = click.option(f"--{name}", name, multiple=True, metavar=name.upper(), help=text)(function)
    text = "Of this level or a higher one: what is worth a line is info, what somebody may want to look into warning."
    return click.option("--level", type=click.Choice(LEVELS), metavar="LEVEL", help=text)(function)


@click.command("logs", cls=_Logs, context_settings={"max_content_width": 110})
@_log_file
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, also in a new file.")
@click.option("-n", "--lines", "count", type=Integer(0), help="Only so many, the last ones.  [with --follow: 10]")
@_period
@_filters
@click.option("--grep", "patterns", multiple=True, metavar="REGEX", help="Lines of the file that contain this.")
@click.option("--json", "is_json", is_flag=True, help="The lines as they are in the file.")
def command(
    file: Path,
    follow: bool,
    count: int | None,
    since: float | None,
    until: float | None,
    patterns: tuple[str, ...],
    level: str | None,
    is_json: bool,
    **fields: tuple[str, ...],
) -> None:
    """Show what is in the log, the newest last.

    \b
    cbw logs -f                              what happens now
    cbw logs --since 10m --event worker_lost --event fenced
    cbw logs --client C1 --grep timeout      only lines that meet both
    cbw logs -f --service render --level warning
    cbw logs story C1/7                      the life of one request
    cbw logs stats --since 1h                requests, latencies, failures, workers

    FILE is the logger's (default: "logs" in LOGGER_DIR) or its folder; rotated and compressed files are read with it.
    Of an option that is given several times, any value will do: --client C1 --client C2.
    """
    if follow and until is not None:
        raise UsageError("--follow has no end", advice="Leave out --until.")
    if since is not None and until is not None and since > until:
        raise UsageError("--since is after --until")
    fields["event"] = tuple(event.replace(" ", "_") for event in fields["event"])
    _check("event", fields["event"], EVENTS)
    _check("role", fields["role"], ROLES)
    query = Query(since or 0.0, float("inf") if until is None else until, fields, patterns, level or "")
    search = Search(query)
    show = _show_lines if is_json else _show_texts
    if not follow:
        with _opened(file) as parts:
            _show_past(parts, search, count, show)
        return
    try:
        follower = Follower(file)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    try:
        if count is None and since is None:
            count = FOLLOWED_LINES
        _show_beginning(file, follower, search, count, show)
        for block in follower.blocks():
            show(list(search.lines(block)))
    finally:
        follower.close()


def _check(name: str, values: Iterable[str], known: Collection[str]) -> None:
    for value in values:
        if value not in known:
            raise UsageError(f"there is no {name} {value!r}", advice=f"There is {', '.join(sorted(known))}.")


def _show_beginning(file: Path, follower: Follower, search: Search, count: int | None, show: Show) -> None:
    try:
        with _opened(file) as parts:
            _show_past(follower.before(parts), search, count, show)
    except UsageError as error:
        if file.exists():
            raise
        output.line(said("{error}; waiting for it", error=translated(str(error))), err=True)


def _show_past(parts: list[Part], search: Search, count: int | None, show: Show) -> None:
    if count is not None:
        show(last_found(parts, search, count))
    else:
        for lines in found(parts, search):
            show(lines)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[list[Part]]:
    """The log's files; in the end it is told if one could not be read to its end."""
    with opened(file) as parts:
        yield parts
        for part in parts:
            if part.damage:
                damage = translated(part.damage)
                text = said(
                    "{path} is damaged, the rest of it is missing here: {damage}", path=part.path, damage=damage
                )
                output.line(text, err=True)


def _show_lines(lines: list[bytes]) -> None:
    output.file_lines(lines)


def _show_texts(lines: list[bytes]) -> None:
    output.printed([output.styled(*_pieces(line)) for line in lines])


def _pieces(line: bytes) -> Sequence[output.Piece]:
    """A line of the log for people, in colours on a terminal."""
    record = record_of(line)
    if record is None:
        return (line.decode(errors="backslashreplace"),)
    clock, _, rest = text_of(record).partition(" ")
    clock = f"{day_of(record.at)} {clock}"
    if not _is_coloured():
        return (f"{clock} {rest}",)
    sender = visible(record.sender)
    level = level_of(record)
    return (
        output.Styled(clock, dim=True),
        " ",
        output.Styled(sender, fg=_ROLE_COLOURS.get(record.role)),
        output.Styled(rest[len(sender) :], fg=_LEVEL_COLOURS.get(level), dim=level == "debug"),
    )


@functools.cache
def _is_coloured() -> bool:
    return sys.stdout.isatty() and click.get_current_context().color is None


# --- the story of a request


@click.command("story", context_settings={"max_content_width": 110})
@click.argument("request")
@_log_file
@click.option("--json", "is_json", is_flag=True, help="Print it as JSON.")
def story(request: str, file: Path, is_json: bool) -> None:
    """Tell the life of REQUEST (CLIENT/ID) in the order in which things happened, from client, broker and workers.

    Times are seconds from its first record on. Exit code 1: it is not in the log.
    """
    with _opened(file) as parts:
        records = records_of(parts, request)
        if not records:
            names = near(parts, request)
            advice = f"There are: {', '.join(map(visible, names))}" if names else "A request is called CLIENT/ID."
            raise CbwError(f"there is no request {request} in {file}", advice=advice)
    told = tell(request, records)
    if is_json:
        output.json(told)
        return
    for pieces in _story_lines(told):
        output.line(*pieces)


def _story_lines(told: Story) -> Iterator[Sequence[output.Piece]]:
    start = told.records[0].at
    head = f"{told.request}, from {day_of(start)} {clock_of(start)} on: {_summary(told)}"
    yield (output.Styled(head, bold=True),)
    attempts = {attempt.task: number for number, attempt in enumerate(told.attempts, 1)}
    width = max(len(visible(record.sender)) for record in told.records)
    for record in told.records:
        what = f"{record.event.replace('_', ' ')}{_details(record, attempts)}"
        colour = _LEVEL_COLOURS.get(level_of(record))
        sender = output.Styled(f"{visible(record.sender):<{width}}", fg=_ROLE_COLOURS.get(record.role))
        yield f"  {record.at - start:+11.6f}  ", sender, "  ", output.Styled(what, fg=colour)
        for line in str((record.fields or {}).get(TRACEBACK, "")).splitlines():
            yield (output.Styled(f"      {line}", dim=True),)
    for worker in told.fenced:
        yield (f"  a late answer{f' of {worker}' if worker else ''} was fenced off: it reached nobody",)
    if told.skew_s:
        yield (f"  the clocks of these hosts differ by {told.skew_s:.3f} s or more",)
    if told.earlier:
        times = "one" if told.earlier == 1 else str(told.earlier)
        yield (f"  {times} more of this name before: its client was started again",)


def _details(record: Record, attempts: dict[int, int]) -> str:
    words = []
    if record.worker and record.worker != record.sender:
        words.append(_BEFORE_WORKER.get(record.event, "worker ") + record.worker)
    if record.service and record.event in (catalogue.SENT, catalogue.ACCEPTED):
        words.append(f"for service {record.service}")
    if len(attempts) > 1 and record.task in attempts:
        words.append(f"attempt {attempts[record.task]}")
    if record.text:
        words.append(f"({record.text})")
    return "".join(f" {word}" for word in words)


def _summary(told: Story) -> str:
    count = len(told.attempts)
    outcome = told.outcome.replace("_", " ") + (f" by {told.worker}" if told.worker else "")
    took = "" if told.took_s is None else f" after {told.took_s:.6f} s"
    return f"{outcome}{took}, {count} attempt{'s' if count != 1 else ''}"


# --- figures


@click.command("stats", context_settings={"max_content_width": 110})
@_log_file
@_period
@click.option("--json", "is_json", is_flag=True, help="Print them as JSON.")
def stats(file: Path, since: float | None, until: float | None, is_json: bool) -> None:
    """Figures of a period: requests, how long they took, failures, services, workers, clients, and what the log lacks.

    A worker is called slow if half of its requests of a service take at least twice as long, from their handing out to their
    answers, as with the others that serve it. Workers with fewer than 20 answers are not judged, nor are others by them.
    """
    with _opened(file) as parts:
        figures = stats_of(parts, Query(since or 0.0, float("inf") if until is None else until))
    if is_json:
        output.json(figures)
        return
    for line in _stats_lines(figures):
        output.line(line)


STATS_LABELS = ("requests", "latency", "attempts", "log", "slow")
"""What a line of cbw logs stats is about."""
LACKS = ("records lost", "records missing without a word", "lines of text lost", "duplicates left out")
"""What a log may lack."""


def _stats_lines(figures: Stats) -> Iterator[str]:
    if figures.since is None or figures.until is None:
        yield said("no records in that time")
        return
    first, last = (f"{day_of(at)} {clock_of(at)}" for at in (figures.since, figures.until))
    yield said(
        "{first} to {last}: {records} records, {lines} lines of text",
        first=first,
        last=last,
        records=figures.records,
        lines=figures.text_lines,
    )
    labels = [word(label, "stats") for label in STATS_LABELS]
    width = max(map(len, labels)) + 3
    requests, latency, attempts, log, slowness = (f"{label:<{width}}" for label in labels)
    if not (figures.requests or figures.answered or figures.failed):
        yield requests + said("none; the broker sends them with --log-level debug")
    else:
        failed = "".join(f", {count} {word(name.replace('_', ' '), 'end')}" for name, count in figures.failed.items())
        answered, still_open = word("answered", "end"), word("open", "end")
        yield f"{requests}{figures.requests}: {figures.answered} {answered}{failed}, {figures.open} {still_open}"
    if figures.answered:
        times = figures.latency_s
        yield latency + ", ".join(f"{name} {_seconds(times[name])}" for name in (*QUANTILES, "max"))
    if figures.attempts_lost:
        yield attempts + said("{count} ended with their worker", count=figures.attempts_lost)
    lacks = zip(LACKS, (figures.gaps, figures.missing, figures.lines_lost, figures.duplicates), strict=True)
    yield log + (
        ", ".join(f"{count} {word(name, 'stats')}" for name, count in lacks if count) or word("complete", "stats")
    )
    for slow in figures.slow:
        yield slowness + said(
            "{worker}: half of its requests of {service} take {time} or more, and {others} with the others",
            worker=visible(slow.worker),
            service=visible(output.called(slow.service)),
            time=_seconds(slow.p50_s),
            others=_seconds(slow.others_p50_s),
        )
    yield from _stats_tables(figures)


def _stats_tables(figures: Stats) -> Iterator[str]:
    services = [
        (output.called(name), s.answered, s.failed, *_times(s.latency_s), *_times(s.took_s))
        for name, s in _by_name(figures.services)
    ]
    yield from _table(SERVICE_STATS, services)
    workers = [
        (name, w.done, w.errors, w.lost, w.fenced, w.went, *_times(w.took_s)) for name, w in _by_name(figures.workers)
    ]
    yield from _table(WORKER_STATS, workers)
    ranked = sorted(figures.clients.items(), key=lambda item: (-item[1].requests, item[0]))
    clients = [(name, c.requests, c.answered, c.failed) for name, c in ranked[:CLIENTS_LISTED_MAX]]
    yield from _table(CLIENT_STATS, clients)
    if len(ranked) > CLIENTS_LISTED_MAX:
        yield said("and {count} clients more", count=len(ranked) - CLIENTS_LISTED_MAX)


def _by_name(figures: dict[str, F]) -> list[tuple[str, F]]:
    return sorted(figures.items())


def _times(figures: dict[str, float | None]) -> tuple[str, str]:
    """The quantiles for a table; empty if the log does not tell any."""
    p50, p99 = figures.get("p50"), figures.get("p99")
    return ("" if p50 is None else _seconds(p50), "" if p99 is None else _seconds(p99))


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def _table(columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    """Columns as wide as what is in them; nothing if there are no rows."""
    head = tuple(word(name, "table") for name in columns)
    lines = [head, *(tuple(visible(str(cell)) for cell in row) for row in rows)]
    if len(lines) == 1:
        return
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    yield ""
    for first, *others in lines:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([f"{first:<{widths[0]}}", *cells])
