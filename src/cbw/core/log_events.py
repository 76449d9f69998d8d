"""What the two cores of the log are told (facts, past tense) and what they want done (orders, imperative)."""

from __future__ import annotations

import msgspec

from cbw.core.batch import Ack, BatchHeader, BatchRefused


class Fact(msgspec.Struct, gc=False):
    """Something that has happened."""


class Order(msgspec.Struct, gc=False):
    """Something that is to be done."""


# --- facts for a sender


class RecordsAdded(Fact):
    """``count`` new records, as lines of JSON."""

    count: int
    payload: bytes


class LoggerConnected(Fact):
    """The connection to the logger was made."""


class LoggerDisconnected(Fact):
    """The connection to the logger was lost, and perhaps what was on its way."""


class ReplyArrived(Fact):
    """The logger said something."""

    reply: Ack | BatchRefused


class SendBlocked(Fact):
    """The batch that begins with record ``first``, and those after it, could not be sent now."""

    first: int


class ReconnectFailed(Fact):
    """No new connection could be begun: the process has no file descriptor left."""


class CloseAsked(Fact):
    """Deliver what is here, within ``timeout_s``, and end."""

    timeout_s: float


# --- orders of a sender


class Send(Order):
    """Send this batch. If that is not possible now, send none of the batches after it, and report :class:`SendBlocked`."""

    header: BatchHeader
    payload: bytes


class Reconnect(Order):
    """Drop the connection, look the logger's name up again and connect anew."""


class Close(Order):
    """End: everything is delivered, or will not be."""


# --- facts for the logger


class TurnBegan(Fact):
    """A pass of the loop began: whatever else happens, the file is looked at. ``epoch`` makes ``now`` seconds since 1970."""

    epoch: float


class TextArrived(Fact):
    """Lines of text arrived, without their ends. None can be taken for a record."""

    lines: list[bytes]


class BatchArrived(Fact):
    """The connection ``peer`` sent a batch: ``payload`` is ``header.count`` lines that agree with ``header``."""

    peer: bytes
    header: BatchHeader
    payload: bytes


class SendersLost(Fact):
    """These connections have ended, and everything that came over them was told."""

    peers: list[bytes]


class BadMessageArrived(Fact):
    """The connection ``peer`` sent bytes that are no batch; ``text`` says why."""

    peer: bytes
    text: str


class FileTaken(Fact):
    """The file is ours until it is released.

    ``positions`` are those that others have written since it was ours the last time, at first all. ``torn`` is a last line
    without its end, left by a crash, that was cut off.
    """

    positions: dict[str, int]
    torn: bytes = b""
    is_empty: bool = False
    is_full: bool = False


class BlockWritten(Fact):
    """The last :class:`Write` is done."""


class WriteFailed(Fact):
    """The file could not be taken, opened or written; of the block nothing is in it."""

    reason: str


class FileRotated(Fact):
    """A new file was begun."""


class RotationFailed(Fact):
    """No new file could be begun: the old one is still written."""

    reason: str


class FileSynced(Fact):
    """Everything that was written is on disk."""


class SyncFailed(Fact):
    """What was written is perhaps not on disk."""

    reason: str


class ReopenAsked(Fact):
    """Somebody has moved the file away (SIGHUP)."""


class FileReopened(Fact):
    """The file at the path will be opened when it is taken."""


class LoggerStarted(Fact):
    """The logger listens; ``text`` says where."""

    text: str


class StopAsked(Fact):
    """Write and sync what is here; nothing more will arrive."""


# --- orders of the logger


class TakeFile(Order):
    """Lock the file, open it if need be and read what is new in it: :class:`FileTaken` or :class:`WriteFailed`."""


class Rotate(Order):
    """Begin a new file with ``first_line``: :class:`FileRotated` or :class:`RotationFailed`."""

    first_line: bytes


class Write(Order):
    """Append ``block``, whole lines: :class:`BlockWritten` or :class:`WriteFailed`."""

    block: bytes


class ReleaseFile(Order):
    """Let others write."""


class Sync(Order):
    """Wait until everything that was written is on disk: :class:`FileSynced` or :class:`SyncFailed`."""


class Reopen(Order):
    """Sync and close the file, so that it is opened anew: :class:`FileReopened` or :class:`WriteFailed`."""


class Reply(Order):
    """Send this to the connection ``peer``. One that does not read has no use for it."""

    peer: bytes
    reply: Ack | BatchRefused


class TellFailure(Order):
    """Tell people that the log cannot be written, and why."""

    reason: str


class TellRecovery(Order):
    """Tell people that the log can be written again."""
