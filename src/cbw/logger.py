"""The logger: a PULL for lines of text and a ROUTER for records around :class:`~cbw.core.logger.LoggerCore`, and a file."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import zmq

from cbw.clock import Epoch
from cbw.core.lines import Refused
from cbw.core.logger import Fsync, LoggerCore
from cbw.errors import BadMessage, CannotBind, CbwError, NotReady
from cbw.logfile import LogFile, Rotation, text_line
from cbw.net import Arrival, Pull, Router
from cbw.settings import LOG_PORT, LOGGER, default_of
from cbw.sleeper import Sleeper, Waker
from cbw.status import Inquiry, status_of
from cbw.trace import text_of
from cbw.wire import log

TURN_MESSAGES = 256
TEXT_LINE_BYTES_MAX = 1 << 20
"""A longer line ends the connection it comes over."""
RETRY_S = 1.0
"""A file that cannot be written is tried again so often."""
ROTATE_RETRY_S = 60.0
"""And one that cannot be renamed so often; meanwhile it grows."""
LEAVE_S = 0.5
"""So long a logger that is stopped still reads lines of text, which nobody else keeps."""
TORN_CHARS = 200
_CONTROL = {code: f"\\x{code:02x}" for code in range(32) if code != 9} | {10: "\\n", 13: "\\r"}


class Logger:
    """Writes what all roles send to the file ``path``. Binds at once, serves in :meth:`run`, ends by :meth:`stop`.

    ``text_port`` takes lines of text; the port above it takes records. 0 takes a free pair. ``fsync`` is ``always``,
    ``interval`` or ``never``, ``format`` ``json`` or ``text``.

    Raises:
        CannotBind: a port is taken, or may not be used.
        NotReady: the file cannot be written; the text says why and what to do.
    """

    def __init__(
        self,
        text_port: int = LOG_PORT,
        path: str | Path = "cbw-logs/logs",
        *,
        host: str = "*",
        name: str | None = None,
        fsync: str = default_of(LOGGER, "fsync"),
        format: str = default_of(LOGGER, "format"),
        rotate_bytes: int = default_of(LOGGER, "rotate_bytes"),
        rotate_age_s: float = default_of(LOGGER, "rotate_age_s"),
        keep: int = default_of(LOGGER, "keep"),
        compress: bool = default_of(LOGGER, "compress"),
    ) -> None:
        self._epoch = Epoch()
        self.core = LoggerCore(
            name or f"LOG_{socket.gethostname()}",
            os.urandom(8).hex(),
            epoch=self._epoch.offset(),
            fsync=Fsync(fsync),
            render=text_line(text_of) if format == "text" else None,
        )
        rotation = Rotation(rotate_bytes, rotate_age_s, keep, compress)
        self._file = LogFile(path, rotation, is_text=format == "text")
        self.path = self._file.path
        self._waker = Waker()
        self._context: zmq.Context[Any] = zmq.Context()
        try:
            self._texts, self._records = self._bind(host, text_port)
        except CbwError:  # but not after a Ctrl-C: with a socket half made this would wait for ever
            self._context.term()
            self._file.close()
            raise
        self.text_port = self._texts.port
        self.record_port = self._records.port
        self._is_stop_wanted = self._is_reopen_wanted = False
        self.inquiry = Inquiry(self._waker.wake)
        self._started_at = time.monotonic()
        self._failure = ""
        self._retry_at = 0.0
        self._rotate_at = 0.0
        self._sleeper = Sleeper(
            self._texts.socket, self._records.socket, self._waker.fileno(), self._records.monitor_news
        )

    def _bind(self, host: str, port: int) -> tuple[Pull, Router]:
        for _ in range(100):
            texts = Pull(self._context, host, port, bytes_max=TEXT_LINE_BYTES_MAX)
            try:
                return texts, Router(self._context, host, texts.port + 1, body_bytes_max=log.BATCH_BYTES_MAX)
            except CbwError as error:
                texts.close()
                if port != 0 or not isinstance(error, CannotBind):
                    raise
        raise CannotBind("no two free ports in a row", advice="Give a port.")

    def stop(self) -> None:
        """Write what is here and end :meth:`run`. Safe from any thread and from signal handlers."""
        self._is_stop_wanted = True
        self._waker.wake()

    def reopen(self) -> None:
        """Open the file anew, because somebody has moved it away. Safe from any thread and from signal handlers."""
        self._is_reopen_wanted = True
        self._waker.wake()

    def _status(self) -> dict[str, Any]:
        core = self.core
        counts = {
            "records": core.records,
            "text_lines": core.text_lines,
            "gaps": core.gaps,
            "missing": core.missing,
            "duplicates": core.duplicates,
            "lost": core.lost,
            "rotated": self._file.rotated,
            "messages_bad": core.bad_messages,
        }
        return status_of(
            "logger",
            core.name,
            self._started_at,
            "" if core.can_write else f"cannot write {self.path}: {self._failure}",
            boot=core.boot,
            file=str(self.path),
            file_bytes=self._file.size,
            senders=len(core.positions),
            ports={"text": self.text_port, "records": self.record_port},
            counts=counts,
        )

    def run(self) -> None:
        """Serve until :meth:`stop`.

        Raises:
            NotReady: the file could be opened, but not read; or not written at the end.
        """
        try:
            self._begin()
            while not self._is_stop_wanted:
                self._turn()
                self._sleep()
            leave_at = time.monotonic() + LEAVE_S
            while self._texts.has_input and self.core.can_write and time.monotonic() < leave_at:
                self._turn()
                self._sleep()
            self._turn()
            self.core.noticed("stopped", "", time.monotonic())
            self._turn()
            self._sync()
            if not self.core.can_write:
                lines = f"the last records and {self.core.waiting_lines} lines of text"
                raise NotReady(f"cannot write the log {self.path}: {self._failure}; {lines} are not in it")
        finally:
            self._texts.close()
            self._records.close()
            self._context.term()
            self._waker.close()
            self._file.close()

    def _begin(self) -> None:
        now = time.monotonic()
        try:
            with self._file.turn() as positions:
                self._caught_up(positions, now)
        except OSError as error:
            raise NotReady(f"cannot read the log {self.path}: {error.strerror}") from None
        ports = f"text on port {self.text_port}, records on port {self.record_port}"
        self.core.noticed("started", ports, now)

    def _caught_up(self, positions: dict[str, int], now: float) -> None:
        """What the file has told: how far it has come, and whether a crash tore its last line."""
        self.core.absorb(positions)
        if torn := self._file.torn:
            text = torn[:TORN_CHARS].decode(errors="backslashreplace")
            self.core.noticed("repaired", f"cut off what a crash left of a line: {text}", now, len(torn))

    def _turn(self) -> None:
        """Take what has arrived, write it, tell who is to be told."""
        core = self.core
        core.epoch = self._epoch.offset()
        now = time.monotonic()
        for frames in self._texts.receive(TURN_MESSAGES):
            core.said(_line(frames))
        can_try = core.can_write or now >= self._retry_at or self._is_stop_wanted
        arrivals = list(self._records.receive(TURN_MESSAGES))
        if not core.can_write:
            arrivals = []  # without a word, so that their senders keep them and send them again
        if self._is_reopen_wanted:
            self._is_reopen_wanted = False
            try:
                self._file.reopen()
            except OSError as error:
                self._failed(b"", error, now)
            core.noticed("reopened", "", now)
        if can_try:
            self._write(arrivals, now)
        if core.is_sync_due(now):
            self._sync()
        for peer, ack in core.take_replies(now):
            self._records.send(peer, log.encode_reply(ack))
        if self.inquiry.is_open:
            self.inquiry.answer(self._status())

    def _write(self, arrivals: list[Arrival], now: float) -> None:
        block = b""
        try:
            with self._file.turn() as positions:
                self._caught_up(positions, now)
                self._begin_file(now)
                for arrival in arrivals:
                    self._take(arrival, now)
                arrivals = []
                block = self.core.take_block(now)
                if block:
                    self._file.append(block)
        except OSError as error:
            for arrival in arrivals:  # the lock was not to be had; nobody else would take these
                self._take(arrival, now)
            self._failed(block, error, now)
        else:
            if self._failure:
                self._failure = ""
                print(f"the log {self.path} can be written again", file=sys.stderr, flush=True)
            if block:
                self.core.written(now)
            else:
                self.core.can_write = True

    def _begin_file(self, now: float) -> None:
        """Rotate if it is time for that; and a file that somebody else has emptied or moved away begins like a rotated one."""
        file = self._file
        if file.size == 0:
            if self.core.positions:
                file.append(self.core.positions_line(now))
        elif now >= self._rotate_at and file.is_full(time.time()):
            try:
                file.rotate(self.core.positions_line(now))
            except OSError as error:  # the name may be a mount, the folder not ours, the disk full: writing may go on
                self._rotate_at = now + ROTATE_RETRY_S
                reason = error.strerror or str(error)
                self.core.noticed("not_rotated", f"{reason}; trying again after {ROTATE_RETRY_S:g} s", now)

    def _take(self, arrival: Arrival, now: float) -> None:
        try:
            if arrival.excess:
                raise BadMessage(arrival.excess)
            header, payload = log.read_lines(arrival.frames)
        except BadMessage as error:
            self.core.bad_message(str(error), now)
            self._records.send(arrival.peer, log.encode_reply(Refused(str(error))))
        else:
            self.core.received(arrival.peer, header, payload, now)

    def _sync(self) -> None:
        try:
            self._file.sync()
        except OSError as error:
            self._failed(b"", error, time.monotonic())
        else:
            self.core.synced()

    def _failed(self, block: bytes, error: OSError, now: float) -> None:
        self.core.failed(block)
        self._retry_at = now + RETRY_S
        reason = error.strerror or str(error)
        if self._failure != reason:
            self._failure = reason
            print(
                f"cannot write the log {self.path}: {reason}; trying again until it works", file=sys.stderr, flush=True
            )

    def _sleep(self) -> None:
        core = self.core
        wake_at = 0.0 if self._is_stop_wanted or (core.can_write and core.waiting_lines) else core.wake_at
        if not core.can_write:
            wake_at = min(wake_at, self._retry_at)
        news = self._sleeper.sleep(wake_at - time.monotonic())
        self._records.woke(news)
        self._records.take_lost()
        self._records.take_connected()
        if self._waker.fileno() in news:
            self._waker.clear()


def _line(frames: list[bytes]) -> bytes:
    """A message from the text port as one line: frames joined by a space, whatever would break the line written out."""
    return b" ".join(frames).decode(errors="backslashreplace").translate(_CONTROL).encode()
