"""The tables of the protocol between clients, broker and workers, and bytes of an example."""

from __future__ import annotations

import typing
from enum import Enum
from types import NoneType, UnionType
from typing import Any

import msgspec

from cbw.core import messages
from cbw.wire import native

from .markdown import cell, code, commented, table

_DIRECTIONS = {
    "client → broker": messages.FromClient,
    "worker → broker": messages.FromWorker,
    "broker → client": messages.ToClient,
    "broker → worker": messages.ToWorker,
}
_WIRE_TYPES = {str: "str", int: "int", float: "float", bytes: "bin", NoneType: "nil", bool: "bool"}


def _messages() -> list[type[messages.Message]]:
    kinds = [kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, messages.Message)]
    return sorted((kind for kind in kinds if kind is not messages.Message), key=lambda kind: _tag(kind))


def _tag(kind: type[messages.Message]) -> int:
    tag = kind.__struct_config__.tag
    assert isinstance(tag, int)
    return tag


def wire_type(kind: Any) -> str:
    """The msgpack type of a field with this Python type."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"int ({kind.__name__})"
    if isinstance(kind, UnionType):
        return " or ".join(wire_type(one) for one in typing.get_args(kind))
    if typing.get_origin(kind) is list:
        return f"array of {wire_type(typing.get_args(kind)[0])}"
    return "map of str to str" if kind == dict[str, str] else _WIRE_TYPES[kind]


def _directions(kind: type[messages.Message]) -> str:
    found = [name for name, union in _DIRECTIONS.items() if kind in typing.get_args(union)]
    return "any" if len(found) == len(_DIRECTIONS) else ", ".join(found)


def message_table() -> str:
    """The table of messages: tag, name, direction, fields and meaning."""
    rows = []
    for kind in _messages():
        hints = typing.get_type_hints(kind)
        fields = [
            f"{field.name}: {wire_type(hints[field.name])}" + ("" if field.required else " *(may be left out)*")
            for field in msgspec.structs.fields(kind)
        ]
        rows.append(
            [str(_tag(kind)), f"**{kind.__name__}**", _directions(kind), ", ".join(fields), cell(kind.__doc__ or "")]
        )
    return table(["tag", "message", "direction", "fields behind the tag", "meaning"], rows)


def status_table() -> str:
    """The table of the statuses of answers."""
    rows = [[str(status.value), code(status.name), cell(comment)] for status, comment in commented(messages.Status)]
    return table(["value", "name", "meaning"], rows)


def refusal_table() -> str:
    """The table of the reasons of refused hellos."""
    rows = [[str(reason.value), code(reason.name), cell(comment)] for reason, comment in commented(messages.Refusal)]
    return table(["value", "name", "meaning"], rows)


def _hex(data: bytes) -> str:
    return data.hex(" ")


def example_bytes() -> str:
    """The bytes of an example batch."""
    batch: list[messages.Message] = [messages.ClientHello("C1", "7f3a"), messages.Request(1, "", b"hello", 2.5)]
    ((frames, _),) = native.encode(batch)
    lines = [
        "```text",
        f"frame 1: {_hex(frames[0])}    # {frames[0].decode()}",
        f"frame 2: {_hex(frames[1])}",
        '         # [[10, "C1", "7f3a"], [11, 1, "", "hello" as bin, 2.5, 5]]',
        "```",
    ]
    return "\n".join(lines)
