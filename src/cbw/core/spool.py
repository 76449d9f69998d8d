"""The sender's side of CBWL/1: records wait here until the logger has them on disk.

Records are numbered from 1 and kept, encoded, in chunks of consecutive numbers. At a lost connection, or when the logger
asks, everything that is not acknowledged is sent again; the logger leaves out what it has. When the spool is full its
oldest chunks go: their numbers stay, so the logger sees exactly how many records are missing, and writes it down.
"""

from __future__ import annotations

from collections import deque

import msgspec

SILENCE_S = 5.0
"""A logger that owes an answer says something every second; after five it is taken for lost."""
WINDOW_BYTES = 16 << 20
"""So much is sent ahead of its acknowledgement: enough for half a second (the logger's fsync interval) at 150 k records/s."""


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """Records ``first`` … ``first + count - 1``, a line of JSON each."""

    first: int
    count: int
    payload: bytes


class Spool:
    """``bytes_max`` bounds the payloads together. Time is monotonic seconds."""

    def __init__(self, bytes_max: int, now: float) -> None:
        self._bytes_max = bytes_max
        self._chunks: deque[Chunk] = deque()
        self._sent = 0  # so many chunks from the left are on their way
        self._sent_bytes = 0
        self._is_connected = False
        self._heard_at = now  # or since when something has been owed
        self.bytes = 0
        self.last = 0  # the newest record
        self.acked = 0  # the newest record that is on disk, as far as we were told
        self.dropped = 0

    @property
    def oldest(self) -> int:
        """The oldest record that is still here; the next one to come if there is none."""
        return self._chunks[0].first if self._chunks else self.last + 1

    @property
    def waiting(self) -> int:
        """How many records are here."""
        return self.last + 1 - self.oldest

    @property
    def is_empty(self) -> bool:
        """Whether everything has been acknowledged or dropped."""
        return not self._chunks

    # --- facts

    def put(self, count: int, payload: bytes) -> None:
        """``count`` new records. The oldest go if there is no room."""
        self._chunks.append(Chunk(self.last + 1, count, payload))
        self.last += count
        self.bytes += len(payload)
        while self.bytes > self._bytes_max and self._chunks:
            chunk = self._pop()
            self.dropped += chunk.count

    def connected(self, now: float) -> None:
        """The logger is there (again): from now on it is owed everything."""
        self._is_connected = True
        self._resend()
        self._heard_at = now

    def disconnected(self, now: float) -> None:
        """What was on its way may be lost."""
        self._is_connected = False
        self._resend()
        self._heard_at = now

    def acknowledged(self, through: int, now: float, *, is_resend_wanted: bool = False) -> None:
        """The logger has everything up to ``through``. A number that was never sent is a logger's mistake: ignored."""
        self._heard_at = now
        if through > self.last:
            return
        self.acked = max(self.acked, through)
        while self._chunks and self._chunks[0].first + self._chunks[0].count - 1 <= through:
            self._pop()
        if is_resend_wanted:
            self._resend()

    # --- what the shell asks

    def next(self, now: float) -> Chunk | None:
        """What is to be sent next; tell :meth:`sent` if that was possible."""
        if not self._is_connected or self._sent == len(self._chunks) or self._sent_bytes >= WINDOW_BYTES:
            return None
        if self._sent == 0:
            self._heard_at = now  # nothing was owed until now
        return self._chunks[self._sent]

    def sent(self) -> None:
        """The chunk of the last :meth:`next` is on its way."""
        self._sent_bytes += len(self._chunks[self._sent].payload)
        self._sent += 1

    def is_silent(self, now: float) -> bool:
        """Whether the logger owes a word, or a connection, for too long: connect anew, its address may have changed."""
        return bool(self._sent if self._is_connected else self._chunks) and now - self._heard_at > SILENCE_S

    # --- inside

    def _pop(self) -> Chunk:
        chunk = self._chunks.popleft()
        self.bytes -= len(chunk.payload)
        if self._sent:
            self._sent -= 1
            self._sent_bytes -= len(chunk.payload)
        return chunk

    def _resend(self) -> None:
        self._sent = 0
        self._sent_bytes = 0
