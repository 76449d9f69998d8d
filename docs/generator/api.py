"""The page of every public name."""

from __future__ import annotations

import ast
import inspect
import textwrap
import typing
from collections.abc import Callable
from typing import Any

import msgspec

import cbw
from cbw import testing
from cbw.worker.handler import Handler

from .markdown import amount, code, markdown, page, table

SIGNATURE_CHARS = 100


def _annotation(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(getattr(value, "__name__", value))


def signature(name: str, function: Callable[..., Any], defaults: Callable[..., Any] | None = None) -> str:
    """Format ``name(parameters) -> result``. If an overload has the default ``...``, that of ``defaults`` is shown."""
    sign = inspect.signature(function)
    real = inspect.signature(defaults).parameters if defaults else {}
    words: list[str] = []
    star_given = False
    for parameter in sign.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star_given:
            words.append("*")
            star_given = True
        is_star, is_double = parameter.kind is parameter.VAR_POSITIONAL, parameter.kind is parameter.VAR_KEYWORD
        stars = "*" if is_star else "**" if is_double else ""
        star_given = star_given or parameter.kind is parameter.VAR_POSITIONAL
        word = stars + parameter.name
        if parameter.annotation is not parameter.empty:
            word += f": {_annotation(parameter.annotation)}"
        default = parameter.default
        if default is ... and parameter.name in real:
            default = real[parameter.name].default
        if default is not parameter.empty:
            shown = "..." if default is ... else default.__name__ if isinstance(default, type) else repr(default)
            word += f" = {shown}" if parameter.annotation is not parameter.empty else f"={shown}"
        words.append(word)
    result = (
        "" if sign.return_annotation in (sign.empty, "None", None) else f" -> {_annotation(sign.return_annotation)}"
    )
    prefix = "async " if inspect.iscoroutinefunction(function) else ""
    line = f"{prefix}{name}({', '.join(words)}){result}"
    if len(line) <= SIGNATURE_CHARS:
        return line
    return f"{prefix}{name}(\n" + "".join(f"    {word},\n" for word in words) + f"){result}"


def _signatures(name: str, function: Any) -> str:
    overloads = typing.get_overloads(function)
    lines = [signature(name, one, function) for one in overloads] or [signature(name, function)]
    return "```python\n" + "\n".join(lines) + "\n```"


def _attributes(kind: type) -> list[str]:
    """The public attributes that ``__init__`` sets."""
    if "__init__" not in kind.__dict__:
        return []
    function = ast.parse(textwrap.dedent(inspect.getsource(kind.__dict__["__init__"]))).body[0]
    names: dict[str, None] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and not node.attr.startswith("_"):
            names[node.attr] = None
    return sorted(names)


def _class(name: str, kind: type) -> str:
    if issubclass(kind, msgspec.Struct):
        rows = [
            [
                code(field.name),
                code(_annotation(field.type)).replace("|", "\\|"),
                amount(None if field.required else field.default),
            ]
            for field in msgspec.structs.fields(kind)
        ]
        return f"## {name}\n\n{markdown(kind.__doc__)}\n\n" + table(["field", "type", "default"], rows)
    parts = [f"## {name}"]
    if "__init__" in kind.__dict__ and name != "Context":
        parts.append(_signatures(name, kind.__dict__["__init__"]))
    parts.append(markdown(kind.__doc__))
    attributes = _attributes(kind)
    if attributes:
        parts.append("Attributes: " + ", ".join(code(attribute) for attribute in attributes) + ".")
    for member, value in {**kind.__dict__, **dict(inspect.getmembers(kind, inspect.isdatadescriptor))}.items():
        if member.startswith("_"):
            continue
        if isinstance(value, property) and value.fget is not None and value.fget.__module__.startswith("cbw"):
            result = _annotation(inspect.signature(value.fget).return_annotation)
            parts += [f"### {name}.{member}", f"```python\n{member}: {result}\n```", markdown(value.__doc__)]
        elif inspect.isfunction(value):
            parts += [f"### {name}.{member}", _signatures(member, value), markdown(value.__doc__)]
    return "\n\n".join(part for part in parts if part)


def api_page() -> str:
    """The page of every public name of ``cbw``, ``cbw.metrics`` and ``cbw.testing``."""
    kinds = {name: getattr(cbw, name) for name in cbw.__all__ if isinstance(getattr(cbw, name), type)}
    exceptions = [name for name, kind in kinds.items() if issubclass(kind, Exception)]
    parts = [
        "This page lists the public names of `cbw`, `cbw.metrics` and `cbw.testing`. All other names are private and may "
        "change. Times are in seconds. Where `timeout` is left out, the timeout of the client applies; None means no limit.",
        "[Errors](errors.md) describes the exceptions: " + ", ".join(code(name) for name in exceptions) + ".",
        *(_class(name, kind) for name, kind in kinds.items() if name not in exceptions),
        "## Handlers",
        markdown(Handler.__doc__),
        "[Write a worker](../howto/write-a-worker.md) has an example of each form.",
    ]
    for module in (cbw.metrics, testing):
        parts.append(f"# {module.__name__}\n\n" + markdown(module.__doc__))
        own = (name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__)
        for name in getattr(module, "__all__", None) or [name for name in own if not name.startswith("_")]:
            value = getattr(module, name)
            if isinstance(value, type):
                parts.append(_class(name, value))
            elif callable(value):
                parts += [f"## {name}", _signatures(name, value), markdown(value.__doc__)]
    return page("Python API", *parts)
