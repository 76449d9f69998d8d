"""Whatever an error says is in the catalogue of messages, so that the command line can say it in Spanish."""

from __future__ import annotations

import ast
import errno
import inspect
import os
import re
from collections.abc import Iterator
from functools import cache

import click.exceptions
import click.parser
import click.types
import pytest
from supply.messages import CATALOGUE, read_catalogue

from cbw.language import TRANSLATED_CHARS_MAX, translated
from tests.unit.error_texts import HOLE, SRC, Scope, Source, shape, sources

SEAMS = (r"(?<=\.) ", "; ", ": ")
"""As in :mod:`cbw.language`: where texts are put together."""
THE_SAME = re.compile(
    r"(docker (compose|stack|info|service)|cbw verify --compose|sudo systemctl) .*|docker info|--\S+|\w+://.*|[A-Z]+|"
    r"allowed|journal\.db|\.key_secret|\{\} dead letters?"
)
"""What is no sentence: commands, addresses, options and names, which are the same in every language."""
TEXT_CHARS_MAX = 400
"""Longest text that is taken apart, in characters: what is longer is the docstring of a module."""
NOBODYS_TERMINAL = ("testing.py", "core/broker/check.py")
"""Modules that run in a test of ours or of a user: their errors go to no terminal of a role."""


@cache
def known_shapes() -> frozenset[str]:
    return frozenset(map(shape, messages()))


def has_words(text: str) -> bool:
    return re.search("[A-Za-z]{2}", text.replace(HOLE, "")) is not None and not THE_SAME.fullmatch(text)


def is_known(text: str) -> bool:
    """Whether ``text`` is in the catalogue; or all that it is put together of, where one text ends and another begins."""
    text = text.strip()
    if text in known_shapes() or not has_words(text):
        return True
    for seam in SEAMS:
        both = re.split(seam, text, maxsplit=1)
        if len(both) > 1:
            return all(map(is_known, both))
    return False


def missing(source: Source, node: ast.expr, scope: Scope) -> Iterator[str]:
    """What ``node``, or what is told in it, says and the catalogue does not."""
    for text in source.texts(node, scope):
        lacking = [one for one in source.expanded(text, scope) if not is_known(one)]
        if lacking and not is_known(text[0]):
            yield from lacking
        elif lacking:
            for hole in text[1]:
                yield from missing(source, hole, scope)


@pytest.mark.slow
def test_the_text_of_an_error_is_in_the_catalogue() -> None:
    lacking = {
        f"{source.path.relative_to(SRC)}:{node.lineno}: {text!r}"
        for source in sources()
        if str(source.path.relative_to(SRC)) not in NOBODYS_TERMINAL
        for node, scope in source.spoken()
        for text in missing(source, node, scope)
    }
    assert not lacking, f"translate these in {CATALOGUE.name}, then python -m supply.messages:\n" + "\n".join(
        sorted(lacking)
    )


def test_an_error_is_made_in_english() -> None:
    """It goes to logs, to JSON and into programs of users, too; the command line translates it."""
    for source in sources():
        for node, _ in source.spoken():
            calls = [ast.unparse(one.func) for one in ast.walk(node) if isinstance(one, ast.Call)]
            assert "said" not in calls, f"{source.path}:{node.lineno}"


FROM_CLICK = (click.core, click.exceptions, click.parser, click.types)
PUT_TOGETHER_BY_CLICK = (
    "Usage: {}",
    "Missing argument {}.",
    "Missing option {}.",
    "Did you mean {}?",
    "{} {} is a file.",
)
NUMBERS = (
    *(errno.EACCES, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EROFS, errno.EIO, errno.EMFILE, errno.ENOMEM, errno.EAGAIN, errno.EADDRINUSE, errno.EADDRNOTAVAIL),
    *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.ENETUNREACH, errno.EHOSTUNREACH),
)
"""Errors of the system that a student meets: no rights, no room, no network."""
OF_NAMES = ("Name or service not known", "No address associated with hostname", "Temporary failure in name resolution")
"""What glibc says of a name that has no address (``gai_strerror``)."""


def of_click() -> set[str]:
    """What click says of arguments: the first argument of its calls of gettext, and all but the last of those of ngettext."""
    found = set(PUT_TOGETHER_BY_CLICK)
    for module in FROM_CLICK:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("_", "ngettext"):
                texts = [
                    shape(one.value)
                    for one in node.args
                    if isinstance(one, ast.Constant) and isinstance(one.value, str)
                ]
                found |= {part for text in texts for part in (text, *re.split(r"(?<=\.) ", text))}
    return found


def of_system() -> set[str]:
    return {*map(os.strerror, NUMBERS), *OF_NAMES}


def written() -> set[str]:
    """Every text of the source, also as a part of one that is put together, and with what is told in it and behind it."""
    found: set[str] = set()
    for source in sources():
        for node, scope in source.literals():
            if isinstance(node, ast.Constant):
                found.add(shape(str(node.value)))
            for text in source.texts(node, scope):
                for one in (text[0], *source.expanded(text, scope)):
                    found.update(seamed(one.strip()), seamed(one.strip().removesuffix(HOLE)))
    return found


