"""One record of what a role did, rendered several times: a line for people, a JSON line in a file, a record at the logger."""

from __future__ import annotations

import os
import re
import sys
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import msgspec

from cbw import settings
from cbw.clock import Epoch, clock_of
from cbw.core.events import Record
from cbw.errors import UsageError
from cbw.sender import LogSender
from cbw.vocabulary import EVENTS
from cbw.wire.records import lines_of

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
ROUTINE = frozenset(event for event, meaning in EVENTS.items() if meaning.level == "debug")
"""What is shown to people only if they ask (``--verbose``)."""


def level_of(record: Record) -> str:
    """``debug``, ``info`` or ``warning``, unless the record has a level of its own."""
    if record.level:
        return record.level
    meaning = EVENTS.get(record.event)
    return meaning.level if meaning is not None else "warning"


class LogTarget(msgspec.Struct, frozen=True):
    """Where the logger is, and what it gets.

    ``port`` is its text port; records go to the next one up. ``level`` is the lowest that is sent. Of the routine records
    of requests only the share ``sample`` is, chosen by the request, so that all roles choose the same ones.

    Raises:
        UsageError: ``host`` is not valid, or there can be no logger at ``port``.
    """

    host: str
    port: int = settings.LOG_PORT
    level: str = "debug"
    sample: float = 1.0
    spool_bytes: int = settings.default_of(settings.LOG, "log_spool_bytes")

    def __post_init__(self) -> None:
        settings.checked_host(self.host, settings.LOGGER_HOST)
        settings.checked_port(self.port, settings.LOGGER_PORT)

    @staticmethod
    def from_environment() -> LogTarget | None:
        """What ``LOGGER_HOST`` and ``LOGGER_PORT`` say; None without ``LOGGER_HOST``.

        Raises:
            UsageError: they say no place.
        """
        host = os.environ.get(settings.LOGGER_HOST.environment, "")
        port = os.environ.get(settings.LOGGER_PORT.environment) or settings.LOG_PORT
        number = settings.checked_port(port, settings.LOGGER_PORT)
        return LogTarget(host, number) if host else None

    def wants(self, record: Record) -> bool:
        """Whether ``record`` is sent."""
        level = level_of(record)
        if level != "debug":
            return self.level != "off" and (self.level != "warning" or level != "info")
        if self.level != "debug":
            return False
        return not record.request or zlib.crc32(record.request.encode()) < self.sample * 0x1_0000_0000


class Trace:
    """Where the records of one role go: the terminal, a file of JSON lines, the logger, all or none of them.

    ``name`` is the role's id, for the logger. With ``tells_bodies`` a client records the beginnings of what it asks and gets.
    Times are written as seconds since 1970; those of the cores are monotonic (see :class:`cbw.clock.Epoch`).

    Raises:
        UsageError: the file cannot be opened.
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        is_printing: bool = True,
        is_verbose: bool = False,
        name: str = "",
        log: LogTarget | None = None,
        tells_bodies: bool = False,
    ) -> None:
        self.tells_bodies = tells_bodies
        self._epoch = Epoch()
        self._file: IO[bytes] | None = None
        self.path = path
        self._is_printing = is_printing
        self.is_verbose = is_verbose
        self._is_print_lost = False
        if path is not None:
            try:
                self._file = Path(path).open("ab", buffering=0)  # noqa: SIM115 - closed by close()
            except OSError as error:
                raise UsageError(
                    f"cannot write the trace to {path}: {error.strerror}", advice="Check --trace."
                ) from None
        self.log = log if log is not None and log.level != "off" else None
        self._only_sends = False  # all of it, and does nothing else: the usual case of a busy role
        self._sends_all = self.log is not None and self.log.level == "debug" and self.log.sample >= 1
        self.sender: LogSender | None = None
        if self.log is not None:
            host, port = self.log.host, self.log.port + 1
            self.sender = LogSender(name, host, port, spool_bytes=self.log.spool_bytes, epoch=self._epoch)
            self._only_sends = self._sends_all and self._file is None and not is_printing

    @property
    def wants_all(self) -> bool:
        """Whether routine records are wanted at all; if not, nobody need make them."""
        is_sent = self.log is not None and self.log.level == "debug" and self.log.sample > 0
        return self._file is not None or self.is_verbose or is_sent

    def write(self, records: Sequence[Record]) -> None:
        """Write ``records``, whole lines in one write; they are not used by anybody else any more.

        A full disk or a logger that is away costs records, never the role.
        """
        sender = self.sender
        if self._only_sends and sender is not None:
            sender.put(records)
            return
        if self._is_printing:
            self._print([record for record in records if self.is_verbose or record.event not in ROUTINE])
        if self._file is not None:
            try:
                offset = self._epoch.offset()
                self._file.write(lines_of([_at_time_of_day(record, offset) for record in records]))
            except OSError as error:
                print(f"the trace ends here: {error.strerror}", file=sys.stderr)
                self._file.close()
                self._file = None
        if sender is not None and self.log is not None:
            sender.put(records if self._sends_all else [record for record in records if self.log.wants(record)])

    def _print(self, records: Sequence[Record]) -> None:
        offset = self._epoch.offset()
        try:
            for record in records:
                print(f"{text_of(record, offset)}\n", end="", flush=True)  # in one piece: others print as well
        except BrokenPipeError:
            raise  # whoever read it has gone, and wants no more of us
        except OSError as error:
            if not self._is_print_lost:
                self._is_print_lost = True
                print(f"what happens cannot be printed: {error.strerror}", file=sys.stderr)

    def close(self) -> None:
        """Deliver what the logger has not got, for a moment, and close the file."""
        if self.sender is not None and (left := self.sender.close()):
            print(f"{left} records for the logger at {self.sender.address} were not delivered", file=sys.stderr)
        self.sender = None
        if self._file is not None:
            self._file.close()
            self._file = None


def _at_time_of_day(record: Record, offset: float) -> Record:
    return msgspec.structs.replace(record, at=record.at + offset)


def text_of(record: Record, offset: float = 0.0) -> str:
    """One line for people: time, who, what happened, to what. ``offset`` makes seconds since 1970 of the record's time."""
    words = [clock_of(record.at + offset), record.sender, record.event.replace("_", " ")]
    for name in ("request", "client", "worker", "service", "text"):
        value = getattr(record, name)
        if value and value != record.sender and not (name == "client" and record.request):
            words.append(f"({value})" if name == "text" else value if name == "request" else f"{name} {value}")
    if record.attempt > 1:
        words.append(f"attempt {record.attempt}")
    if record.count:
        words.append(f"count {record.count}")
    if record.fields:
        words += [f"{name}={value}" for name, value in record.fields.items()]
    return harmless(" ".join(words))


def harmless(text: str) -> str:
    """``text`` from anybody, which must not control a terminal: nor the direction in which it writes."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def read(path: str) -> Iterable[Record]:
    """The records of a trace file, one at a time.

    Raises:
        UsageError: no such file, or a line that is no record.
    """
    decode = msgspec.json.Decoder(Record).decode
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        yield decode(line)
                    except (msgspec.DecodeError, RecursionError) as error:
                        if not line.endswith(b"\n"):
                            return  # the role was killed while it wrote its last line
                        raise UsageError(f"{path}:{number} is no trace record: {error}") from None
    except OSError as error:
        raise UsageError(f"cannot read the trace {path}: {error.strerror}") from None
