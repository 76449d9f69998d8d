"""Sends records to the logger, from a thread of its own: whoever has something to record never waits.

What is recorded is collected for a moment, encoded in batches, and kept in a :class:`~cbw.core.spool.Spool` until the
logger has it on disk. A logger that is not there costs memory up to a bound, then the oldest records, and never time.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import zmq

from cbw.clock import Epoch
from cbw.core.events import Record
from cbw.core.lines import Ack, Lines
from cbw.core.spool import Chunk, Spool
from cbw.errors import BadMessage, NotReady
from cbw.fork import tell_if_forked
from cbw.net import Link
from cbw.sleeper import Sleeper, Waker
from cbw.wire import log
from cbw.wire.records import lines_of

CHUNK_RECORDS = 1024
"""Records are encoded together when there are so many, or when the thread comes round: one at a time costs twice as much."""
COLLECT_S = 0.02
"""The thread comes round no more often than this: a lone record is at the logger so much later."""
RETRY_S = 0.05
CLOSE_S = 2.0
"""At the end the logger has so long to write what is left, if it is there."""
ABSENT_S = 0.25
"""And so long to be there at all."""


class LogSender:
    """Delivers the records of ``name`` to the logger's record port at ``host`` : ``port``.

    With ``epoch`` the times of the records are monotonic, and made seconds since 1970.
    """

    def __init__(self, name: str, host: str, port: int, *, spool_bytes: int, epoch: Epoch | None = None) -> None:
        self.name = name
        self.address = f"{host}:{port}"
        self._place = host, port
        self._epoch = epoch
        self._spool_bytes = spool_bytes
        self._reset()
        self._start()
        tell_if_forked(self)

    def _reset(self) -> None:
        self.boot = os.urandom(8).hex()
        self._spool = Spool(self._spool_bytes, time.monotonic())
        self._pending: deque[Record] = deque()  # anybody may add to it, whoever has the lock takes from it
        self._lock = threading.Lock()  # the spool, and the start
        self._is_awake = False
        self._closed_at = 0.0
        self._close_at: float | None = None
        self._thread: threading.Thread | None = None

    def _start(self) -> None:
        self._waker = Waker()
        self._context: zmq.Context[Any] = zmq.Context()
        self._link = Link(self._context, *self._place)
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def inherited(self) -> None:
        """A forked process is a sender of its own, from its first record on; the parent delivers what it has recorded."""
        self._waker.close()
        self._reset()

    def put(self, records: Sequence[Record]) -> None:
        """Take over ``records``. Returns at once, whatever the logger does; safe from any thread and from signal handlers."""
        self._pending.extend(records)
        is_full = len(self._pending) >= CHUNK_RECORDS
        # Never wait for the lock: a signal handler may have interrupted the thread that has it.
        if (is_full or self._thread is None) and self._lock.acquire(blocking=False):
            try:
                if self._thread is None:
                    self._start()
                if is_full:
                    self._encode()
            finally:
                self._lock.release()
        if not self._is_awake:
            self._is_awake = True
            self._waker.wake()

    def status(self) -> dict[str, int]:
        """How many records were recorded, are on the logger's disk, wait in memory, and were dropped."""
        with self._lock:
            spool, pending = self._spool, len(self._pending)
            return {
                "records": spool.last + pending,
                "acknowledged": spool.acked,
                "waiting": spool.waiting + pending,
                "dropped": spool.dropped,
                "spool_bytes": spool.bytes,
            }

    def close(self, timeout_s: float = CLOSE_S) -> int:
        """Deliver what is left, for a moment; the records that the logger has not acknowledged."""
        if self._thread is not None and self._thread.is_alive():
            self._closed_at = time.monotonic()
            self._close_at = self._closed_at + timeout_s
            self._waker.wake()
            self._thread.join()
            self._waker.close()
        spool = self._spool
        return spool.last - spool.acked

    # --- inside

    def _encode(self) -> None:
        """Number what is pending and put it into the spool. The caller has the lock."""
        pending = self._pending
        records = [pending.popleft() for _ in range(len(pending))]
        for start in range(0, len(records), log.BATCH_RECORDS):
            batch = records[start : start + log.BATCH_RECORDS]
            number, boot, offset = self._spool.last, self.boot, self._epoch.offset() if self._epoch else 0.0
            for record in batch:
                number += 1
                record.at += offset
                record.seq = number
                record.boot = boot
            for count, payload in log.split(lines_of(batch)):
                self._spool.put(count, payload)

    def _run(self) -> None:
        try:
            sleeper = self._new_sleeper()
            while not self._is_over():
                if self._turn():
                    self._reopen()
                    sleeper = self._new_sleeper()
                self._sleep(sleeper)
        finally:
            self._link.close()
            self._context.term()

    def _reopen(self) -> None:
        while True:
            try:
                self._link.reopen()
                return
            except NotReady:  # no descriptors are left, just now
                if self._is_over():
                    raise
                time.sleep(ABSENT_S)

    def _is_over(self) -> bool:
        if self._close_at is None:
            return False
        now = time.monotonic()
        with self._lock:
            is_done = self._spool.is_empty and not self._pending
        is_absent = not self._link.is_connected and now > self._closed_at + ABSENT_S
        return is_done or is_absent or now > self._close_at

    def _turn(self) -> bool:
        """Take in what the logger says, send what is to be sent; True: it is silent, connect anew."""
        link, spool = self._link, self._spool
        now = time.monotonic()
        with self._lock:
            if self._pending:
                self._encode()
            for is_connected in link.watch():
                if is_connected:
                    spool.connected(now)
                else:
                    spool.disconnected(now)
            link.forget_input()  # as it does not always sleep
            while (frames := link.receive()) is not None:
                self._hear(frames, now)
            while (chunk := spool.next(now)) is not None and link.send(self._frames(chunk)):
                spool.sent()
            if spool.is_silent(now):
                spool.disconnected(now)
                return True
        return False

    def _hear(self, frames: Sequence[bytes], now: float) -> None:
        try:
            reply = log.read_reply(frames)
        except BadMessage:
            return  # whoever that is, it acknowledges nothing
        if isinstance(reply, Ack) and reply.boot == self.boot:
            self._spool.acknowledged(reply.through, now, is_resend_wanted=reply.resend)

    def _frames(self, chunk: Chunk) -> list[bytes]:
        is_urgent = self._close_at is not None
        header = Lines(self.name, self.boot, chunk.first, chunk.count, self._spool.oldest, is_urgent)
        return log.encode_lines(header, chunk.payload)

    def _sleep(self, sleeper: Sleeper) -> None:
        link = self._link
        if self._close_at is None:
            time.sleep(COLLECT_S)  # what is recorded meanwhile goes together
        self._is_awake = False
        with self._lock:
            is_idle = self._spool.is_empty and not self._pending
        if self._pending and link.is_connected:
            return
        is_patient = self._close_at is None and not link.is_connected
        link.woke(
            sleeper.sleep(math.inf if is_idle and self._close_at is None else ABSENT_S if is_patient else RETRY_S)
        )
        self._waker.clear()

    def _new_sleeper(self) -> Sleeper:
        return Sleeper(self._link.socket, self._waker.fileno(), self._link.monitor_news)
