"""Settings from a file of the current folder: ``cbw.toml``, or ``[tool.cbw]`` of ``pyproject.toml``.

What a file says becomes part of the environment where that says nothing. So an option overrides a variable, a variable the file,
and the file the default, here and in every process that the command starts.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from cbw import settings
from cbw.cli.option_types import setting_type
from cbw.errors import UsageError
from cbw.language import said
from cbw.settings import LISTEN_ENVIRONMENT, Setting

OWN_FILE = "cbw.toml"
PROJECT_FILE = "pyproject.toml"
OF_ALL_ROLES = (
    settings.BROKER_HOST,
    settings.BROKER_PORT,
    settings.KEYS,
    *settings.TRACE,
    *settings.LOG,
    *settings.STATUS,
)
"""Settings of all roles: above all sections, or in that of one role, for it alone."""
_LISTEN = Setting("listen", None, LISTEN_ENVIRONMENT, "Where all roles listen.", kind=str)


def _names(role: str, name: str) -> Setting:
    text = f"Those of cbw {role} --{name.replace('_', '-')}."
    return Setting(name, (), f"CBW_{role.upper()}_{name.upper()}", text, kind=list)


SECTIONS: dict[str, tuple[Setting, ...]] = {
    "": (*OF_ALL_ROLES, _LISTEN),
    "broker": (*settings.JOURNAL, *settings.BROKER),
    "worker": (*settings.WORKER, *(_names("worker", name) for name in ("app", "handler", "retry_on"))),
    "client": settings.CLIENT,
    "logger": (settings.LOGGER_DIR, *settings.LOGGER),
}
"""What may stand in each section of the file; the one without a name is above all others."""


def key_of(setting: Setting) -> str:
    """What ``setting`` is called in the file: its option without the dashes."""
    return setting.option.removeprefix("--")


class FileSetting(msgspec.Struct, frozen=True):
    """One line of the file: what it sets, to which text, in which section, and where it stands."""

    setting: Setting
    text: str
    section: str
    place: str


taken: dict[str, FileSetting] = {}
"""The variables that :func:`take_settings_file` has set for this command, and from where."""


def take_settings_file(command: str) -> None:
    """Put what the file of the current folder says into the environment, for ``command``.

    Raises:
        UsageError: it cannot be read, or does not make sense.
    """
    for entry in read_settings_file():
        setting = entry.setting
        is_anybodys = setting not in OF_ALL_ROLES or entry.section in ("", command)
        is_first = setting.environment in taken or not any(name in os.environ for name in setting.environments)
        if is_anybodys and is_first:
            os.environ[setting.environment] = entry.text
            taken[setting.environment] = entry


def where_from(text: str) -> str:
    """If ``text``, an error, is about a variable that the file has set: which line of the file that is."""
    named = [(name, entry) for name, entry in taken.items() if re.search(rf"\b{name}\b", text)]
    places = [said("{name} is set by {place}", name=name, place=entry.place) for name, entry in named]
    return f"{'; '.join(places)}." if places else ""


def read_settings_file() -> list[FileSetting]:
    """What the file of the current folder says, sections last; nothing if there is none.

    Raises:
        UsageError: it cannot be read, or does not make sense.
    """
    for name, path in ((OWN_FILE, ()), (PROJECT_FILE, ("tool", "cbw"))):
        text = _text_of(Path(name))
        if text is None:
            continue
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"\(at line (\d+), column \d+\)", str(error))
            place = f"{name}:{found[1]}" if found else name
            raise UsageError(f"{place} is no TOML: {error}", advice="Correct the file, or move it away.") from None
        for part in path:
            table = table.get(part, {}) if isinstance(table, dict) else {}
        if table or not path:
            return list(_Reader(name, text, ".".join(path)).entries(table))
    return []


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"{path} cannot be read: {why}", advice="It may hold settings of cbw.") from None


class _Reader:
    """Reads the table of a file, below ``prefix``, whose whole ``text`` says where a key stands."""

    def __init__(self, name: str, text: str, prefix: str) -> None:
        self._name = name
        self._lines = text.splitlines()
        self._prefix = prefix

    def entries(self, table: Any) -> Iterable[FileSetting]:
        if not isinstance(table, dict):
            raise UsageError(f"{self._name}: {self._prefix} is no table", advice=f"Write [{self._prefix}].")
        yield from self._section("", {key: value for key, value in table.items() if not isinstance(value, dict)})
        for section, inside in table.items():
            if isinstance(inside, dict):
                if section not in SECTIONS:
                    near = difflib.get_close_matches(section, SECTIONS, 1)
                    known = ", ".join(name for name in SECTIONS if name)
                    advice = f"Did you mean [{self._full(near[0])}]?" if near else f"The sections are {known}."
                    place = self._place(section, "")
                    raise UsageError(f"{place}: there is no section {section!r}", advice=advice)
                yield from self._section(section, inside)

    def _section(self, section: str, table: Mapping[str, Any]) -> Iterable[FileSetting]:
        known = {key_of(one): one for one in (*SECTIONS[section], *(OF_ALL_ROLES if section else ()))}
        for key, value in table.items():
            place = self._place(section, key)
            setting = known.get(key)
            if setting is None:
                raise UsageError(f"{place}: there is no setting {key!r} here", advice=_advice(key, known))
            yield FileSetting(setting, _checked(setting, value, f"{place}: {key}"), section, place)

    def _full(self, section: str) -> str:
        return ".".join(part for part in (self._prefix, section) if part)

    def _place(self, section: str, key: str) -> str:
        """``cbw.toml:3``; without a number where the key is written in a way of its own."""
        inside, wanted = "", self._full(section)
        for number, line in enumerate(self._lines, 1):
            if header := re.match(r"\s*\[\s*([\w.\-\s\"']+?)\s*\]", line):
                inside = re.sub(r"[\s\"']", "", header[1])
                if inside == wanted and not key:
                    return f"{self._name}:{number}"
            if key and inside == wanted and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
                return f"{self._name}:{number}"
        return self._name


def _advice(key: str, known: Mapping[str, Setting]) -> str:
    if key in SECTIONS:
        return f"Write [{key}]: it is a section."
    elsewhere = [name for name, rows in SECTIONS.items() if name and key in map(key_of, rows)]
    if elsewhere:
        return f"It belongs into the section [{elsewhere[0]}]."
    near = difflib.get_close_matches(key.replace("_", "-").lower().removesuffix("-s"), known, 1, 0.5)
    return f"Did you mean {near[0]}?" if near else "cbw config lists the settings."


def _checked(setting: Setting, value: Any, where: str) -> str:
    """``value`` as the text of a variable."""
    kind = setting.type
    if kind is list:
        several = [value] if isinstance(value, str) else value
        if not isinstance(several, list) or not all(isinstance(one, str) and one.split() == [one] for one in several):
            raise UsageError(f"{where} is {value!r}; it must be a list of texts without blanks")
        return " ".join(several)
    fits = type(value) is kind or (kind is float and type(value) is int)
    if not fits:
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text in quotes"}
        raise UsageError(f"{where} is {value!r}; it must be {names[kind]}")
    if kind is bool:
        return "1" if value else "0"
    try:
        setting_type(setting).convert(value, None, None)
    except click.BadParameter as error:
        raise UsageError(f"{where}: {error.message}") from None
    return str(value)
