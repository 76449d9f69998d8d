"""Where the records of a role go: to people as lines of text, to a file as lines of JSON, to the logger as records."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import msgspec

from cbw import addresses, service_links, settings
from cbw.clock import Epoch, clock_of
from cbw.core import catalogue
from cbw.core.catalogue import EVENTS
from cbw.core.record import Record, level_of
from cbw.errors import UsageError
from cbw.keys.folder import LinkKeys, link_keys
from cbw.language import said, translated
from cbw.observe.sender import LogSender
from cbw.observe.warning import warn
from cbw.visible import visible
from cbw.wire.records import lines_of

TRACEBACK = "traceback"
"""The field of a record that has a handler's traceback: many lines."""
ROUTINE = frozenset(event for event, meaning in EVENTS.items() if meaning.level == "debug")
"""Events that people see only if they ask for them (``--verbose``)."""


class LogTarget(msgspec.Struct, frozen=True):
    """Where the logger is, and which records it gets.

    ``port`` is its text port; records go to the port above it. ``level`` is the lowest level that is sent. Of the routine
    records of requests only the share ``sample`` is sent, chosen by request, so that all roles choose the same requests.
    ``spool_bytes`` and ``keys`` are as in :class:`~cbw.observe.sender.LogSender`.

    Raises:
        UsageError: ``host`` is not a host, or ``port`` not a port that can have another one above it.
    """

    host: str
    port: int = settings.LOG_PORT
    level: str = "debug"
    sample: float = 1.0
    spool_bytes: int | None = None
    keys: LinkKeys | None = None

    def __post_init__(self) -> None:
        addresses.checked_host(self.host, settings.LOGGER_HOST)
        addresses.checked_port(self.port, settings.LOGGER_PORT)

    @staticmethod
    def from_environment(role: str, keys: str | Path | None = None) -> LogTarget | None:
        """The logger that ``LOGGER_HOST`` and ``LOGGER_PORT`` name; None without ``LOGGER_HOST``.

        ``role`` is whose records are sent; ``keys`` are as for :meth:`.KeyFolder.at`.

        Raises:
            UsageError: they do not name an address, or a key is missing.
        """
        host = os.environ.get(settings.LOGGER_HOST.environment, "")
        port = service_links.ignored(settings.LOGGER_PORT.environment) or settings.LOG_PORT
        number = addresses.checked_port(port, settings.LOGGER_PORT)
        return LogTarget(host, number, keys=link_keys(keys, "logger", role)) if host else None

    def wants(self, record: Record) -> bool:
        """Whether ``record`` is to be sent to the logger."""
        level = level_of(record)
        if level != "debug":
            return self.level != "off" and (self.level != "warning" or level != "info")
        if self.level != "debug":
            return False
        return not record.request or zlib.crc32(record.request.encode()) < self.sample * 0x1_0000_0000


