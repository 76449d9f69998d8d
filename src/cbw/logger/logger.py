"""The logger: a PULL for lines of text and a ROUTER for records around :class:`~cbw.core.logger.LoggerCore`, and a file."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from cbw import memory
from cbw.clock import Epoch
from cbw.core import log_events
from cbw.core.batch import boot_of
from cbw.core.key import FOR_LINES, FOR_RECORDS
from cbw.core.logger import Fsync, LoggerCore
from cbw.core.port import Arrival
from cbw.errors import BadMessage, CannotBind, CbwError, NotReady
from cbw.language import said, translated
from cbw.logger.line import JSON, TEXT
from cbw.logger.logfile import LogFile, Rotation
from cbw.observe.inquiry import Inquiry, status_of
from cbw.observe.warning import warn
from cbw.settings import LOG_PORT, LOGGER, default_of, listen_default
from cbw.transport.descriptors import DescriptorWatch
from cbw.transport.free_ports import free_pair
from cbw.transport.guard import Guard
from cbw.transport.peer_keys import PeerKeys
from cbw.transport.poller import Poller, Waker
from cbw.transport.pull import Pull
from cbw.transport.router import Router
from cbw.transport.sockets import Intake, new_context
from cbw.wire import log
from cbw.wire.records import LINE_BYTES_MAX

PORT_MESSAGES_MAX = 256
"""Messages taken from each port in one turn: then those of the other port, and the status page, have theirs."""
MEMORY_SHARE = 8
"""What has arrived may take this share of the container's memory: what a turn takes from each port is in memory up to four
times, as frames, as lines, as their join and as the block that is written."""
PORT_TRIES = 10
"""Pairs of free ports that are tried: others may take one of them before it is listened on."""
LEAVE_S = 0.5
"""How long a logger that is stopped still reads lines of text, of which nobody else has a copy."""


class Logger:
    """Writes what all roles send to the file ``path``. Binds at once, serves in :meth:`run`, ends by :meth:`stop`.

    ``text_port`` takes lines of text; the port above it takes records. 0 takes a free pair. ``fsync`` is ``always``,
    ``interval`` or ``never``, ``format`` ``json`` or ``text``. ``keys`` and ``listen`` are as for :class:`cbw.Broker`.

    Raises:
        CannotBind: a port is taken, or may not be used.
        NotReady: the file cannot be written; the text says why and what to do.
    """

    def __init__(
        self,
        text_port: int = LOG_PORT,
        path: str | Path = "cbw-logs/logs",
        *,
        listen: str | None = None,
        name: str | None = None,
        fsync: str = default_of(LOGGER, "fsync"),
        format: str = default_of(LOGGER, "format"),
        rotate_bytes: int = default_of(LOGGER, "rotate_bytes"),
        rotate_age_s: float = default_of(LOGGER, "rotate_age_s"),
        keep: int = default_of(LOGGER, "keep"),
        compress: bool = default_of(LOGGER, "compress"),
        keys: str | Path | None = None,
    ) -> None:
        self.guard = Guard.of(keys, "logger")
        self.listen = listen = listen or listen_default(has_keys=self.guard is not None)
        self._epoch = Epoch()
        self._format = TEXT if format == "text" else JSON
        self.core = LoggerCore(
            name or f"LOG_{socket.gethostname()}",
            boot_of(os.urandom(16).hex()),  # which nobody can prove to be theirs
            epoch=self._epoch.offset(),
            fsync=Fsync(fsync),
            render=self._format.render,
        )
        self._file = LogFile(path, Rotation(rotate_bytes, rotate_age_s, keep, compress), format=self._format)
        self.path = self._file.path
        self._lock = contextlib.ExitStack()  # holds the file's lock while the core has the file
        self._has_read = False
        self._memory_limit = memory.limit_bytes()
        self._waker = Waker()
        self._context = new_context()
        try:
            if self.guard is not None:
                self.guard.open(self._context)
            self._texts, self._records = self._bind(listen, text_port)
        except CbwError:  # but not after a Ctrl-C: with a socket half made this would wait for ever
            if self.guard is not None:
                self.guard.close()
            self._context.term()
            self._file.close()
            raise
        self.text_port = self._texts.port
        self.record_port = self._records.port
        self._is_stop_wanted = self._is_reopen_wanted = False
        self._lost: list[bytes] = []  # connections of which the core does not know yet
        self.inquiry = Inquiry(self._waker.wake)
        self._started_at = time.monotonic()
        self._poller = Poller(
            self._texts.socket,
            self._records.socket,
            self._waker.fileno(),
            self._texts.monitor_news,
            self._records.monitor_news,
        )
        self._descriptors = DescriptorWatch(warn)
        if self.guard is not None:
            self._poller.add(self.guard.news)

    def _bind(self, listen: str, port: int) -> tuple[Pull, Router]:
        limit = self._memory_limit
        intake = Intake() if limit is None else Intake.within(limit // MEMORY_SHARE)
        for _ in range(1 if port else PORT_TRIES):
            try:
                return self._listen(listen, port or free_pair(listen), intake)
            except CannotBind as error:
                failure = error
        raise failure

    def _listen(self, host: str, port: int, intake: Intake) -> tuple[Pull, Router]:
        texts = Pull(self._context, host, port, bytes_max=LINE_BYTES_MAX, intake=intake, keys=self._keys(FOR_LINES))
        try:
            records = Router(
                self._context,
                host,
                texts.port + 1,
                body_bytes_max=log.BATCH_BYTES_MAX,
                intake=intake,
                keys=self._keys(FOR_RECORDS),
            )
        except CbwError:
            texts.close()
            raise
        return texts, records

    def _keys(self, port: str) -> PeerKeys | None:
        return self.guard.port(port) if self.guard is not None else None

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
        counts = msgspec.structs.asdict(core.counts)
        bad = counts.pop("bad_messages")
        return status_of(
            "logger",
            core.name,
            self._started_at,
            f"cannot write {self.path}: {core.failure}" if core.failure else "",
            boot=core.boot,
            file=str(self.path),
            file_bytes=self._file.size,
            senders=len(core.positions),
            ports={"text": self.text_port, "records": self.record_port},
            counts={**counts, "rotated": self._file.rotated, "messages_bad": bad},
        )

    def run(self) -> None:
        """Serve until :meth:`stop`.

        Raises:
            NotReady: the file could be opened, but not read; or not written at the end.
        """
        core = self.core
        try:
            ports = f"text on port {self.text_port}, records on port {self.record_port}"
            self._turn([log_events.LoggerStarted(ports)])
            while not self._is_stop_wanted:
                self._sleep(core.wake_at)
                self._turn()
            leave_at = time.monotonic() + LEAVE_S
            while self._texts.has_input and core.can_write and time.monotonic() < leave_at:
                self._turn()
                self._sleep(0.0)
            self._turn([log_events.StopAsked()])
            if not core.can_write:
                lines = f"the last records and {core.waiting_lines} lines of text"
                raise NotReady(f"cannot write the log {self.path}: {core.failure}; {lines} are not in it")
        finally:
            self._lock.close()
            self._texts.close()
            self._records.close()
            if self.guard is not None:
                self.guard.close()
            self._context.term()
            self._waker.close()
            self._file.close()

    def _turn(self, facts: Sequence[log_events.Fact] = ()) -> None:
        """Tell the core what has arrived, and then how its orders went, until it has no more of them."""
        now = time.monotonic()
        if now >= self._descriptors.look_at:
            self._descriptors.look(now)
        outcomes: list[log_events.Fact] = [log_events.TurnBegan(self._epoch.offset()), *facts, *self._arrived()]
        while outcomes:
            orders = self.core.step(outcomes, now)
            outcomes = [outcome for order in orders if (outcome := self._carry_out(order)) is not None]
        if self.inquiry.is_open:
            self.inquiry.answer(self._status())

    def _arrived(self) -> list[log_events.Fact]:
        facts: list[log_events.Fact] = []
        if self._is_reopen_wanted:
            self._is_reopen_wanted = False
            facts.append(log_events.ReopenAsked())
        lines = [self._format.text_line(frames) for frames in self._texts.receive(PORT_MESSAGES_MAX)]
        if lines:
            facts.append(log_events.TextArrived(lines))
        facts += [_batch(arrival, self._records.keys) for arrival in self._records.receive(PORT_MESSAGES_MAX)]
        if self._lost:
            facts.append(log_events.SendersLost(self._lost))
            self._lost = []
        return facts

    def _carry_out(self, order: log_events.Order) -> log_events.Fact | None:
        match order:
            case log_events.Reply(peer, reply):
                self._records.send(peer, log.encode_reply(reply))
            case log_events.ReleaseFile():
                self._lock.close()
            case log_events.TellFailure(reason):
                warn(
                    said(
                        "cannot write the log {path}: {reason}; trying again until it works",
                        path=self.path,
                        reason=translated(reason),
                    )
                )
            case log_events.TellRecovery():
                warn(said("the log {path} can be written again", path=self.path))
            case _:
                return self._carry_out_on_file(order)
        return None

    def _carry_out_on_file(self, order: log_events.Order) -> log_events.Fact:
        try:
            match order:
                case log_events.TakeFile():
                    return self._take_file()
                case log_events.Write(block):
                    self._file.append(block)
                    return log_events.BlockWritten()
                case log_events.Rotate(first_line):
                    self._file.rotate(first_line)
                    return log_events.FileRotated()
                case log_events.Sync():
                    self._file.sync()
                    return log_events.FileSynced()
                case log_events.Reopen():
                    self._file.reopen()
                    return log_events.FileReopened()
                case _:
                    raise TypeError(order)
        except OSError as error:
            reason = error.strerror or str(error)
            if isinstance(order, log_events.Rotate):
                return log_events.RotationFailed(reason)
            if isinstance(order, log_events.Sync):
                return log_events.SyncFailed(reason)
            if not self._has_read:
                raise NotReady(f"cannot read the log {self.path}: {reason}") from None
            return log_events.WriteFailed(reason)

    def _take_file(self) -> log_events.FileTaken:
        file = self._file
        positions = self._lock.enter_context(file.locked())
        self._has_read = True
        return log_events.FileTaken(positions, file.torn, file.size == 0, file.is_full(time.time()))

    def _tell(self, text: str) -> None:
        warn(text)

    def _sleep(self, wake_at: float) -> None:
        ready = self._poller.poll(wake_at - time.monotonic())
        self._records.on_ready(ready)
        self._lost += self._records.take_lost(time.monotonic())
        self._records.take_connected()
        self._texts.watch()
        if self.guard is not None:
            for text in self.guard.turn(ready, time.monotonic()):
                warn(text)
        if self._waker.fileno() in ready:
            self._waker.clear()


def _batch(arrival: Arrival, keys: PeerKeys | None) -> log_events.Fact:
    try:
        if arrival.fault:
            raise BadMessage(arrival.fault)
        header, lines = log.read_batch(arrival.frames)
        if keys is not None and not keys.may_speak_as(arrival.peer, header.sender):
            raise BadMessage(f"{header.sender!r} has another key: records come in one's own name only")
        return log_events.BatchArrived(arrival.peer, header, lines)
    except BadMessage as error:
        return log_events.BadMessageArrived(arrival.peer, str(error))
