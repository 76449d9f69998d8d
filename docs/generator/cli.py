"""The page of every command."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import textwrap
from collections.abc import Iterator

import click

from cbw.cli.main import cli

from .markdown import cell, code, page, plain, span, table


def commands() -> Iterator[tuple[str, click.Command]]:
    """The commands that exist, by name."""
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
        name += span(kind.min, kind.max)
    if isinstance(kind, click.Choice):
        name = " or ".join(str(choice) for choice in kind.choices)
    return name


def _default(param: click.Parameter) -> str:
    default = param.default
    if isinstance(param, click.Option) and isinstance(param.show_default, str):  # computed when the command runs
        value, _, condition = param.show_default.partition(",")
        return f"{code(value)},{condition}"
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
    """The page of every command, made from its click definition."""
    found = dict(commands())
    return page(
        "Command line",
        "`cbw COMMAND --help` prints the same text. [Settings](settings.md) lists the settings of all commands.",
        table(
            ["command", "purpose"],
            [[f"[`cbw {n}`](#cbw-{n.replace(' ', '-')})", _summary(c)] for n, c in found.items()],
        ),
        "The exit codes of all commands are: "
        + ", ".join(f"{number} {text}" for number, text in _exit_codes())
        + "; 130 after Ctrl-C, 143 after SIGTERM. There are two exceptions: after these signals, `broker`, `worker`, `logger` "
        "and `up` finish their running work and exit with one of the other codes; and `client` exits with 0 after SIGTERM. "
        "Errors are printed to standard error: first what happened, then what to do.",
        *(_command(name, command) for name, command in found.items()),
    )


def _summary(command: click.Command) -> str:
    first = inspect.cleandoc(command.help or "").split("\n\n")[0]
    return cell(first.replace("\n", " ")).split(". ")[0].removesuffix(".") + "."


def _exit_codes() -> list[tuple[int, str]]:
    found = re.search(r"Exit codes: (.+?)\.", (cli.help or "") + ".", re.DOTALL)
    assert found, "the help of `cbw` lists no exit codes"
    pairs = [" ".join(one.split()).split(" ", 1) for one in found[1].split(",")]
    return [(int(number), text) for number, text in pairs]
