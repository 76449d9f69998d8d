"""Which brokers of a deployment answer: a slow one is not taken for one that stands by."""

from __future__ import annotations

from typing import cast

import pytest
from docker.models.containers import Container
from supply.messages import CATALOGUE, read_catalogue

from cbw.verify.answering import answering_of


class Printing:
    """A container that has printed ``text``."""

    def __init__(self, text: bytes = b"") -> None:
        self._text = text

    def logs(self, *, tail: int) -> bytes:
        """The last lines."""
        return b"\n".join(self._text.splitlines()[-tail:])


def found(answers_after_s: dict[str, float], printed: bytes = b"") -> tuple[list[str], list[str]]:
    """Where a fast broker and another one, which has ``printed`` that, are found to answer, and which addresses were asked."""
    asked: list[str] = []

    def is_broker_at(address: str, patience_s: float) -> bool:
        asked.append(address)
        return answers_after_s.get(address, 1e9) <= patience_s

    brokers = [(Printing(), ["one:1", "one:2"]), (Printing(printed), ["other:1"])]
    return answering_of(cast("list[tuple[Container, list[str]]]", brokers), is_broker_at), asked


def test_a_slow_broker_is_asked_again() -> None:
    assert found({"one:2": 0.1, "other:1": 20.0})[0] == ["one:2", "other:1"]


SAID = "stands by: {owner} has the journal {name}"


@pytest.mark.parametrize("said", [SAID, read_catalogue(CATALOGUE.read_text())[SAID]])
def test_one_that_says_that_it_stands_by_is_asked_once(said: str) -> None:
    line = said.format(owner="BRO_a", name="shop")
    answering, asked = found({"one:2": 0.1}, f"BRO_b {line}\n".encode())
    assert answering == ["one:2", ""]
    assert asked.count("other:1") == 1


def test_nobody_is_asked_again_if_nobody_answers() -> None:
    answering, asked = found({})
    assert answering == ["", ""]
    assert asked == ["one:1", "one:2", "other:1"]
