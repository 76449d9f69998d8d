"""CBWL/1, from the roles to the logger and back (specification: ``docs/reference/wire.md``).

The logger's text port (PULL) takes lines of text from any PUSH socket, one a message, and acknowledges nothing. Its record
port, the next one up (ROUTER), takes batches of JSON lines from DEALERs and says what is on disk:

* sender → logger ``[magic, BatchHeader, payload]``: ``payload`` is ``count`` JSON objects, each closed by a newline. Each has
  the header's ``sender`` and ends with ``"boot":"…","seq":N}``, the header's boot and its own number.
* logger → sender ``[magic, Ack]`` or ``[magic, BatchRefused]``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from cbw.core.batch import Ack, BatchHeader, BatchRefused, is_proved
from cbw.core.identities import NAME_CHARS_MAX
from cbw.errors import BadMessage

MAGIC = b"CBWL1"
BATCH_RECORDS_MAX = 4096
"""Records in a batch: about 5 ms of the logger's time, so that one sender does not keep it from the others for long."""
BATCH_BYTES_MAX = 8 << 20
"""Bytes of a batch's lines: room for several of the longest lines (1 MiB). A larger batch is refused."""
BOOT_CHARS_MAX = 64
"""Characters of a boot, which every line holds; ours have 16."""
NUMBER_MAX = 10**15
"""Numbers of records are below it: 15 digits are what a logger reads back from its log. At 1 M records/s they last 30 years."""


class _Named(msgspec.Struct, gc=False):
    """What says whose a record is. Of a name that an object has twice the last counts, for us as for other readers."""

    boot: str
    seq: int
    sender: str = ""


_MISPLACED_BREAK = re.compile(rb"\n(?:(?<!\}\n)|(?!\{))")
"""A newline that does not stand between two objects. Inside of an object, in valid JSON, none stands between ``}`` and ``{``."""

_encode = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(BatchHeader).decode
_decode_named = msgspec.json.Decoder(_Named).decode_lines
_decode_reply = msgspec.msgpack.Decoder(Ack | BatchRefused).decode


def split(lines: bytes) -> Iterator[tuple[int, bytes]]:
    """``lines`` as batches, each the number of its lines and these: one batch, unless lines are uncommonly long."""
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


def encode_batch(header: BatchHeader, payload: bytes) -> list[bytes]:
    """The frames of a batch."""
    return [MAGIC, _encode(header), payload]


def encode_reply(reply: Ack | BatchRefused) -> list[bytes]:
    """The frames of a reply of the logger."""
    return [MAGIC, _encode(reply)]


def read_batch(frames: Sequence[Any]) -> tuple[BatchHeader, bytes]:
    """The header and the lines of a batch, which agree with each other.

    Raises:
        BadMessage: another version, no batch, numbers out of range, or lines that are not those that the header announces.
    """
    if bytes(frames[0]) != MAGIC:
        raise BadMessage(f"speaks {bytes(frames[0][:16])!r}, this is CBWL/1")
    if len(frames) != 3:
        raise BadMessage(f"{len(frames)} frames; a batch has three")
    try:
        header = _decode_header(frames[1])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"not a batch: {error}") from None
    payload = bytes(frames[2])
    _check_header(header, payload)
    _check_lines(header, payload)
    return header, payload


def _check_header(header: BatchHeader, payload: bytes) -> None:
    if len(payload) > BATCH_BYTES_MAX or not 1 <= header.count <= BATCH_RECORDS_MAX:
        raise BadMessage(f"{header.count} records in {len(payload)} bytes are out of bounds")
    if header.first + header.count > NUMBER_MAX:
        raise BadMessage(f"record {header.first} is beyond all bounds")
    if not 1 <= header.oldest <= header.first:
        raise BadMessage(f"record {header.first} is the first, but {header.oldest} the oldest")
    if len(header.sender) > NAME_CHARS_MAX:
        raise BadMessage(f"a sender's name has at most {NAME_CHARS_MAX} characters")
    if not header.boot.isalnum() or len(header.boot) > BOOT_CHARS_MAX or not header.boot.isascii():
        raise BadMessage(f"{header.boot[:BOOT_CHARS_MAX]!r} is no boot")
    if len(header.proof) > BOOT_CHARS_MAX or not is_proved(header.boot, header.proof):
        raise BadMessage(f"boot {header.boot} is another sender's: its proof is missing or wrong")


def _check_lines(header: BatchHeader, payload: bytes) -> None:
    """Each line is an object of its own, in the name of the header's sender and boot, with its number.

    So what a logger reads back from the end of the line, without decoding it, is true: in JSON that is valid the bytes
    ``,"boot":"…","seq":N}`` at the end of a line are the last two names of its object.
    """
    count, number, sender, boot = header.count, header.first, header.sender, header.boot
    if payload[:1] != b"{" or payload[-1:] != b"\n" or payload.count(b"\n") != count:
        raise BadMessage(f"not {count} whole lines of JSON objects")
    first_break = _MISPLACED_BREAK.search(payload)
    if first_break is None or first_break.start() != len(payload) - 1:
        raise BadMessage("a line that is not one JSON object")
    try:
        records = _decode_named(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"not lines of JSON objects with boot and seq: {error}") from None
    if len(records) != count:
        raise BadMessage(f"{len(records)} JSON objects in {count} lines")
    for record in records:
        if record.seq != number or record.boot != boot or record.sender != sender:
            found = f"record {record.seq} of {record.sender[:NAME_CHARS_MAX]!r} (boot {record.boot[:BOOT_CHARS_MAX]!r})"
            raise BadMessage(f"{found} in the place of record {number} of {sender!r} (boot {boot!r})")
        number += 1


def read_reply(frames: Sequence[Any]) -> Ack | BatchRefused:
    """What the logger says.

    Raises:
        BadMessage: it is not CBWL/1.
    """
    if bytes(frames[0]) != MAGIC or len(frames) != 2:
        raise BadMessage(f"speaks {bytes(frames[0][:16])!r}, this is CBWL/1")
    try:
        reply: Ack | BatchRefused = _decode_reply(frames[1])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"not a reply: {error}") from None
    return reply
