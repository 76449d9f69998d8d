"""Values and bodies: one rule for both ends, decided by the type that an annotation names, never by the value.

- ``bytes`` are the body as it is, and text is UTF-8: of type ``str``, or of one that only has texts among its values
  (``StrEnum``, ``Literal["a", "b"]``, ``NewType``, ``Annotated[str, …]``).
- A value of any other type is JSON. Where the type has texts among its values (``str | int``, ``UUID``, ``date``), a body that
  is not JSON is taken for one, as who calls may not know the type. ``None`` is the empty body.
- Without a type, or with ``Any``, the value decides: ``bytes`` are sent as they are, ``str`` as UTF-8, ``None`` as the empty
  body, the rest as JSON. What comes is JSON or a text, and the empty body is ``None``.
- A type that has a :class:`.Codec` is what that makes of it: arrays of NumPy and frames of pandas have one, and
  ``Annotated[kind, codec]`` says which.
"""

from __future__ import annotations

import datetime
import enum
import functools
import math
import numbers
import types
import typing
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, ClassVar, Protocol, SupportsFloat, SupportsIndex

import msgspec
from msgspec import inspect

from cbw.codecs.by_type import codec_of, resolved
from cbw.codecs.interface import Codec
from cbw.errors import NotEncodable

_TEXTS = (
    inspect.StrType,
    inspect.DateTimeType,
    inspect.DateType,
    inspect.TimeType,
    inspect.TimeDeltaType,
    inspect.UUIDType,
    inspect.DecimalType,
    inspect.AnyType,
)
"""Types whose JSON may be a text."""
_OBJECTS = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType)
"""Types whose JSON is an object with certain keys."""
_ANY_OBJECTS = (inspect.DictType, inspect.AnyType, inspect.CustomType)
"""Types whose JSON may be an object with any keys."""


class _DataClass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


class _Model(Protocol):
    """What a model of pydantic can do."""

    def model_dump(self, *, mode: str) -> Any: ...


Body = (
    bytes | bytearray | memoryview | str | float | None
    | Collection[Any] | SupportsIndex | SupportsFloat
    | datetime.date | datetime.time | datetime.timedelta | uuid.UUID | enum.Enum
    | msgspec.Struct | _DataClass | _Model
)  # fmt: skip
"""What a program may give as the body of a request, to type checkers. A function is none: it would be taken for a task."""


class Shape(msgspec.Struct, frozen=True):
    """What bodies of a type look like. ``keys`` are those that its objects may have; None: any; empty: it has no objects.

    If it has a ``codec``, that makes them of its ``kind``, and the rest tells nothing.
    """

    is_bytes: bool
    is_text: bool
    has_text: bool
    has_none: bool
    keys: frozenset[str] | None
    codec: Codec | None = None
    kind: Any = None
    read: Callable[[Any], Any] | None = None
    """What reads their JSON."""


# --- out


