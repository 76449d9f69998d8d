"""Frames of pandas as a stream of Apache Arrow's IPC format: every dtype, the index, categories and time zones come back."""

from __future__ import annotations

import importlib.util
from typing import Any

from cbw.codecs.interface import Codec
from cbw.errors import NotEncodable, UsageError

_MISSING = "frames of pandas need pyarrow, which is not installed"
_INSTALL = "Install it: pip install 'cbw[pandas]'"


class Arrow(Codec):
    """``pandas.DataFrame``. Columns of numbers without gaps are read without a copy, so nobody can write to them in place."""

    def encode(self, value: Any, kind: Any) -> bytes:
        """Its columns one after the other.

        Raises:
            NotEncodable: it is no frame, or a column holds objects that Arrow has no type for.
            UsageError: pyarrow is not installed.
        """
        arrow = _pyarrow()
        import pandas as pd

        if not isinstance(value, pd.DataFrame):
            raise NotEncodable(f"a value of type {type(value).__qualname__} cannot be sent as a frame")
        try:
            table = arrow.Table.from_pandas(value)
            sink = arrow.BufferOutputStream()
            with arrow.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
        except (arrow.ArrowException, TypeError, ValueError, OverflowError) as error:
            advice = "Give each column one type: numbers, texts, times or categories, and each its own name."
            raise NotEncodable(f"a frame cannot be sent: {error}", advice=advice) from None
        body: bytes = sink.getvalue().to_pybytes()
        return body

    def decode(self, body: bytes | memoryview, kind: Any) -> Any:
        """The frame.

        Raises:
            ValueError: it is none.
            UsageError: pyarrow is not installed.
        """
        arrow = _pyarrow()
        try:
            with arrow.ipc.open_stream(arrow.py_buffer(body)) as stream:
                table = stream.read_all()
                table.validate(full=True)
                return table.to_pandas(split_blocks=True)
        except (arrow.ArrowException, OSError) as error:
            raise ValueError(f"it is no frame of Arrow: {error}") from None

    def why_unusable(self, kind: Any) -> str:
        """None can where pyarrow is missing."""
        return "" if importlib.util.find_spec("pyarrow") else f"{_MISSING}. {_INSTALL}"


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise UsageError(_MISSING, advice=_INSTALL) from None
    return pyarrow
