"""What ``cbw top`` shows: facts and keys in, lines out; no terminal and no broker here."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from rich.cells import cell_len, set_cell_size

from cbw.cli import output
from cbw.cli.control import UNKNOWN, cell_text, per_second, seconds
from cbw.core.broker.acts import CANCEL, DRAIN, PAUSE, RESUME, UNDRAIN
from cbw.core.broker.looks import TELL_WHY
from cbw.core.broker.verdict import SENTENCES, sentence
from cbw.core.histogram import bucket_quantile
from cbw.language import said, word
from cbw.visible import visible

Row = Mapping[str, Any]
Column = tuple[str, int, Callable[[Row], str], str]
"""A heading, its width, what stands in it, and the field to sort by."""
WIDTH_MIN = 80
"""Width of a terminal, in cells, for which the first columns of each table are made; wider ones show more, as they fit."""
HEAD_LINES = 4
"""Lines above the tables."""
MESSAGE_LINES_MAX = 4
"""Lines of the answer to a key; the tables keep the rest of the screen."""

SERVICE_TABLE: Sequence[Column] = (
    ("SERVICE", 14, lambda row: output.called(row["service"]), "service"),
    ("WAITING", 9, lambda row: str(row["waiting"]), "waiting"),
    ("OLDEST", 8, lambda row: seconds(row["oldest_s"]) if row["waiting"] else "", "oldest_s"),
    ("RUN", 5, lambda row: str(row["running"]), "running"),
    ("WORKERS", 9, lambda row: str(row["workers"]), "workers"),
    ("RATE", 8, lambda row: per_second(row["rate"]), "rate"),
    ("P50", 8, lambda row: seconds(row["p50_s"]), "p50_s"),
    ("P99", 8, lambda row: seconds(row["p99_s"]), "p99_s"),
    ("STATE", 10, lambda row: "paused" if row["is_paused"] else "" if row["workers"] else "unserved", "is_paused"),
    ("FAILED", 8, lambda row: "" if row["failed"] is None else str(row["failed"]), "failed"),
    ("SINCE", 8, lambda row: seconds(row["age_s"]), "age_s"),
    ("DELAYED", 9, lambda row: str(row["delayed"]), "delayed"),
)
WORKER_TABLE: Sequence[Column] = (
    ("WORKER", 18, lambda row: row["worker"], "worker"),
    ("STATE", 10, lambda row: row["state"], "state"),
    ("HAND", 6, lambda row: str(row["in_hand"]), "in_hand"),
    ("RATE", 8, lambda row: per_second(row["rate"]), "rate"),
    ("P50", 8, lambda row: seconds(row["p50_s"]), "p50_s"),
    ("P99", 8, lambda row: seconds(row["p99_s"]), "p99_s"),
    ("FAILED", 8, lambda row: str(row["failed"]), "failed"),
    ("AT", 14, lambda row: f"{seconds(row['at_s'])} {row['at']}" if row["at"] else "", "at_s"),
    ("SINCE", 8, lambda row: seconds(row["age_s"]), "age_s"),
    ("ANSWERED", 10, lambda row: str(row["answered"]), "answered"),
)
REQUEST_TABLE: Sequence[Column] = (
    ("REQUEST", 28, lambda row: row["request"], "request"),
    ("SERVICE", 16, lambda row: output.called(row["service"]), "service"),
    ("STATE", 9, lambda row: row["state"], "state"),
    ("FOR", 9, lambda row: seconds(row["in_state_s"]), "in_state_s"),
    ("TRY", 4, lambda row: str(row["attempt"]), "attempt"),
    ("WORKER", 14, lambda row: row["worker"] or "", "worker"),
)
TABLES: Sequence[tuple[str, Sequence[Column], str]] = (
    ("workers", WORKER_TABLE, "worker"),
    ("requests", REQUEST_TABLE, "request"),
    ("services", SERVICE_TABLE, "service"),
)
ACTS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("workers", "d"): (DRAIN, "workers"),
    ("workers", "u"): (UNDRAIN, "workers"),
    ("requests", "c"): (CANCEL, "requests"),
    ("requests", "w"): (TELL_WHY, "request"),
    ("services", "p"): (PAUSE, "services"),
    ("services", "r"): (RESUME, "services"),
}
KEYS = {
    "workers": "d drain  u undrain  s story",
    "requests": "w why  c cancel  s story",
    "services": "p pause  r resume",
}
KEYS_OF_ALL = "Tab next table  <> sort  v reverse  q quit"
GO_BACK = "any key goes back"
SUMMARY = (
    ("waiting", "waiting"),
    ("in_flight", "running"),
    ("delayed", "delayed"),
    ("worker_count", "workers"),
    ("clients", "clients"),
)
"""The fields of a status that the first line tells, and what they are called."""
REQUEST_OF = {"workers": "at", "requests": "request"}
"""The field of a row that names a request, whose story can be told."""


class TopView:
    """The table that is shown, how it is sorted, which row is chosen. ``message`` is what the last key has brought about.
    ``story_of`` is the request whose story is shown instead, until a key is pressed: :meth:`tell` it.
    """

    def __init__(self) -> None:
        self.message = ""
        self.story_of = ""
        self._story: list[str] = []
        self.is_over = False
        self._table = 0
        self._sorted_by = [0, 3, 1]
        self._is_reversed = [False, True, True]
        self._chosen = ""
        self._first = 0
        self._status: Row = {}
        self._rows: dict[str, list[Row]] = {"workers": [], "requests": [], "services": []}
        self._seen: tuple[float, int] | None = None  # when, and how much workers had answered
        self._rate = 0.0
        self._width = WIDTH_MIN

    # --- facts

    def look(self, status: Row, requests: Sequence[Row], now: float) -> None:
        """The broker has told this."""
        answered = sum(status.get("latency", {}).get("counts", ()))  # by workers: our own looks are answered too
        if self._seen is not None and now > self._seen[0]:
            self._rate = max(0, answered - self._seen[1]) / (now - self._seen[0])
        self._seen = now, answered
        self._status = status
        self._rows = {
            "workers": list(status["workers"]),
            "requests": list(requests),
            "services": list(status["services"]),
        }

    def tell(self, text: str, steps: Sequence[str] = ()) -> None:
        """The broker has told this of ``story_of``. Steps that are known stay when it tells none, as the request has ended."""
        self._story = [text, *(steps or self._story[1:])]

    def key(self, key: str) -> tuple[str, dict[str, Any]] | None:
        """A key was pressed. Returns what the broker is to be asked: a service, and the fields."""
        table, columns = TABLES[self._table][0], self._columns()
        self.message = ""
        if self.story_of:
            self.story_of, self._story = "", []
        elif key == "q":
            self.is_over = True
        elif key == "tab":
            self._table, self._chosen, self._first = (self._table + 1) % len(TABLES), "", 0
        elif key in ("<", ">"):
            step = 1 if key == ">" else -1
            self._sorted_by[self._table] = (self._sorted_by[self._table] + step) % len(columns)
        elif key == "v":
            self._is_reversed[self._table] = not self._is_reversed[self._table]
        elif key in ("up", "down"):
            self._move(1 if key == "down" else -1)
        elif key == "s" and table in REQUEST_OF and (row := self._chosen_row()):
            self.story_of = row[REQUEST_OF[table]] or ""
            self.message = "" if self.story_of else f"{row['worker']} is at no request"
        elif (table, key) in ACTS and (row := self._chosen_row()):
            service, field = ACTS[table, key]
            name = row[TABLES[self._table][2]]
            return service, {field: name if service == TELL_WHY else [name]}
        return None

    def _columns(self) -> Sequence[Column]:
        """The columns of the table that a terminal of 80 cells has room for, and of the others as many as fit."""
        columns = TABLES[self._table][1]
        ends = accumulate(size for _, size, _, _ in columns)
        return [column for column, end in zip(columns, ends, strict=True) if end <= max(self._width, WIDTH_MIN)]

    def _chosen_row(self) -> Row | None:
        """The chosen row, or else the first; None: there is none."""
        rows = self._sorted()
        field = TABLES[self._table][2]
        return next((row for row in rows if row[field] == self._chosen), rows[0] if rows else None)

    def _names(self) -> list[str]:
        return [row[TABLES[self._table][2]] for row in self._sorted()]

    def _move(self, step: int) -> None:
        names = self._names()
        if names:
            place = names.index(self._chosen) if self._chosen in names else 0
            self._chosen = names[max(0, min(len(names) - 1, place + step))]

    # --- lines

    def lines(self, width: int, height: int) -> list[tuple[str, str]]:
        """The screen, line by line: a style (``""``, ``bold``, ``reverse`` or ``dim``), and a text that fits into ``width``."""
        self._width = width
        table, columns, field = TABLES[self._table][0], self._columns(), TABLES[self._table][2]
        if not self._status:
            return [("dim", said("waiting for {what}", what=word("the broker", "top"))[:width])]
        if self.story_of:
            return self._story_lines(width, height)
        message = textwrap.wrap(visible(self.message), max(10, width))[:MESSAGE_LINES_MAX] or [""]
        room = max(1, height - HEAD_LINES - len(message) - 1)
        rows = self._sorted()
        names = [row[field] for row in rows]
        place = names.index(self._chosen) if self._chosen in names else 0
        self._first = max(0, min(self._first, place, len(rows) - room), place - room + 1)
        shown = rows[self._first : self._first + room]
        found = [
            ("bold", self._summary()),
            ("", cell_text(lambda status: _sentence(status["verdict"]), self._status)),
            ("", ""),
        ]
        found.append(("bold", "".join(self._heading(number, column) for number, column in enumerate(columns))))
        for row in shown:
            text = "".join(_fit(_cell(column, row), column[1]) for column in columns)
            found.append(("reverse" if row[field] == names[place] else "", text))
        found += [("", "")] * (room - len(shown))
        found += [("", line) for line in message]
        keys = f"{word(KEYS[table], 'top')}  {word(KEYS_OF_ALL, 'top')}"
        found.append(("dim", f"{word(table, 'top table')} {len(rows)}  {keys}"))
        return [(style, _cut(text, width)) for style, text in found]

    def _story_lines(self, width: int, height: int) -> list[tuple[str, str]]:
        """Why the request has not ended, and the steps of its story; the last of them, if there are more than lines."""
        why, *steps = (textwrap.wrap(visible(text), max(10, width)) for text in self._story or [""])
        why = why[:MESSAGE_LINES_MAX]
        room = max(1, height - HEAD_LINES - len(why))
        shown = [line for step in steps for line in step][-room:]
        head = [
            ("bold", self._summary()),
            ("bold", said("The story of {request}", request=visible(self.story_of))),
            *(("", line) for line in why),
        ]
        found = [*head, ("", ""), *(("", line) for line in shown), *[("", "")] * (room - len(shown))]
        return [(style, _cut(text, width)) for style, text in [*found, ("dim", word(GO_BACK, "top"))]]

    def _summary(self) -> str:
        status = self._status
        counts = status.get("latency", {}).get("counts", ())
        p50, p99 = (seconds(bucket_quantile(counts, share)) for share in (0.5, 0.99))
        times = f"  p50 {p50}  p99 {p99}" if p50 else ""
        figures = (f"{status.get(field, UNKNOWN)} {word(name, 'top')}" for field, name in SUMMARY)
        return f"{'  '.join(figures)}  {self._rate:.1f}/s{times}"

    def _heading(self, number: int, column: Column) -> str:
        mark = ("v" if self._is_reversed[self._table] else "^") if number == self._sorted_by[self._table] else ""
        return _fit(word(column[0], "top") + mark, column[1])

    def _sorted(self) -> list[Row]:
        name, columns = TABLES[self._table][0], TABLES[self._table][1]
        by = columns[self._sorted_by[self._table]][3]

        def order(row: Row) -> tuple[bool, Any]:
            return row.get(by) is not None, "" if row.get(by) is None else row[by]

        return sorted(self._rows[name], key=order, reverse=self._is_reversed[self._table])


def _cell(column: Column, row: Row) -> str:
    """What stands in ``column``; a state in the language of who looks."""
    text = cell_text(column[2], row)
    return word(text, "state") if column[0] == "STATE" else text


def _sentence(told: Row) -> str:
    """The verdict in the language of who looks. Another than English tells numbers so that no word depends on them."""
    english = SENTENCES[told["kind"]]
    if (other := word(english, "verdict")) == english:
        return sentence(told)
    similar = word("; similar: {similar}", "verdict").format(similar=told["similar"]) if told["similar"] else ""
    return other.format(
        **{**told, "service": told["service"] or word("the nameless service", "verdict"), "similar": similar}
    )


def _fit(text: str, width: int) -> str:
    return set_cell_size(_cut(visible(text), width - 1), width)


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, max(0, width - 1)).rstrip() + "…"