def encode(value: Any) -> bytes:
    """The body for ``value``, of which no type is known.

    Raises:
        NotEncodable: JSON has no form for it.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        return _encode_text(value)
    if value is None:
        return b""
    own = codec_of(type(value))
    return encode_json(value) if own is None else own.encode(value, type(value))


def encode_as(value: Any, kind: Any) -> bytes:
    """The body for ``value``, which is one of type ``kind``.

    Raises:
        NotEncodable: JSON, or the codec of ``kind``, has no form for it.
    """
    return encode(value) if kind is Any else encode_shaped(value, shape_of(kind))


def encode_shaped(value: Any, shape: Shape) -> bytes:
    """The bytes of ``value`` as its type has them, whose ``shape`` is known: to look that up takes as long as all the rest.

    Raises:
        NotEncodable: JSON, or the codec of the type, has no form for it.
    """
    if shape.codec is not None and not (value is None and shape.has_none):
        return shape.codec.encode(value, shape.kind)
    if value is None:
        return b""
    return encode(value) if shape.is_bytes or shape.is_text else encode_json(value)


def _encode_text(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:  # names of files may contain lone surrogates
        raise NotEncodable(f"{_described(value)} cannot be sent: {error}") from None


def encode_json(value: Any) -> bytes:
    """``value`` as JSON.

    Raises:
        NotEncodable: JSON has no form for it.
    """
    try:
        encoded = _encode_json(value)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise NotEncodable(f"{_described(value)} cannot be sent: {error}") from None
    if b"null" in encoded and _has_no_number(value):
        raise NotEncodable(f"{_described(value)} cannot be sent: JSON has no form for nan and inf")
    return encoded


def own_form(value: Any) -> Any:
    """The plain form of what msgspec does not know: numbers of other libraries, and models of pydantic.

    Raises:
        TypeError: it has none.
    """
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):  # as NumPy 2 and 1 call it
        return bool(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, types.FunctionType):
        raise TypeError("it is no task of a cbw.Service")
    raise TypeError(f"JSON has no form for a {_type_name(type(value))}")


def own_value(kind: type, value: Any) -> Any:
    """``value`` as a type that msgspec does not know.

    Raises:
        TypeError: it is none of those that have a form.
    """
    if kind is object:
        return value
    if hasattr(kind, "model_validate"):
        return kind.model_validate(value)
    raise TypeError(f"JSON has no form for a {_type_name(kind)}")


_encode_json = msgspec.json.Encoder(enc_hook=own_form).encode


def _has_no_number(value: Any) -> bool:
    """Whether a number among ``value`` is none, for which msgspec writes ``null``."""
    if isinstance(value, float):
        return not math.isfinite(value)
    plain = msgspec.to_builtins(value, enc_hook=own_form)
    inside: Iterable[Any] = (
        plain.values() if isinstance(plain, Mapping) else plain if isinstance(plain, list | tuple) else ()
    )
    return any(map(_has_no_number, inside))


def _described(value: Any) -> str:
    return f"a value of type {_type_name(type(value))}"


# --- in


def decode(body: Any, kind: Any) -> Any:
    """``body`` read as ``kind``.

    Raises:
        msgspec.ValidationError: it is something else.
        msgspec.DecodeError: it is no JSON.
        UnicodeDecodeError: it is no text.
        Exception: whatever the codec of ``kind`` raises.
    """
    if kind is bytes:
        return body if type(body) is bytes else bytes(body)
    if kind is str:
        return bytes(body).decode()
    if kind is None or kind is type(None):
        return None
    shape = shape_of(kind)
    if not body and (shape.has_none or kind is Any):
        return None
    if shape.codec is not None:
        return shape.codec.decode(body, shape.kind)
    if shape.is_bytes:
        return bytes(body)
    if shape.is_text:
        return msgspec.convert(bytes(body).decode(), kind)
    try:
        assert shape.read is not None
        return shape.read(body)
    except msgspec.DecodeError:
        if not shape.has_text:
            raise
        try:
            return msgspec.convert(bytes(body).decode(), kind)
        except (msgspec.ValidationError, UnicodeDecodeError):
            pass
        raise


def json_decoder(kind: Any) -> Callable[[Any], Any]:
    """What reads JSON as ``kind``. It raises msgspec.DecodeError if it is none, or something else (``ValidationError``)."""
    return msgspec.json.Decoder(kind, dec_hook=own_value).decode


# --- types


def shape_of(kind: Any) -> Shape:
    """What bodies of type ``kind`` look like."""
    try:
        return _known_shape(kind)
    except TypeError:  # it cannot be hashed
        return _shape_of(kind)


def _shape_of(kind: Any) -> Shape:
    own = own_codec(kind)
    if own is not None:
        inside, makes_it, is_optional = own
        return Shape(False, False, False, is_optional, None, makes_it, inside)
    kinds = _alternatives(kind)
    values = [one for one in kinds if not isinstance(one, inspect.NoneType)]
    keys: frozenset[str] | None = frozenset()
    for one in values:
        if isinstance(one, _ANY_OBJECTS):
            keys = None
        elif isinstance(one, _OBJECTS) and keys is not None:
            keys |= {field.encode_name for field in one.fields}
    is_text = [isinstance(one, inspect.StrType) or _is_text_only(one) for one in values]
    return Shape(
        is_bytes=bool(values) and all(isinstance(one, inspect.BytesType) for one in values),
        is_text=len(values) == len(kinds) and all(is_text),
        has_text=any(is_text) or any(isinstance(one, _TEXTS) or _has_text(one) for one in values),
        has_none=len(values) < len(kinds) or (kind is not Any and any(map(_has_none, values))),
        keys=keys,
        read=json_decoder(kind),
    )


def own_codec(kind: Any) -> tuple[Any, Codec, bool] | None:
    """The type inside of ``kind``, its codec, and whether ``None`` is beside it, which is then the empty body. None: no codec."""
    kind = resolved(kind)
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        inside, *said = typing.get_args(kind)
        given = [one for one in said if isinstance(one, Codec)]
        return (inside, given[-1], False) if given else own_codec(inside)
    if origin in (typing.Union, types.UnionType):
        kinds = typing.get_args(kind)
        values = [one for one in kinds if one is not type(None)]
        found = own_codec(values[0]) if len(values) == 1 else None
        return None if found is None else (found[0], found[1], True)
    by_type = codec_of(kind)
    return None if by_type is None else (kind, by_type, False)


_known_shape = functools.lru_cache(maxsize=512)(_shape_of)


def _alternatives(kind: Any) -> list[inspect.Type]:
    found = inspect.type_info(kind)
    while isinstance(found, inspect.Metadata):
        found = found.type
    return list(found.types) if isinstance(found, inspect.UnionType) else [found]


def _values_of(kind: inspect.Type) -> list[Any]:
    """The values of a type that lists them."""
    if isinstance(kind, inspect.LiteralType):
        return list(kind.values)
    return [member.value for member in kind.cls] if isinstance(kind, inspect.EnumType) else []


def _is_text_only(kind: inspect.Type) -> bool:
    """Whether it lists its values, and their own form is text."""
    if isinstance(kind, inspect.EnumType):
        return issubclass(kind.cls, str)
    values = _values_of(kind)
    return bool(values) and all(isinstance(value, str) for value in values)


def _has_none(kind: inspect.Type) -> bool:
    """Whether ``None`` is among the values of a type that is not ``None`` itself."""
    is_any = isinstance(kind, inspect.AnyType) or (isinstance(kind, inspect.CustomType) and kind.cls is object)
    return is_any or None in _values_of(kind)


def _has_text(kind: inspect.Type) -> bool:
    return any(isinstance(value, str) for value in _values_of(kind))


def why_unusable(kind: Any) -> str:
    """Why no body can be read as ``kind``; empty: one can."""
    own = own_codec(kind)
    if own is not None:
        return own[1].why_unusable(own[0])
    try:
        return _known_why_no_json(kind)
    except TypeError:  # it cannot be hashed
        return why_no_json(kind)


def why_no_json(kind: Any) -> str:
    """Why there is no JSON for a ``kind``; empty: there is."""
    return why_foreign(kind, lambda one: msgspec.json.Decoder(one, dec_hook=own_value))


_known_why_no_json = functools.lru_cache(maxsize=512)(why_no_json)


def why_foreign(
    kind: Any, decoder_of: Callable[[Any], Any], knows: Callable[[type], bool] = lambda custom: False
) -> str:
    """Why msgspec has no form for ``kind``, or for a type inside of it that it does not know, nor ``knows``; empty: it has."""
    try:
        info = inspect.type_info(kind)
        decoder_of(kind)
    except (TypeError, NameError, RecursionError) as error:
        return str(error)
    for custom in _customs(info, {}):
        if custom is not object and not hasattr(custom, "model_validate") and not knows(custom):
            return f"there is no form for a {_type_name(custom)}"
    return ""


def _customs(info: Any, seen: dict[int, Any]) -> Iterable[type]:
    """All types inside of ``info`` that msgspec does not know."""
    if isinstance(info, inspect.CustomType):
        yield info.cls
    if not isinstance(info, msgspec.Struct) or id(info) in seen:
        return
    seen[id(info)] = info  # it lives as long as its id is looked for
    for name in info.__struct_fields__:
        inside = getattr(info, name)
        for one in inside if isinstance(inside, tuple) else (inside,):
            yield from _customs(one, seen)


def schema_of(kind: Any) -> Any:
    """The JSON Schema of ``kind``; None: it has none."""
    try:
        return msgspec.json.schema(kind, schema_hook=_own_schema)
    except (TypeError, ValueError, NameError, RecursionError, NotImplementedError):
        return None


def _own_schema(kind: type) -> dict[str, Any]:
    if hasattr(kind, "model_json_schema"):
        schema: dict[str, Any] = kind.model_json_schema()
        return schema
    if kind is object:
        return {"description": "any value"}
    raise NotImplementedError


def _type_name(kind: Any) -> str:
    name = getattr(kind, "__qualname__", None)
    return repr(kind) if name is None else name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"
