"""Types of other libraries that have a form of their own. A library is imported by who uses it, never here."""

from __future__ import annotations

import functools
import typing
from typing import Any

from cbw.codecs.arrow import Arrow
from cbw.codecs.interface import Codec
from cbw.codecs.npy import Npy

_BY_TYPE: dict[tuple[str, str], Codec] = {("numpy", "ndarray"): Npy(), ("pandas", "DataFrame"): Arrow()}
"""By package and name: a type of numpy is only met where numpy is."""


def resolved(kind: Any) -> Any:
    """``kind``, or what it stands for if it is a name that ``type NAME = ...`` has given, as ``NDArray`` is from NumPy 2.5 on."""
    alias = typing.get_origin(kind) or kind
    if type(alias).__name__ != "TypeAliasType":  # which Python 3.11 has not
        return kind
    arguments = typing.get_args(kind)
    return resolved(alias.__value__[arguments] if arguments else alias.__value__)


def codec_of(kind: Any) -> Codec | None:
    """The codec of a type that is no JSON, such as ``numpy.ndarray`` or ``NDArray[np.float64]``; None: it has none."""
    try:
        return _found(kind)
    except TypeError:  # it cannot be hashed, so it is no class
        return None


@functools.lru_cache(maxsize=512)
def _found(kind: Any) -> Codec | None:
    kind = resolved(kind)
    plain = typing.get_origin(kind) or kind
    package = str(getattr(plain, "__module__", "")).partition(".")[0]
    return _BY_TYPE.get((package, getattr(plain, "__qualname__", "")))