@cache
def seamed(text: str) -> frozenset[str]:
    """``text``, and all that it is put together of."""
    found = {text}
    for seam in SEAMS if len(text) <= TEXT_CHARS_MAX else ():
        both = re.split(seam, text, maxsplit=1)
        if len(both) > 1:
            found.update(*map(seamed, both))
    return frozenset(found)


def test_the_catalogue_has_nothing_that_is_never_said() -> None:
    stale = known_shapes() - written() - of_click() - of_system()
    assert not stale, f"nothing says this any more: {sorted(stale)}"


def test_the_catalogue_has_what_the_system_says() -> None:
    assert of_system() <= known_shapes()


def messages() -> list[str]:
    """Without those of a context, which are words and sentences that stand alone: see test_words.py."""
    return sorted(one for one in read_catalogue(CATALOGUE.read_text(encoding="utf-8")) if one and "\4" not in one)


def test_a_text_is_translated_with_all_that_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    for message in messages():
        told = {name: f"«{number}»" for number, name in enumerate(re.findall(r"\{(\w+)\}", message))}
        text = message.format(**told)
        monkeypatch.setenv("CBW_LANG", "es")
        spanish = translated(text)
        assert spanish != text and all(value in spanish for value in told.values()), (text, spanish)
        monkeypatch.setenv("CBW_LANG", "en")
        assert translated(text) == text


def test_a_message_has_words_enough_to_be_known_by() -> None:
    """One with few would be found in texts that have nothing to do with it."""
    for message in messages():
        words = re.findall("[A-Za-z]", shape(message).replace(HOLE, ""))
        assert len(words) >= 5 or HOLE not in shape(message) or message == "at {place} {what}", message


def test_what_is_told_in_a_text_is_translated_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CBW_LANG", "es")
    expected = "no se puede escribir la traza en /x: No existe el fichero o el directorio"
    assert translated("cannot write the trace to /x: No such file or directory") == expected
    inside = "Invalid value for --scale: 'x' is no service; there are cli, wor, bro, log"
    assert translated(inside) == "Valor no válido para --scale: 'x' no es un servicio; hay cli, wor, bro, log"


def test_a_text_of_several_is_translated_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CBW_LANG", "es")
    text = "no answer in time: worker W1 has had it for 3.2 s; 2 failed at it before"
    expected = "sin respuesta a tiempo: el trabajador W1 la tiene desde hace 3.2 s; intentos fallidos antes: 2"
    assert translated(text) == expected
    assert (
        translated("Only workers need it. Give --worker-port.")
        == "Solo lo necesitan los trabajadores. Indica --worker-port."
    )


def test_a_role_is_called_as_people_call_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence; not where it is a word to be typed, or the name of something else."""
    monkeypatch.setenv("CBW_LANG", "es")
    assert translated("the broker did not start: it said nothing") == "el bróker no ha arrancado: no ha dicho nada"
    assert translated("the broker's host 'x' does not resolve: No route to host").startswith(
        "el anfitrión del bróker, 'x',"
    )
    text = "which key in /k is that of this client? There is no client.key_secret, and no other"
    expected = "¿qué clave de /k es la de este cliente? No hay ningún client.key_secret, y ningún otro"
    assert translated(text) == expected
    assert translated("Usage: cbw broker [OPTIONS]") == "Uso: cbw broker [OPTIONS]"
    assert translated("'waiter' is no role; there are client, worker") == "'waiter' no es un rol; hay client, worker"
    assert translated("f.yml has no service bro, only broker") == "f.yml no tiene el servicio bro, solo broker"
    assert translated("worker") == "worker"


def test_spanish_calls_each_thing_by_one_name() -> None:
    """Roles have Spanish names, except the logger; what is typed is as it is: an address, an option, a command, a file."""
    typed = r"\{\w+\}|(?:cbw|docker|nats) [\w .:<>{}/=-]+|`[^`]+`|\S+\.\S+|--?[\w-]+|\w*_\w+|[A-Z]\w+"
    for english, spanish in read_catalogue(CATALOGUE.read_text(encoding="utf-8")).items():
        words = re.sub(typed, "", spanish) if english else ""
        assert not re.search(r"\b(brokers?|workers?|brókers|standbys?)\b", words), spanish


def test_what_is_in_no_catalogue_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CBW_LANG", "es")
    for text in (
        "",
        "KeyError: 'x'",
        "1 validation error; see {braces} %s",
        "port\n9 is in use",
        3000 * "port 9 is in use; ",
    ):
        assert translated(text) == text


@pytest.mark.parametrize(
    "part", ["a; ", "a: ", "a. ", "it cannot be ", "it is a file. ", "a cannot be b; c is a file: "]
)
def test_a_text_of_a_peer_that_looks_like_many_of_ours_takes_no_time(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CBW_LANG", "es")
    assert translated(part * (TRANSLATED_CHARS_MAX // len(part)))
