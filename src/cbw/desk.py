"""The way for another thread to ask a broker's own services: its loop takes the questions, and answers between two turns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from cbw.core.broker.events import AnswerOperator, OperatorAsked
from cbw.core.messages import Answer

OPERATOR_WAIT_S = 1.0
"""Time for a loop to answer. A turn takes milliseconds: a loop that needs longer is stuck, or far overloaded."""


class Desk:
    """Questions of other threads. ``wake`` ends the loop's sleep."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.is_asked = False  # the only thing that the loop reads in each turn
        self._wake = wake
        self._lock = threading.Lock()
        self._questions: list[OperatorAsked] = []
        self._waiting: dict[int, tuple[threading.Event, list[Answer]]] = {}
        self._next = 1

    def ask(self, name: str, service: str, body: bytes) -> Answer | None:
        """The answer of ``service`` to somebody called ``name``; None: the loop is stuck."""
        is_answered, answers = threading.Event(), list[Answer]()
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._waiting[number] = is_answered, answers
            self._questions.append(OperatorAsked(number, name, service, body))
            self.is_asked = True
        self._wake()
        is_answered.wait(OPERATOR_WAIT_S)
        with self._lock:
            self._waiting.pop(number, None)
            self._questions = [question for question in self._questions if question.number != number]
        return answers[0] if answers else None

    def take(self) -> list[OperatorAsked]:
        """The questions, for the loop."""
        with self._lock:
            self.is_asked = False
            questions, self._questions = self._questions, []
        return questions

    def answer(self, given: Iterable[AnswerOperator]) -> None:
        """Give these to those that wait for them."""
        for one in given:
            waiting = self._waiting.get(one.number)
            if waiting is not None:
                waiting[1].append(one.answer)
                waiting[0].set()