class Trace:
    """Writes the records of one role to the terminal, to a file of JSON lines, to the logger: to all or none of them.

    ``name`` is the role's id, for the logger. With ``tells_bodies`` a client records the beginnings of its requests and
    answers. Records have monotonic times; they are written as seconds since 1970 (see :class:`cbw.clock.Epoch`).

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
            self._place = Path(path).absolute()  # a handler may change the current folder
            try:
                self._file = self._place.open("ab", buffering=0)
            except OSError as error:
                raise UsageError(
                    f"cannot write the trace to {path}: {error.strerror}", advice="Check --trace."
                ) from None
        self.log = log if log is not None and log.level != "off" else None
        self._only_sends = (
            False  # sends every record to the logger and does nothing else: the usual case of a busy role
        )
        self._sends_all = self.log is not None and self.log.level == "debug" and self.log.sample >= 1
        self.sender: LogSender | None = None
        if self.log is not None:
            host, port = self.log.host, self.log.port + 1
            self.sender = LogSender(
                name, host, port, spool_bytes=self.log.spool_bytes, epoch=self._epoch, keys=self.log.keys
            )
            self._only_sends = self._sends_all and self._file is None and not is_printing

    @property
    def is_printing(self) -> bool:
        """Whether records are printed that people see without asking for them."""
        return self._is_printing

    @property
    def wants_all(self) -> bool:
        """Whether anybody wants routine records; if not, they need not be made."""
        is_sent = self.log is not None and self.log.level == "debug" and self.log.sample > 0
        return self._file is not None or self.is_verbose or is_sent

    def write(self, records: Sequence[Record]) -> None:
        """Write ``records``, which the caller must not change any more; those of one call are one write.

        A full disk or an absent logger costs records, but does not stop the role.

        Raises:
            BrokenPipeError: once, when nobody reads any more what is printed (``cbw broker | head -1``). By then printing has
                ended, a warning stands on stderr, and these records are written wherever else they go. What comes of it is for
                the role to decide: a broker serves on, because everybody depends on it, and so does a client of the library; a
                worker leaves in order, because others can do its work; a command whose output is its purpose just ends.
        """
        sender = self.sender
        if self._only_sends and sender is not None:
            sender.put(records)
            return
        broken: BrokenPipeError | None = None
        if self._is_printing:
            try:
                self._print([record for record in records if self.is_verbose or record.event not in ROUTINE])
            except BrokenPipeError as error:
                if self._is_printing:  # otherwise another thread was first
                    broken = error
                    records = [*records, self._end_printing(records[-1])]
        self.keep(records)
        if broken is not None:
            raise broken

    def keep(self, records: Sequence[Record]) -> None:
        """Write ``records`` to the file and to the logger, without printing them."""
        if self._file is not None:
            try:
                offset = self._epoch.offset()
                self._file.write(lines_of([_at_time_of_day(record, offset) for record in records]))
            except OSError as error:
                warn(said("the trace ends here: {reason}", reason=translated(error.strerror or str(error))))
                self._file.close()
                self._file = None
        if self.sender is not None and self.log is not None:
            self.sender.put(records if self._sends_all else [record for record in records if self.log.wants(record)])

    def reopen(self) -> None:
        """Go on in a new file at the same place, as the old one was moved away. Safe from any thread and from signal handlers.

        If none can be opened, a warning is printed and the old one is written on.
        """
        file = self._file
        if file is None:
            return
        try:
            with self._place.open("ab", buffering=0) as new:
                os.dup2(new.fileno(), file.fileno(), inheritable=False)  # in one step: other threads may write
        except (OSError, ValueError) as error:  # ValueError: it was closed meanwhile
            reason = translated(str(getattr(error, "strerror", error)))
            warn(said("no new trace can be begun, so the old one grows on: {reason}", reason=reason))

    def _print(self, records: Sequence[Record]) -> None:
        offset = self._epoch.offset()
        try:
            for record in records:
                _print_line(text_of(record, offset))
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:  # a full disk; ValueError: the program has closed its stdout
            if not self._is_print_lost:
                self._is_print_lost = True
                reason = translated(str(getattr(error, "strerror", error)))
                warn(said("what happens cannot be printed: {reason}", reason=reason))

    def _end_printing(self, last: Record) -> Record:
        """Print nothing more; the record that tells so, in the name of the role that recorded ``last``."""
        self._is_printing = False
        text = "nobody reads what is printed here: nothing more will be"
        warn(said("nobody reads what is printed here: nothing more will be"))
        return Record(last.at, catalogue.OUTPUT_UNREAD, role=last.role, sender=last.sender, text=text)

    def close(self) -> None:
        """Wait a moment for the logger to confirm the records that it has not confirmed, and close the file."""
        if self.sender is not None and (left := self.sender.close()):
            address = self.sender.address
            warn(said("{count} records for the logger at {address} were not delivered", count=left, address=address))
        self.sender = None
        if self._file is not None:
            self._file.close()
            self._file = None


def _print_line(text: str) -> None:
    line = f"{text}\n"
    try:
        print(line, end="", flush=True)  # one write for a line: other threads print as well
    except UnicodeEncodeError:  # a stdout that takes only ASCII
        print(line.encode("ascii", "backslashreplace").decode(), end="", flush=True)


def _at_time_of_day(record: Record, offset: float) -> Record:
    return msgspec.structs.replace(record, at=record.at + offset)


def text_of(record: Record, offset: float = 0.0) -> str:
    """``record`` as a line for people, with its traceback below. Its time plus ``offset`` is in seconds since 1970."""
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
        words += [f"{name}={value}" for name, value in record.fields.items() if name != TRACEBACK]
    line = visible(" ".join(words))
    traceback = (record.fields or {}).get(TRACEBACK)
    if not isinstance(traceback, str):
        return line
    return "\n".join([line, *(f"    {visible(below)}" for below in traceback.rstrip().splitlines())])


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
                            return  # the role was killed while it wrote this line
                        raise UsageError(f"{path}:{number} is no record: {error}") from None
    except OSError as error:
        raise UsageError(f"cannot read the trace {path}: {error.strerror}") from None
