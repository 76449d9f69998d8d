"""Writes what can be read off the code: ``python docs/generate.py``, or ``--check`` to compare (exit code 1 if stale).

Whole pages: ``docs/reference/`` cli, settings, metrics, events, errors, api. Parts between ``<!-- begin: NAME -->`` and
``<!-- end: NAME -->``: the message and status tables of ``wire.md``, the diagram of ``request-states.md``.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any

import click
import msgspec

import cbw
from cbw import errors, metrics, settings
from cbw.cli.main import cli
from cbw.core import events as e
from cbw.core import messages as m
from cbw.core import request as r
from cbw.core.broker import BrokerCore
from cbw.core.overview import overview
from cbw.handler import Handler
from cbw.status import status_of
from cbw.vocabulary import EVENTS
from cbw.wire import native

DOCS = Path(__file__).parent
WARNING = "<!-- Written by docs/generate.py from the code; edit that, then run it. -->"
SIGNATURE_CHARS = 100


# --- text


def markdown(text: str | None) -> str:
    """A docstring as Markdown: roles and double backticks become code, ``::`` a block of it."""
    lines = inspect.cleandoc(text or "").split("\n")
    out: list[str] = []
    while lines:
        line = lines.pop(0)
        if not line.endswith("::"):
            out.append(line)
            continue
        if line != "::":
            out.append(line.removesuffix(":"))
        block: list[str] = []
        while lines and (not lines[0] or lines[0].startswith("    ")):
            block.append(lines.pop(0))
        body = textwrap.dedent("\n".join(block)).strip("\n")
        kind = "text" if "──" in body else "python"
        out += [f"```{kind}", body, "```", ""]
    joined = "\n".join(out).strip()
    joined = re.sub(r":\w+:`~?(?:cbw\.)?(?:errors\.|handler\.)?([^`]+)`", r"`\1`", joined)
    joined = re.sub(r"(?<!`)``([^`]+)``(?!`)", r"`\1`", joined)
    return re.sub(r"^Raises:\n((?: +.*\n?)+)", _raises, joined, flags=re.MULTILINE).strip()


def _raises(found: re.Match[str]) -> str:
    items = re.sub(r"\n {5,}", " ", textwrap.dedent(found[1]))
    items = re.sub(r"\n +", " ", items)
    return "Raises:\n\n" + "\n".join(re.sub(r"^(\w+):", r"- `\1`:", line) for line in items.strip().split("\n")) + "\n"


def cell(text: str) -> str:
    """``text`` for a table."""
    return plain(" ".join(markdown(text).split())).replace("|", "\\|")


def plain(text: str) -> str:
    """``text`` outside of code, safe from being taken for HTML."""
    return re.sub(r"<(?=[A-Za-z/])(?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)", r"\\<", text)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    heads = list(head)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page(title: str, *parts: str) -> str:
    """A whole generated page."""
    return "\n\n".join([f"# {title}", WARNING, *(part for part in parts if part)]) + "\n"


def code(value: object) -> str:
    """``value`` as code."""
    return f"`{value}`"


# --- settings.md


def _amount(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, int) and value >= 1 << 20 and value % (1 << 20) == 0:
        size, unit = (value >> 30, "GiB") if value % (1 << 30) == 0 else (value >> 20, "MiB")
        return f"`{value}` ({size} {unit})"
    return code(value)


def _settings_table(rows: Iterable[settings.Setting], *, has_option: bool = True) -> str:
    head = [*(["option"] if has_option else []), "environment", "default", "bounds", "meaning"]
    return table(
        head,
        [
            [
                *([code(one.option)] if has_option else []),
                code(one.environment),
                _amount(one.default),
                _range(one.minimum, one.maximum).strip(),
                cell(one.help),
            ]
            for one in rows
        ],
    )


def settings_page() -> str:
    """Every setting, from the table in ``cbw.settings``."""
    known = {one.environment for one in (*settings.BROKER, *settings.WORKER, *settings.CLIENT)}
    known |= {one.environment for one in (*settings.TRACE, *settings.LOG, *settings.STATUS, *settings.LOGGER)}
    known |= {settings.LOGGER_DIR.environment}
    known |= {settings.BROKER_HOST.environment, settings.BROKER_PORT.environment}
    others: dict[str, tuple[str, str, list[str]]] = {}
    for name, command in commands():
        for param in command.params:
            if isinstance(param, click.Option) and isinstance(param.envvar, str) and param.envvar not in known:
                _, _, users = others.setdefault(param.envvar, (param.opts[0], param.help or "", []))
                users.append(f"`cbw {name}`")
    return page(
        "Settings",
        "Every setting has a default, so none is required. An option of the [command line](cli.md) comes before the "
        "environment, the environment before the default. Names that end in `_S` are seconds. The library takes the same "
        "settings as arguments: [`Limits`](api.md#limits), [`Broker`](api.md#broker), [`Worker`](api.md#worker), "
        "[`Client`](api.md#client).",
        "## Where the broker is",
        _settings_table([settings.BROKER_HOST, settings.BROKER_PORT], has_option=False),
        "## Broker",
        _settings_table(settings.BROKER),
        "## Worker",
        _settings_table(settings.WORKER),
        "## Client",
        _settings_table(settings.CLIENT),
        "## Logger",
        _settings_table((settings.LOGGER_DIR, *settings.LOGGER)),
        "## Health and metrics of every role",
        _settings_table(settings.STATUS),
        "## The trace of every role",
        _settings_table((*settings.TRACE, *settings.LOG)),
        "## Others with an environment variable" if others else "",
        table(
            ["option", "environment", "of", "meaning"],
            [
                [code(option), code(environment), ", ".join(users), cell(text)]
                for environment, (option, text, users) in others.items()
            ],
        )
        if others
        else "",
    )


# --- cli.md


def commands() -> Iterator[tuple[str, click.Command]]:
    """The commands that are there, by name."""
    context = click.Context(cli)
    for name in cli.list_commands(context):
        if importlib.util.find_spec(f"cbw.cli.{name}") is None:
            continue
        command = cli.get_command(context, name)
        if command is not None:
            yield name, command
            yield from ((f"{name} {inner}", found) for inner, found in getattr(command, "commands", {}).items())


def _help(text: str) -> str:
    parts = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):
            parts.append("```sh\n" + textwrap.dedent(paragraph.removeprefix("\b").strip("\n")) + "\n```")
        else:
            parts.append(plain(" ".join(paragraph.split())))
    return "\n\n".join(parts)


def _kind(param: click.Parameter) -> str:
    if isinstance(param, click.Option) and param.is_flag:
        return ""
    kind = param.type
    name = {"float": "number", "filename": "file"}.get(kind.name, kind.name)
    if isinstance(kind, click.IntRange | click.FloatRange):
        name += _range(kind.min, kind.max)
    if isinstance(kind, click.Choice):
        name = " or ".join(str(choice) for choice in kind.choices)
    return name


def _range(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" {low:g} to {high:g}"
    return (f" ≥ {low:g}" if low is not None else "") + (f" ≤ {high:g}" if high is not None else "")


def _default(param: click.Parameter) -> str:
    default = param.default
    if isinstance(default, bool) or not isinstance(default, int | float | str) or default == "":
        return ""
    return code(default)


def _environment(param: click.Parameter) -> str:
    if isinstance(param.envvar, str):
        return code(param.envvar)
    return ", ".join(code(name) for name in param.envvar or ())


def _command(name: str, command: click.Command) -> str:
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    options = [param for param in command.params if isinstance(param, click.Option) and not param.hidden]
    metavars = [argument.metavar or f"[{(argument.name or '').upper()}]" for argument in arguments]
    usage = " ".join(["cbw", name, *(["[OPTIONS]"] if options else []), *metavars])
    parts = [f"## cbw {name}", f"```sh\n{usage}\n```", _help(command.help or "")]
    if arguments:
        rows = [
            [
                code(metavar[1:-1] if metavar[:1] == "[" else metavar),
                _kind(argument),
                _default(argument),
                _environment(argument),
            ]
            for metavar, argument in zip(metavars, arguments, strict=True)
        ]
        parts.append(table(["argument", "type", "default", "environment"], rows))
    if options:
        rows = []
        for option in options:
            names = ", ".join(code(opt) for opt in (*option.opts, *option.secondary_opts))
            if option.metavar:
                names += f" `{option.metavar}`"
            meaning = cell(option.help or "")
            if option.multiple and "May be repeated." not in meaning:
                meaning += " May be repeated."
            rows.append([names, _kind(option), _default(option), _environment(option), meaning])
        parts.append(table(["option", "type", "default", "environment", "meaning"], rows))
    return "\n\n".join(parts)


def cli_page() -> str:
    """Every command, from its click definition."""
    found = dict(commands())
    return page(
        "Command line",
        "`cbw COMMAND --help` says the same. Why a setting has its default is in [settings](settings.md).",
        table(
            ["command", "what it is for"],
            [[f"[`cbw {n}`](#cbw-{n.replace(' ', '-')})", _summary(c)] for n, c in found.items()],
        ),
        "Every command exits with "
        + ", ".join(f"{number} {text}" for number, text in _exit_codes())
        + "; 130 after Ctrl-C, 143 after SIGTERM. But `broker`, `worker`, `logger` and `up` then finish what runs and exit as "
        "usual, and `client` exits with 0 after SIGTERM. "
        "Errors go to standard error: what happened, then what to do.",
        *(_command(name, command) for name, command in found.items()),
    )


def _summary(command: click.Command) -> str:
    first = inspect.cleandoc(command.help or "").split("\n\n")[0]
    return cell(first.replace("\n", " ")).split(". ")[0].removesuffix(".") + "."


def _exit_codes() -> list[tuple[int, str]]:
    found = re.search(r"Exit codes: (.+?)\.", (cli.help or "") + ".")
    assert found, "the help of `cbw` lists no exit codes"
    pairs = [one.strip().split(" ", 1) for one in found[1].split(",")]
    return [(int(number), text) for number, text in pairs]


# --- errors.md


def _exceptions() -> list[type[errors.CbwError]]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.CbwError)]
    return sorted(kinds, key=lambda kind: inspect.getsourcelines(kind)[1])


def errors_page() -> str:
    """Every exception, and which one tells which status."""
    rows = []
    for kind in _exceptions():
        bases = ", ".join(code(base.__name__) for base in kind.__bases__)
        text = cell(
            (kind.__doc__ or "").partition("\n\n")[0] if kind is not errors.CbwError else "Base of all of them."
        )
        own = kind.__dict__.get("advice", "")
        rows.append([code(kind.__name__), bases, str(kind.exit_code), text + (f" *{cell(own)}*" if own else "")])
    statuses = [
        [str(status.value), code(status.name), _status_error(status), cell(comment)]
        for status, comment in _commented(m.Status)
    ]
    refusals = [
        [str(reason.value), code(reason.name), _refusal_error(reason), cell(comment)]
        for reason, comment in _commented(m.Refusal)
    ]
    doc = markdown(errors.__doc__).partition("\n\n")[2].strip()
    return page(
        "Errors",
        doc,
        "## Each one",
        "Slanted text is its standing `advice`.",
        table(["exception", "is a", "exit code", "when"], rows),
        "Every `CbwError` has `advice` (what to do next, may be empty). A `RequestError` also has `kind`, `text`, "
        "`request_id` and `service`.",
        "## What a request's end becomes",
        "The status travels in the protocol ([wire](wire.md#statuses)); the client library raises:",
        table(["status", "name", "raised by the client", "meaning"], statuses),
        "## What a refused hello becomes",
        table(["reason", "name", "raised", "meaning"], refusals),
    )


def _status_error(status: m.Status) -> str:
    if status is m.Status.OK:
        return "- (the answer)"
    if status is m.Status.STOPPING:
        return "- (sent again)"
    if status is m.Status.CRASHED:
        return "- (tried again)"
    session = importlib.import_module("cbw.session")
    error = session.error_of(m.Answer(1, status, m.error_body("kind", "text")), "")
    return code(type(error).__name__)


def _refusal_error(reason: m.Refusal) -> str:
    refusal = importlib.import_module("cbw.refusal")
    return code(type(refusal.refusal_error(m.Refused(reason, ""))).__name__)


def _commented(kind: type[Enum]) -> Iterator[tuple[Any, str]]:
    """The members of an enum with the ``#:`` comments behind them."""
    source = inspect.getsource(kind)
    for member in kind:
        found = re.search(rf"^ +{member.name} = \d+(?: +#: (.*))?$", source, re.MULTILINE)
        yield member, (found and found[1]) or ""


