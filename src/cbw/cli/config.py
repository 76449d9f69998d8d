"""``cbw config``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import click
import msgspec

from cbw import memory
from cbw.cli import output
from cbw.cli.config_file import OF_ALL_ROLES, SECTIONS, FileSetting, key_of, read_settings_file, taken
from cbw.cli.control import show_rows
from cbw.settings import Setting

_DEFAULT = "default"


class ShownSetting(msgspec.Struct):
    """One setting as ``--json`` prints it, such as ``worker.concurrency``. ``source`` is a variable, a place in a file, or
    ``default``.
    """

    setting: str
    value: Any
    source: str


@click.command("config")
@click.argument("section", type=click.Choice([name for name in SECTIONS if name]), default=None, metavar="[ROLE]")
@click.option("--all", "shows_defaults", is_flag=True, help="Also show what nobody has set.")
@click.option("--json", "is_json", is_flag=True, help="Print the settings as JSON.")
def command(section: str | None, shows_defaults: bool, is_json: bool) -> None:
    """Show what is set in the environment and in cbw.toml, or in [tool.cbw] of pyproject.toml, of the current folder.

    ROLE is broker, worker, client or logger; without it all settings are shown. An option of a command overrides a variable,
    a variable overrides the file, and the file the default.

    \b
    cbw config
    cbw config worker --all
    """
    found = list(_rows(section))
    rows = [row for row in found if shows_defaults or row.source != _DEFAULT]
    if is_json:
        output.json(rows)
    elif rows:
        show_rows(("setting", "value", "from"), [[row.setting, str(row.value), row.source] for row in rows])
    else:
        output.line("Nothing is set: everything has its default, which --all shows.")


def _rows(section: str | None) -> Iterator[ShownSetting]:
    entries = {(entry.section, entry.setting.name): entry for entry in read_settings_file()}
    for name, own in SECTIONS.items():
        if section not in (None, name) and name:
            continue
        for setting in own:
            yield _row(name, setting, entries.get((name, setting.name)))
        for setting in OF_ALL_ROLES if name else ():  # of this role alone
            if (entry := entries.get((name, setting.name))) is not None:
                yield _row(name, setting, entry)


def _row(section: str, setting: Setting, entry: FileSetting | None) -> ShownSetting:
    name = f"{section}.{key_of(setting)}" if section else key_of(setting)
    variable = next((one for one in setting.environments if one in os.environ and one not in taken), None)
    if variable is not None:
        return ShownSetting(name, os.environ[variable], variable)
    if entry is not None:
        return ShownSetting(name, entry.text, entry.place)
    default = setting.default
    if setting.memory_fraction:
        default = memory.default_within(setting, memory.limit_bytes())
    return ShownSetting(name, "" if default in (None, ()) else default, _DEFAULT)
