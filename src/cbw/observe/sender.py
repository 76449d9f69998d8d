"""Sends records to the logger, from a thread of its own: whoever has something to record never waits.

What is recorded is collected for a moment, encoded in batches, and kept by a :class:`~cbw.core.sender.SenderCore` until the
logger has it on disk. A logger that is not there costs memory up to a bound, then the oldest records, and never time.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Sequence

from cbw import memory
from cbw.clock import Epoch
from cbw.core import log_events
from cbw.core.messages import Refused
from cbw.core.record import Record
from cbw.core.sender import SenderCore
from cbw.errors import BadMessage, NotReady
from cbw.keys.folder import LinkKeys
from cbw.language import said, translated
from cbw.observe.warning import warn
from cbw.settings import LOG
from cbw.transport.fork import call_after_fork
from cbw.transport.link import Link
from cbw.transport.poller import Poller, Waker
from cbw.transport.sockets import new_context
from cbw.wire import log
from cbw.wire.records import lines_of

CHUNK_RECORDS = 1024
"""Records are encoded when there are this many, or when the thread looks: one at a time costs twice as much."""
COLLECT_S = 0.02
"""The thread looks no more often than this, so that records go together. A lone record is at the logger this much later."""
CLOSE_S = 2.0
"""How long the logger has, at the end, to write what is left, if it is there."""


class LogSender:
    """Delivers the records of ``name`` to the logger's record port at ``host`` : ``port``.

    ``spool_bytes`` bounds the memory for records that the logger has not on disk; None: 64 MiB, or less to fit the memory limit
    of the container. With ``epoch`` the times of the records are monotonic, and made seconds since 1970. With ``keys`` the
    connection is encrypted.
    """

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        *,
        spool_bytes: int | None = None,
        epoch: Epoch | None = None,
        keys: LinkKeys | None = None,
    ) -> None:
        self._keys = keys
        self.name = name
        self.address = f"{host}:{port}"
        self._host, self._port = host, port
        self._epoch = epoch
        if spool_bytes is None:
            spool_bytes = memory.defaults_of(LOG, memory.limit_bytes())["log_spool_bytes"]
        self._spool_bytes: int = spool_bytes
        self._reset()
        self._start()
        call_after_fork(self)

    def _reset(self) -> None:
        self._told: Refused | None = None  # why the logger takes nothing, as it was told last
        self._pending: deque[Record] = deque()  # anybody may add to it, whoever has the lock takes from it
        self._lock = threading.Lock()  # of the core, its orders, and the start
        self._core = SenderCore(self.name, os.urandom(16).hex(), self._spool_bytes, time.monotonic())
        self.boot = self._core.boot
        self._orders: list[log_events.Order] = []  # those that the thread has not carried out yet
        self._is_awake = False
        self._close_timeout_s: float | None = None
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def _start(self) -> None:
        self._waker = Waker()
        self._context = new_context()
        self._link = Link(self._context, [(self._host, self._port)], self._waker.wake, keys=self._keys)
        self._poller = self._new_poller()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def after_fork_in_child(self) -> None:
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
            core, pending = self._core, len(self._pending)
            return {
                "records": core.last + pending,
                "acknowledged": core.acknowledged,
                "waiting": core.waiting + pending,
                "dropped": core.dropped,
                "spool_bytes": core.bytes,
            }

    def close(self, timeout_s: float = CLOSE_S) -> int:
        """Deliver what is left, within ``timeout_s``. Returns how many records the logger has not acknowledged."""
        if self._thread is not None and self._thread.is_alive():
            self._close_timeout_s = timeout_s
            self._waker.wake()
            self._thread.join()
            self._waker.close()
        return self._core.last - self._core.acknowledged

    # --- with the lock, in any thread

    def _encode(self) -> None:
        """Number what is pending, encode it and give it to the core."""
        pending = self._pending
        records = [pending.popleft() for _ in range(len(pending))]
        for start in range(0, len(records), log.BATCH_RECORDS_MAX):
            batch = records[start : start + log.BATCH_RECORDS_MAX]
            number, name, boot = self._core.last, self.name, self.boot
            offset = self._epoch.offset() if self._epoch else 0.0
            for record in batch:
                number += 1
                record.at += offset
                record.sender = name
                record.boot = boot
                record.seq = number
            self._tell([log_events.RecordsAdded(*lines) for lines in log.split(lines_of(batch))])

    def _tell(self, facts: Sequence[log_events.Fact]) -> None:
        self._orders += self._core.step(facts, time.monotonic())

    # --- in the sending thread

    def _run(self) -> None:
        try:
            self._turn(self._arrived())
            while self._close_timeout_s is None:
                self._sleep()
                self._turn(self._arrived())
            self._turn([log_events.CloseAsked(self._close_timeout_s)])
            while not self._is_closed:
                self._sleep()
                self._turn(self._arrived())
        finally:
            self._link.close()
            self._context.term()

    def _arrived(self) -> list[log_events.Fact]:
        link = self._link
        if not link.is_open:
            return []
        facts: list[log_events.Fact] = [
            log_events.LoggerConnected() if is_connected else log_events.LoggerDisconnected()
            for is_connected in link.watch()
        ]
        if (refusal := link.handshakes.refusal) is not None and refusal != self._told:
            self._told = refusal
            warn(said("nothing is logged: {reason}", reason=translated(refusal.text)))
        link.forget_input()  # as the thread does not always sleep before it looks
        while (frames := link.receive()) is not None:
            with contextlib.suppress(BadMessage):  # whoever says that, it acknowledges nothing
                facts.append(log_events.ReplyArrived(log.read_reply(frames)))
        return facts

    def _turn(self, facts: list[log_events.Fact]) -> None:
        """Tell the core what has happened, carry out its orders and tell it how that went."""
        while True:
            with self._lock:
                if self._pending:
                    self._encode()
                self._tell(facts)
                orders, self._orders = self._orders, []
            facts = self._carry_out(orders)
            if not facts:
                return

    def _carry_out(self, orders: Sequence[log_events.Order]) -> list[log_events.Fact]:
        outcomes: list[log_events.Fact] = []
        is_blocked = False
        for order in orders:
            match order:
                case log_events.Send(header, payload):
                    if not is_blocked and not self._link.send(log.encode_batch(header, payload)):
                        is_blocked = True
                        outcomes.append(log_events.SendBlocked(header.first))
                case log_events.Reconnect():
                    try:
                        self._link.reopen()
                    except NotReady:
                        outcomes.append(log_events.ReconnectFailed())
                    self._poller = self._new_poller()
                case log_events.Close():
                    self._is_closed = True
                case _:
                    raise TypeError(order)
        return outcomes

    def _sleep(self) -> None:
        link = self._link
        if self._close_timeout_s is None:
            time.sleep(COLLECT_S)  # what is recorded meanwhile goes together
        self._is_awake = False
        if self._orders or (self._pending and link.is_connected):
            return
        ready = self._poller.poll(self._core.wake_at - time.monotonic())
        if link.is_open:
            link.on_ready(ready)
        self._waker.clear()

    def _new_poller(self) -> Poller:
        poller = Poller(self._waker.fileno())
        if self._link.is_open:
            poller.add(self._link.socket)
            poller.add(self._link.monitor_news)
        return poller
