"""The bytes of a journal's batches: a mark, the version of the format, a checksum, and the records in msgpack."""

from __future__ import annotations

import zlib

import msgspec

from cbw.core.journal_records import JOURNAL_FORMAT, Batch
from cbw.errors import JournalDamaged, JournalTooNew

MARK = b"CBWJ"
_HEADER_BYTES = len(MARK) + 1 + 4
_encode = msgspec.msgpack.Encoder(enc_hook=bytes).encode  # parts of bodies: msgspec takes no subclasses of bytes
_decode = msgspec.msgpack.Decoder(Batch).decode


def encode_batch(batch: Batch) -> bytes:
    """The bytes of ``batch``: mark, version (1 byte), CRC-32 of what follows (4 bytes, big endian), records."""
    payload = _encode(batch)
    return b"".join((MARK, bytes((JOURNAL_FORMAT,)), zlib.crc32(payload).to_bytes(4, "big"), payload))


def decode_batch(position: int, data: bytes) -> Batch:
    """The batch at ``position``.

    Raises:
        JournalTooNew: a later version of cbw wrote it.
        JournalDamaged: its bytes are not those that were written.
    """
    if data[: len(MARK)] != MARK or len(data) < _HEADER_BYTES:
        raise JournalDamaged(f"batch {position} of the journal is none: it begins {data[:8]!r}")
    version = data[len(MARK)]
    if version > JOURNAL_FORMAT:
        raise JournalTooNew(
            f"batch {position} of the journal has format {version}; this version reads up to {JOURNAL_FORMAT}"
        )
    payload = memoryview(data)[_HEADER_BYTES:]
    if zlib.crc32(payload) != int.from_bytes(data[len(MARK) + 1 : _HEADER_BYTES], "big"):
        raise JournalDamaged(f"batch {position} of the journal has another checksum than when it was written")
    try:
        return _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JournalDamaged(f"batch {position} of the journal cannot be read: {error}") from None