# --- api.md


def _annotation(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(getattr(value, "__name__", value))


def signature(name: str, function: Callable[..., Any], defaults: Callable[..., Any] | None = None) -> str:
    """``name(parameters) -> result``; a default ``...`` of an overload is taken from ``defaults``."""
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
    """Public attributes that ``__init__`` sets."""
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
                _amount(None if field.required else field.default),
            ]
            for field in msgspec.structs.fields(kind)
        ]
        return f"## {name}\n\n{markdown(kind.__doc__)}\n\n" + table(["field", "type", "default"], rows)
    parts = [f"## {name}"]
    if "__init__" in kind.__dict__ and name != "Attempt":
        parts.append(_signatures(name, kind.__dict__["__init__"]))
    parts.append(markdown(kind.__doc__))
    attributes = _attributes(kind)
    if attributes:
        parts.append("Attributes: " + ", ".join(code(attribute) for attribute in attributes) + ".")
    for member, value in kind.__dict__.items():
        if member.startswith("_"):
            continue
        if isinstance(value, property):
            result = _annotation(inspect.signature(value.fget).return_annotation) if value.fget else ""
            parts += [f"### {name}.{member}", f"```python\n{member}: {result}\n```", markdown(value.__doc__)]
        elif inspect.isfunction(value):
            parts += [f"### {name}.{member}", _signatures(member, value), markdown(value.__doc__)]
    return "\n\n".join(part for part in parts if part)


