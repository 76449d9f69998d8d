"""The decisions of a sender of records: what is sent, sent again, dropped, and when the connection is given up.

Records are numbered from 1 at each start and kept, encoded, in chunks of consecutive numbers, until the logger has them on
disk. After a lost connection, or when the logger asks, everything that is not acknowledged is sent again; the logger
leaves out what it has. When memory is full the oldest chunks are dropped. Their numbers are not used again, so the logger
sees exactly how many records are missing, and records it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

import msgspec

from cbw.core import log_events
from cbw.core.agenda import Agenda
from cbw.core.batch import Ack, BatchHeader, boot_of

SILENCE_S = 5.0
"""A logger that owes an answer is taken for dead after this time without a word: five of the words that it says each second."""
WINDOW_BYTES = 16 << 20
"""Bytes sent ahead of their acknowledgement: enough for half a second (the logger's fsync interval) at 150 k records/s."""
SEND_RETRY_S = 0.05
"""Time until a connection that took no more is tried again: the logger needs a few milliseconds for a batch."""
RECONNECT_RETRY_S = 0.25
"""Time until a new connection is tried again for which there was no file descriptor."""
ABSENT_S = 0.25
"""A sender that is closed waits this long for a logger to connect to: on one network that takes a few milliseconds."""


class _Chunk(msgspec.Struct, frozen=True, gc=False):
    """Records ``first`` to ``first + count - 1``, a line of JSON each."""

    first: int
    count: int
    payload: bytes


class SenderCore:
    """The records of one start of the sender ``name``, which has drawn the secret ``proof`` for it.

    ``bytes_max`` bounds the memory for their payloads.
    """

    def __init__(self, name: str, proof: str, bytes_max: int, now: float) -> None:
        self.name = name
        self.boot = boot_of(proof)
        self._proof = proof
        self.bytes = 0  #: of all payloads that are here
        self.last = 0  #: the newest record
        self.acknowledged = 0  #: the newest record that the logger has said to be on disk
        self.dropped = 0  #: records for which there was no memory
        self._bytes_max = bytes_max
        self._chunks: deque[_Chunk] = deque()
        self._sent = 0  # this many chunks, from the left, were sent and are not acknowledged
        self._sent_bytes = 0
        self._is_connected = False
        self._is_blocked = False
        self._heard_at = now  # when the logger last said something, or last began to owe a word
        self._absent_at = self._give_up_at = math.inf
        self._is_closing = False
        self._orders: list[log_events.Order] = []
        self._agenda = Agenda()
        self._silence = self._agenda.timer(self._reconnect)
        self._reconnection = self._agenda.timer(self._reconnect)
        self._send_retry = self._agenda.timer(self._unblock)
        self._end = self._agenda.timer(lambda _: None)  # it only wakes: every step looks whether it is time to end

    @property
    def oldest(self) -> int:
        """The oldest record that is here; the next one to come if there is none."""
        return self._chunks[0].first if self._chunks else self.last + 1

    @property
    def waiting(self) -> int:
        """How many records are here."""
        return self.last + 1 - self.oldest

    @property
    def wake_at(self) -> float:
        """When :meth:`step` is to be called even if nothing happens; infinity: never."""
        return self._agenda.wake_at

    def step(self, facts: Iterable[log_events.Fact], now: float) -> list[log_events.Order]:
        """What is to be done, in this order, after ``facts`` have happened."""
        for fact in facts:
            self._take(fact, now)
        self._watch_for_silence()
        self._agenda.run(now)
        self._send(now)
        self._close(now)
        self._watch_for_silence()
        orders, self._orders = self._orders, []
        return orders

    # --- facts

    def _take(self, fact: log_events.Fact, now: float) -> None:
        match fact:
            case log_events.RecordsAdded(count, payload):
                self._add(count, payload)
            case log_events.LoggerConnected():
                self._is_connected = True
                self._start_again(now)
            case log_events.LoggerDisconnected():
                self._is_connected = False
                self._start_again(now)
            case log_events.ReplyArrived(Ack() as ack) if ack.boot == self.boot:
                self._acknowledge(ack, now)
            case log_events.ReplyArrived():
                pass  # a refusal takes nothing, and an acknowledgement of another start is not for us
            case log_events.SendBlocked(first):
                self._block(first, now)
            case log_events.ReconnectFailed():
                self._reconnection.set(now + RECONNECT_RETRY_S)
            case log_events.CloseAsked(timeout_s):
                self._is_closing = True
                self._absent_at, self._give_up_at = now + ABSENT_S, now + timeout_s
            case _:
                raise TypeError(fact)

    def _add(self, count: int, payload: bytes) -> None:
        self._chunks.append(_Chunk(self.last + 1, count, payload))
        self.last += count
        self.bytes += len(payload)
        while self.bytes > self._bytes_max and self._chunks:
            self.dropped += self._pop().count

    def _acknowledge(self, ack: Ack, now: float) -> None:
        self._heard_at = now
        if ack.through > self.last:
            return  # it was never sent: a mistake of the logger's
        self.acknowledged = max(self.acknowledged, ack.through)
        while self._chunks and self._chunks[0].first + self._chunks[0].count - 1 <= ack.through:
            self._pop()
        self._unblock(now)
        if ack.resend:
            self._sent = self._sent_bytes = 0

    def _start_again(self, now: float) -> None:
        self._sent = self._sent_bytes = 0
        self._heard_at = now
        self._reconnection.clear()
        self._unblock(now)

    def _block(self, first: int, now: float) -> None:
        while self._sent and self._chunks[self._sent - 1].first >= first:
            self._sent -= 1
            self._sent_bytes -= len(self._chunks[self._sent].payload)
        self._is_blocked = True
        self._send_retry.set(now + SEND_RETRY_S)

    # --- orders

    def _send(self, now: float) -> None:
        if not self._is_connected or self._is_blocked:
            return
        while self._sent < len(self._chunks) and self._sent_bytes < WINDOW_BYTES:
            if not self._sent:
                self._heard_at = now  # until now the logger owed nothing
            chunk = self._chunks[self._sent]
            header = BatchHeader(
                self.name, self.boot, chunk.first, chunk.count, self.oldest, self._is_closing, self._proof
            )
            self._orders.append(log_events.Send(header, chunk.payload))
            self._sent += 1
            self._sent_bytes += len(chunk.payload)

    def _close(self, now: float) -> None:
        if not self._is_closing:
            return
        is_absent = not self._is_connected and now >= self._absent_at
        if not self._chunks or is_absent or now >= self._give_up_at:
            self._orders.append(log_events.Close())
        else:
            self._end.set(self._absent_at if now < self._absent_at else self._give_up_at)

    def _reconnect(self, now: float) -> None:
        self._is_connected = False
        self._start_again(now)
        self._orders.append(log_events.Reconnect())

    def _unblock(self, _now: float) -> None:
        self._is_blocked = False
        self._send_retry.clear()

    # --- inside

    def _watch_for_silence(self) -> None:
        """The logger owes a word while something is sent to it; and, while something is to be sent, a connection."""
        if self._sent if self._is_connected else self._chunks:
            self._silence.set(self._heard_at + SILENCE_S)
        else:
            self._silence.clear()

    def _pop(self) -> _Chunk:
        chunk = self._chunks.popleft()
        self.bytes -= len(chunk.payload)
        if self._sent:
            self._sent -= 1
            self._sent_bytes -= len(chunk.payload)
        return chunk
