"""What the lab's roles say to people, in both languages."""

from __future__ import annotations

import ast
import os
import re
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from supply.messages import CATALOGUE, compiled, read_catalogue

from cbw.language import LOCALE, said
from tests.live.program import environment
from tests.syntax_trees import tree_of

SRC = Path(__file__).parents[2] / "src" / "cbw"
ROLES = ("broker", "worker", "client", "logger", "connection", "signals")
"""The modules of the command line that print in the name of a role."""
FOR_PROGRAMS = ("serves clients on port", " works for ", " logs to ", " -> ")
"""Parts of the lines that programs read, which are the same in every language."""
PRINTING = ("output.told", "output.line", "announce", "warn")


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))


def messages() -> dict[str, Path]:
    """Every message of the product that has a translation, and where it is."""
    found: dict[str, Path] = {}
    for path in SRC.rglob("*.py"):
        for call in calls(path):
            given = {keyword.arg for keyword in call.keywords}
            if ast.unparse(call.func) == "said":
                texts = {ast.literal_eval(call.args[0]): [given]}
            elif ast.unparse(call.func) == "said_of":
                texts = {ast.literal_eval(text): [given, given | {"count"}] for text in call.args[1:]}
            else:
                continue
            for text, allowed in texts.items():
                assert fields(text) in allowed, f"{path}:{call.lineno}: {text!r} is given {allowed[-1]}"
                found[text] = path
    return found


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def translations() -> dict[str, str]:
    found = read_catalogue(CATALOGUE.read_text(encoding="utf-8"))
    del found[""]
    return found


@pytest.mark.slow
def test_every_message_is_in_the_catalogue() -> None:
    assert translations().keys() >= messages().keys()  # and no other that is never said: test_error_texts.py


def test_every_message_is_translated_with_all_that_it_tells() -> None:
    for english, spanish in translations().items():
        assert spanish and spanish != english, english
        assert fields(spanish) == fields(english), english
        assert not re.search(r"\{\w*[!:]", english + spanish), (
            f"{english!r}: say how a field is shown where it is given"
        )


def test_what_gettext_reads_is_made_of_the_catalogue() -> None:
    made = compiled(read_catalogue(CATALOGUE.read_text(encoding="utf-8")))
    assert CATALOGUE.with_suffix(".mo").read_bytes() == made, "run: python -m supply.messages"
    assert LOCALE in CATALOGUE.parents


@pytest.mark.parametrize("path", [*(SRC / "cli" / f"{name}.py" for name in ROLES), SRC / "cli" / "options.py"])
def test_a_role_prints_nothing_that_cannot_be_translated(path: Path) -> None:
    for call in calls(path):
        if ast.unparse(call.func) in PRINTING and call.args:
            text = ast.unparse(call.args[0])
            is_literal = isinstance(call.args[0], ast.Constant | ast.JoinedStr)
            assert not is_literal or any(part in text for part in FOR_PROGRAMS), (
                f"{path}:{call.lineno} prints {text}: write said(...), and its translation into {CATALOGUE.name}"
            )


@pytest.mark.parametrize("path", [*(SRC / "observe").glob("*.py"), *(SRC / "logger").glob("*.py")])
def test_a_warning_can_be_translated(path: Path) -> None:
    for call in calls(path):
        if ast.unparse(call.func) == "warn":
            assert not isinstance(call.args[0], ast.Constant | ast.JoinedStr), f"{path}:{call.lineno}: write said(...)"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"CBW_LANG": "es"}, "detenido"),
        ({"CBW_LANG": "es", "LANG": "en_GB.UTF-8"}, "detenido"),
        ({"LANG": "es_ES.UTF-8"}, "detenido"),
        ({"LANG": "C", "LC_ALL": "es_MX"}, "detenido"),
        ({"CBW_LANG": "en", "LANG": "es_ES.UTF-8"}, "stopped"),
        ({"LANG": "fr_FR.UTF-8"}, "stopped"),
        ({"CBW_LANG": "../../etc"}, "stopped"),
        ({}, "stopped"),
    ],
)
def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    for name in ("CBW_LANG", "LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-c", "from cbw.language import said; print(said('stopped'))"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ}, check=True)
    assert done.stdout.strip() == expected


def test_braces_in_what_is_told_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CBW_LANG", "es")
    assert said("waiting for {what}", what="{0} {x!r} %s") == "esperando {0} {x!r} %s"


def test_a_role_speaks_spanish() -> None:
    command = [sys.executable, "-m", "cbw", "client", "C1", "1", "127.0.0.1", "1", "--timeout", "0.2"]
    variables = environment(CBW_LANG="es")
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 3
    assert "ningún bróker en 127.0.0.1:1 en 0.2 s: no escucha nadie" in done.stderr
    assert "¿Hay un bróker en marcha ahí? Arranca uno con: cbw broker 1" in done.stderr