def _module(name: str) -> ModuleType | None:
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


def api_page() -> str:
    """Every public name of ``cbw``, and of ``cbw.testing``."""
    kinds = {name: getattr(cbw, name) for name in cbw.__all__ if isinstance(getattr(cbw, name), type)}
    exceptions = [name for name, kind in kinds.items() if issubclass(kind, Exception)]
    parts = [
        "All that `import cbw` gives, and `cbw.testing`. Times are seconds. Without a `timeout` that of the client counts; "
        "None waits for ever. What is not here is not public and may change.",
        "Exceptions are on [a page of their own](errors.md): " + ", ".join(code(name) for name in exceptions) + ".",
        *(_class(name, kind) for name, kind in kinds.items() if name not in exceptions),
        "## Handlers",
        markdown(Handler.__doc__),
        "[How to write a worker](../howto/write-a-worker.md) shows each form.",
    ]
    testing = _module("cbw.testing")
    if testing is not None:
        names = getattr(testing, "__all__", None) or [
            name
            for name, value in vars(testing).items()
            if not name.startswith("_") and getattr(value, "__module__", "") == "cbw.testing"
        ]
        parts.append("# cbw.testing\n\n" + markdown(testing.__doc__))
        for name in names:
            value = getattr(testing, name)
            if isinstance(value, type):
                parts.append(_class(name, value))
            elif callable(value):
                parts += [f"## {name}", _signatures(name, value), markdown(value.__doc__)]
    return page("Python API", *parts)


