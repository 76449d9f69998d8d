"""The page of every setting."""

from __future__ import annotations

from collections.abc import Iterable

import click

from cbw import settings

from .cli import commands
from .markdown import amount, cell, code, page, span, table


def _by_memory(setting: settings.Setting) -> str:
    """What the default is where the memory of the role is limited."""
    if not setting.memory_fraction:
        return ""
    units = round(1 / setting.memory_fraction)
    share = f"1/{units}" if units < 1 << 10 else f"one for each {units >> 10} KiB"
    return f", or {share} of the container's memory if that is less"


def _settings_table(rows: Iterable[settings.Setting], *, has_option: bool = True) -> str:
    head = [*(["option"] if has_option else []), "environment", "default", "bounds", "meaning"]
    return table(
        head,
        [
            [
                *([code(one.option)] if has_option else []),
                " ".join(map(code, one.environments)),
                amount(one.default) + _by_memory(one),
                span(one.minimum, one.maximum).strip(),
                cell(one.help),
            ]
            for one in rows
        ],
    )


def settings_page() -> str:
    """The page of every setting, made from the tables in ``cbw.settings``."""
    known = {one.environment for one in (*settings.BROKER, *settings.WORKER, *settings.CLIENT)}
    known |= {one.environment for one in (*settings.TRACE, *settings.LOG, *settings.STATUS, *settings.LOGGER)}
    single = (settings.TIMES, settings.LOGGER_DIR, settings.BROKER_HOST, settings.BROKER_PORT)
    known |= {one.environment for one in single}
    others: dict[str, tuple[str, str, list[str]]] = {}
    for name, command in commands():
        for param in command.params:
            if isinstance(param, click.Option) and isinstance(param.envvar, str) and param.envvar not in known:
                _, _, users = others.setdefault(param.envvar, (param.opts[0], param.help or "", []))
                users.append(f"`cbw {name}`")
    return page(
        "Settings",
        "Every setting has a default, so none is required. An option on the [command line](cli.md) overrides the environment "
        "variable, that the [file](../howto/settings-file.md), and the file the default. Names that end in `_S` are in seconds. "
        "In Python, they are arguments of [`Limits`](api.md#limits), [`Broker`](api.md#broker), [`Worker`](api.md#worker) and "
        "[`Client`](api.md#client).",
        "## Address of the broker, and language",
        _settings_table([settings.BROKER_HOST, settings.BROKER_PORT, settings.LANGUAGE], has_option=False),
        "## Broker",
        _settings_table(settings.BROKER),
        "## Worker",
        _settings_table(settings.WORKER),
        "## Client",
        _settings_table(settings.CLIENT),
        "## Logger",
        _settings_table((settings.LOGGER_DIR, *settings.LOGGER)),
        "## Health and metrics (every role)",
        _settings_table(settings.STATUS),
        "## Trace (every role)",
        _settings_table((*settings.TRACE, settings.TIMES, *settings.LOG)),
        "## Other options with an environment variable" if others else "",
        table(
            ["option", "environment", "commands", "meaning"],
            [
                [code(option), code(environment), ", ".join(users), cell(text)]
                for environment, (option, text, users) in others.items()
            ],
        )
        if others
        else "",
    )
