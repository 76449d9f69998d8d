"""What somebody is asked before an act that cannot be taken back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cbw.cli.control import confirm
from cbw.cli.dead import asked
from cbw.errors import CbwError, UsageError
from cbw.language import translated


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], list[str]]:
    """Standard input is a terminal, where somebody answers like that; the questions that he is asked."""

    def answering(answer: bool) -> list[str]:
        questions: list[str] = []

        def answered(question: str, *, err: bool) -> bool:
            questions.append(question)
            return answer

        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        monkeypatch.setattr("click.confirm", answered)
        return questions

    return answering


def test_who_agrees_goes_on(terminal: Callable[[bool], list[str]]) -> None:
    questions = terminal(True)
    confirm("end 3 requests of s")
    assert questions == ["really end 3 requests of s?"]


def test_who_does_not_agree_changes_nothing(terminal: Callable[[bool], list[str]]) -> None:
    terminal(False)
    with pytest.raises(CbwError, match="nothing was changed"):
        confirm("end 1 request")


def test_a_question_is_in_spanish(terminal: Callable[[bool], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CBW_LANG", "es")
    questions = terminal(True)
    confirm(asked("drop", 2))
    assert questions == ["¿seguro que quieres eliminar 2 peticiones abandonadas?"]


def test_nobody_is_asked_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    monkeypatch.setenv("CBW_LANG", "es")
    with pytest.raises(UsageError) as refused:
        confirm(asked("requeue", 1))
    assert "nadie puede confirmarlo: reenviar 1 petición abandonada" in translated(str(refused.value))
    assert "--yes" in refused.value.advice