# --- parts of wire.md and request-states.md

_DIRECTIONS = {
    "client → broker": m.FromClient,
    "worker → broker": m.FromWorker,
    "broker → client": m.ToClient,
    "broker → worker": m.ToWorker,
}
_WIRE_TYPES = {str: "str", int: "int", float: "float", bytes: "bin", NoneType: "nil", bool: "bool"}


def _messages() -> list[type[m.Message]]:
    kinds = [kind for kind in vars(m).values() if isinstance(kind, type) and issubclass(kind, m.Message)]
    return sorted((kind for kind in kinds if kind is not m.Message), key=lambda kind: _tag(kind))


def _tag(kind: type[m.Message]) -> int:
    tag = kind.__struct_config__.tag
    assert isinstance(tag, int)
    return tag


def wire_type(kind: Any) -> str:
    """How a field of that Python type is written in msgpack."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"int ({kind.__name__})"
    if isinstance(kind, UnionType):
        return " or ".join(wire_type(one) for one in typing.get_args(kind))
    if typing.get_origin(kind) is list:
        return f"array of {wire_type(typing.get_args(kind)[0])}"
    return _WIRE_TYPES[kind]


def _directions(kind: type[m.Message]) -> str:
    found = [name for name, union in _DIRECTIONS.items() if kind in typing.get_args(union)]
    return "any" if len(found) == len(_DIRECTIONS) else ", ".join(found)


def message_table() -> str:
    """Tag, name, direction, array and meaning of every message."""
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
    """The statuses of answers."""
    rows = [[str(status.value), code(status.name), cell(comment)] for status, comment in _commented(m.Status)]
    return table(["value", "name", "meaning"], rows)


def refusal_table() -> str:
    """The reasons of refused hellos."""
    rows = [[str(reason.value), code(reason.name), cell(comment)] for reason, comment in _commented(m.Refusal)]
    return table(["value", "name", "meaning"], rows)


def _hex(data: bytes) -> str:
    return data.hex(" ")


def example_bytes() -> str:
    """A batch as it goes over the wire."""
    batch: list[m.Message] = [m.ClientHello("C1", "7f3a"), m.Request(1, "", b"hello", 2.5)]
    ((frames, _),) = native.encode(batch)
    lines = [
        "```text",
        f"frame 1: {_hex(frames[0])}    # {frames[0].decode()}",
        f"frame 2: {_hex(frames[1])}",
        '         # [[10, "C1", "7f3a"], [11, 1, "", "hello" as bin, 2.5]]',
        "```",
    ]
    return "\n".join(lines)


def state_diagram() -> str:
    """The transition table as a mermaid diagram; equal arrows share one line."""
    arrows: dict[tuple[r.State, r.State], list[str]] = {}
    for event, states in r.TRANSITIONS.items():
        for before, after in states.items():
            arrows.setdefault((before, after), []).append(event)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {r.ACCEPTED.name}: accepted"]
    for (before, after), events in arrows.items():
        lines.append(f"    {before.name} --> {after.name}: {', '.join(events)}")
    return "\n".join([*lines, f"    {r.State.ENDED.name} --> [*]", "```"])


def state_table() -> str:
    """State by event; a dash is what cannot happen."""
    rows = [
        [f"**{state.name}**", *(_after(states.get(state)) for states in r.TRANSITIONS.values()), cell(comment)]
        for state, comment in _commented(r.State)
        if state is not r.State.ENDED
    ]
    return table(["state", *r.TRANSITIONS, "meaning"], rows)


def _after(state: r.State | None) -> str:
    return "-" if state is None else state.name


# --- metrics.md


def _statuses() -> Iterator[dict[str, Any]]:
    """A status of each role, of which only the shape matters."""
    core = BrokerCore()
    core.step([e.WorkerSaid(b"w", [m.WorkerHello("W1", "1", ["resize"], 1, 1)])], 0.0)
    log = {"records": 0, "dropped": 0, "waiting": 0}
    yield status_of("broker", "BRO", 0.0, "", log=log, **overview(core, 0.0))
    yield status_of("worker", "W1", 0.0, "", in_hand=0, credit=1)
    yield status_of("client", "C1", 0.0, "", in_flight=0)
    yield status_of("logger", "LOG", 0.0, "", file_bytes=0, senders=0)


def metrics_page() -> str:
    """Every metric, from what each role tells."""
    parts = []
    for status in _statuses():
        rows = []
        for family in metrics.families(status):
            name = family.name + ("_total" if family.type == "counter" else "_info" if family.type == "info" else "")
            labels = dict.fromkeys(label for sample in family.samples for label in sample.labels)
            rows.append([code(name), family.type, ", ".join(map(code, labels)), cell(family.documentation)])
        parts += [f"## {status['role'].capitalize()}", table(["metric", "type", "labels", "meaning"], rows)]
    return page(
        "Metrics",
        "What `/metrics` of each role tells, beside the process's own figures (`process_…`: CPU, memory, descriptors). "
        "`cbw_log_…` is there if the role sends its trace to a logger. How to use them: [monitor](../howto/monitor.md).",
        *parts,
    )


# --- events.md


def events_page() -> str:
    """Every event of the trace."""
    rows = [[code(event), meaning.roles, meaning.level, cell(meaning.text)] for event, meaning in EVENTS.items()]
    fields = (
        "Every record has the time `at` (seconds since 1970), the `event`, the `role` and the `sender` (its id), and what of "
        "`request`, `client`, `service`, `worker`, `task`, `attempt`, `text` and `count` applies. At the logger it also has "
        "the `boot` of its sender and its number `seq`. "
    )
    return page(
        "Events",
        fields
        + "What happens to single requests is recorded with `--verbose`, for a `--trace` file or for a logger that gets "
        "`debug`, of which `--log-sample` chooses a share; `attempt_failed` and `gave_up` always are. How to find something: "
        "[read the log](../howto/read-the-log.md).",
        table(["event", "recorded by", "level", "meaning"], rows),
    )


PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": cli_page,
    "reference/settings.md": settings_page,
    "reference/metrics.md": metrics_page,
    "reference/events.md": events_page,
    "reference/errors.md": errors_page,
    "reference/api.md": api_page,
}
PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "reference/wire.md": {
        "messages": message_table,
        "statuses": status_table,
        "refusals": refusal_table,
        "example": example_bytes,
    },
    "explanation/request-states.md": {"diagram": state_diagram, "table": state_table},
}


def expected() -> dict[Path, str]:
    """What each file should hold."""
    files = {DOCS / name: make() for name, make in PAGES.items()}
    for name, parts in PARTS.items():
        text = (DOCS / name).read_text()
        for part, make in parts.items():
            begin, end = f"<!-- begin: {part} -->", f"<!-- end: {part} -->"
            before, found, rest = text.partition(begin)
            _, found_end, after = rest.partition(end)
            assert found and found_end, f"{name} has no {begin} … {end}"
            text = f"{before}{begin}\n{make()}\n{end}{after}"
        files[DOCS / name] = text
    return files


def stale() -> list[str]:
    """The files that differ from the code."""
    return [
        path.relative_to(DOCS.parent).as_posix()
        for path, text in expected().items()
        if not path.exists() or path.read_text() != text
    ]


def main(arguments: list[str]) -> int:
    """Write, or compare."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python docs/generate.py [--check]\n")
        return 2
    changed = stale()
    if arguments:
        for name in changed:
            sys.stderr.write(f"{name} is not what the code says: run python docs/generate.py\n")
        return 1 if changed else 0
    for path, text in expected().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"wrote {path.relative_to(DOCS.parent)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
