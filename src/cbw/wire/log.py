"""CBWL/1, from the roles to the logger and back (specification: ``docs/reference/wire.md``).

The logger's text port (PULL) takes one frame of text a line from any PUSH socket and acknowledges nothing. Its record port,
the next one up (ROUTER), takes batches of JSON lines from DEALERs and says what is on disk:

* sender → logger ``[magic, Lines, payload]``: ``payload`` is ``count`` JSON objects, each closed by a newline, numbered from
  ``first`` on in their ``seq`` fields.
* logger → sender ``[magic, Ack]`` or ``[magic, Refused]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from cbw.core.limits import NAME_CHARS_MAX
from cbw.core.lines import Ack, Lines, Refused
from cbw.errors import BadMessage

MAGIC = b"CBWL1"
BATCH_RECORDS = 4096
"""No batch has more records: so that one sender does not keep the logger from the others for long."""
BATCH_BYTES_MAX = 8 << 20
"""Nor more bytes; a larger one is refused."""

BOOT_CHARS_MAX = 64
NUMBER_MAX = 10**15
"""Numbers of records stay below: no sender gets there, and 15 digits are what is read back from the log."""

_encode = msgspec.msgpack.Encoder().encode
_decode_lines = msgspec.msgpack.Decoder(Lines).decode
_check_lines = msgspec.json.Decoder(msgspec.Raw).decode_lines
_decode_reply = msgspec.msgpack.Decoder(Ack | Refused).decode


def split(lines: bytes) -> Iterator[tuple[int, bytes]]:
    """``(how many lines, they themselves)`` of each batch that ``lines`` need: one, if they are not uncommonly long."""
    if len(lines) <= BATCH_BYTES_MAX:
        yield lines.count(b"\n"), lines
        return
    batch: list[bytes] = []
    size = 0
    for line in lines.splitlines(keepends=True):
        if size + len(line) > BATCH_BYTES_MAX:
            yield len(batch), b"".join(batch)
            batch, size = [], 0
        batch.append(line)
        size += len(line)
    yield len(batch), b"".join(batch)


def encode_lines(header: Lines, payload: bytes) -> list[bytes]:
    """The frames of a batch."""
    return [MAGIC, _encode(header), payload]


def encode_reply(reply: Ack | Refused) -> list[bytes]:
    """The frames of what the logger says."""
    return [MAGIC, _encode(reply)]


def read_lines(frames: Sequence[Any]) -> tuple[Lines, bytes]:
    """The header and the payload of a batch: numbers that add up, and as many JSON objects, a line each.

    Raises:
        BadMessage: another version, not a batch, numbers out of range, a sender or a boot that is none, or other lines than that.
    """
    if bytes(frames[0]) != MAGIC:
        raise BadMessage(f"speaks {bytes(frames[0][:16])!r}, this is CBWL/1")
    if len(frames) != 3:
        raise BadMessage(f"{len(frames)} frames; a batch has three")
    try:
        header = _decode_lines(frames[1])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"not a batch: {error}") from None
    payload = bytes(frames[2])
    if len(payload) > BATCH_BYTES_MAX or not 1 <= header.count <= BATCH_RECORDS:
        raise BadMessage(f"{header.count} records in {len(payload)} bytes are out of bounds")
    if header.first + header.count > NUMBER_MAX:
        raise BadMessage(f"record {header.first} is beyond all bounds")
    if not 1 <= header.oldest <= header.first:
        raise BadMessage(f"record {header.first} is the first, but {header.oldest} the oldest")
    if not payload.endswith(b"\n") or payload.count(b"\n") != header.count:
        raise BadMessage(f"not {header.count} whole lines")
    if len(header.sender) > NAME_CHARS_MAX:
        raise BadMessage(f"a sender's name has at most {NAME_CHARS_MAX} characters")
    if not header.boot.isalnum() or len(header.boot) > BOOT_CHARS_MAX or not header.boot.isascii():
        raise BadMessage(f"{header.boot[:BOOT_CHARS_MAX]!r} is no boot")
    try:
        lines = _check_lines(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"not lines of JSON: {error}") from None
    are_objects = payload.startswith(b"{") and payload.count(b"\n{") == header.count - 1  # each line begins with one
    if len(lines) != header.count or not are_objects:
        raise BadMessage(f"not {header.count} JSON objects")
    return header, payload


def read_reply(frames: Sequence[Any]) -> Ack | Refused:
    """What the logger says.

    Raises:
        BadMessage: it is not CBWL/1.
    """
    if bytes(frames[0]) != MAGIC or len(frames) != 2:
        raise BadMessage(f"speaks {bytes(frames[0][:16])!r}, this is CBWL/1")
    try:
        reply: Ack | Refused = _decode_reply(frames[1])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"not a reply: {error}") from None
    return reply
