"""Bodies for people: bytes are bytes, text is UTF-8, everything else is JSON, read back by type."""

from __future__ import annotations

from typing import Any

import msgspec

_encode_json = msgspec.json.Encoder().encode


def encode(value: Any) -> bytes:
    """The body for ``value``; None is the empty body.

    Raises:
        TypeError: JSON has no form for it.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    if value is None:
        return b""
    return _encode_json(value)


def decode(body: Any, kind: Any) -> Any:
    """``body`` read as ``kind``.

    Raises:
        msgspec.ValidationError: it is something else.
        msgspec.DecodeError: it is no JSON.
        UnicodeDecodeError: it is no text.
    """
    if kind is bytes:
        return body if type(body) is bytes else bytes(body)
    if kind is str:
        return bytes(body).decode()
    if kind is None or kind is type(None):
        return None
    return msgspec.json.decode(body, type=kind)
