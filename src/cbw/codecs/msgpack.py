"""msgpack: the same types as JSON, smaller, and with bytes, arrays and frames among the values."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from cbw import codec
from cbw.codecs.by_type import codec_of, resolved
from cbw.codecs.interface import Codec
from cbw.errors import NotEncodable


class Msgpack(Codec):
    """All that JSON has a form for, and ``bytes``, nan and inf, arrays of NumPy and frames of pandas at any depth.

    An array or a frame inside is msgpack's ``bin`` in its own form, so it comes back as one where an annotation says so.
    """

    def encode(self, value: Any, kind: Any) -> bytes:
        """``value`` in msgpack.

        Raises:
            NotEncodable: msgpack has no form for it.
        """
        try:
            return _encode(value)
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            raise NotEncodable(f"a value of type {type(value).__qualname__} cannot be sent: {error}") from None

    def decode(self, body: bytes | memoryview, kind: Any) -> Any:
        """``body`` as ``kind``.

        Raises:
            msgspec.DecodeError: it is no msgpack, or something else (``ValidationError``).
        """
        return _decoder_of(kind).decode(body)

    def why_unusable(self, kind: Any) -> str:
        """Why values of type ``kind`` have no form in msgpack; empty: they have. Inside them may be types with own codecs."""
        return codec.why_foreign(kind, _decoder_of, knows=lambda custom: codec_of(custom) is not None)


def _own_form(value: Any) -> Any:
    found = codec_of(type(value))
    return codec.own_form(value) if found is None else found.encode(value, type(value))


def _own_value(kind: Any, value: Any) -> Any:
    found = codec_of(kind)
    if found is None:
        return codec.own_value(kind, value)
    if not isinstance(value, bytes):
        raise ValueError(f"{type(value).__qualname__} where bytes are expected")
    return found.decode(value, resolved(kind))


_encode = msgspec.msgpack.Encoder(enc_hook=_own_form).encode


@functools.lru_cache(maxsize=512)
def _decoder_of(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind, dec_hook=_own_value)
