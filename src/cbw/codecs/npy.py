"""Arrays of NumPy as the format of ``.npy`` files: dtype and shape, and then the numbers as they lie in memory.

It is published (NEP 1) and read by other languages. Of what it allows, pickled objects are neither written nor read.
"""

from __future__ import annotations

import io
import math
import typing
from typing import Any

from cbw.codecs.interface import Codec
from cbw.errors import NotEncodable

_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
"""Bytes of the number that says how long the header is, by the major version of the format."""
_MAGIC_BYTES = 8
"""Bytes before that number: the format's name and its version."""


class Npy(Codec):
    """``numpy.ndarray``, with any dtype but ``object``. What is decoded is the body itself, so nobody can write to it."""

    def encode(self, value: Any, kind: Any) -> bytes:
        """A header and the array's memory, which is copied once: the program may go on to change the array.

        Raises:
            NotEncodable: it is no plain array, or one of objects.
        """
        import numpy as np

        if type(value) not in (np.ndarray, np.memmap):
            text = f"a value of type {type(value).__qualname__} cannot be sent as an array"
            raise NotEncodable(text, advice="Make it one: numpy.asarray(value).")
        if value.dtype.hasobject:
            text = f"an array of dtype {value.dtype} cannot be sent: objects have no form"
            raise NotEncodable(text, advice="Give it a dtype of numbers, texts or times: array.astype(...).")
        is_fortran = value.flags.f_contiguous and not value.flags.c_contiguous
        header = io.BytesIO()
        said = np.lib.format.header_data_from_array_1_0(value)
        try:
            np.lib.format.write_array_header_1_0(header, said)
        except ValueError:  # a dtype of very many fields
            np.lib.format.write_array_header_2_0(header, said)
        plain = np.ascontiguousarray(value.T if is_fortran else value).reshape(-1)
        return b"".join((header.getvalue(), plain.view(np.uint8).data if value.nbytes else b""))

    def decode(self, body: bytes | memoryview, kind: Any) -> Any:
        """An array over ``body``, without a copy.

        Raises:
            ValueError: it is none, one of objects, or of another dtype than ``kind`` says.
        """
        import numpy as np

        version = np.lib.format.read_magic(io.BytesIO(bytes(body[:_MAGIC_BYTES])))
        length_bytes = _LENGTH_BYTES.get(version[0])
        if length_bytes is None:
            raise ValueError(f"version {version[0]} of the .npy format is not known")
        start = _MAGIC_BYTES + length_bytes
        start += int.from_bytes(body[_MAGIC_BYTES:start], "little")
        header = io.BytesIO(bytes(body[_MAGIC_BYTES:start]))
        read = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(header)
        _check_dtype(dtype, kind)
        count = math.prod(shape)
        if len(body) - start != count * dtype.itemsize:
            raise ValueError(f"an array of shape {shape} and dtype {dtype} has {count * dtype.itemsize} bytes")
        order: typing.Literal["F", "C"] = "F" if is_fortran else "C"
        if not count * dtype.itemsize:
            return np.empty(shape, dtype, order)
        return np.frombuffer(body, dtype, count, start).reshape(shape, order=order)

    def why_unusable(self, kind: Any) -> str:
        """None of numbers: ``NDArray[np.object_]``."""
        wanted = _scalar_of(kind)
        return "arrays of objects have no form" if wanted is not None and wanted.__name__ == "object_" else ""


def _scalar_of(kind: Any) -> type | None:
    """The type of an array's elements: of ``NDArray[np.float64]``, ``np.float64``; None: any."""
    arguments = typing.get_args(kind)
    scalars = typing.get_args(arguments[1]) if len(arguments) > 1 else ()
    return scalars[0] if scalars and isinstance(scalars[0], type) else None


def _check_dtype(dtype: Any, kind: Any) -> None:
    if dtype.hasobject:
        raise ValueError("an array of objects is not read")
    wanted = _scalar_of(kind)
    if wanted is not None and not issubclass(dtype.type, wanted):
        raise ValueError(f"an array of {dtype} is no array of {wanted.__name__}")
