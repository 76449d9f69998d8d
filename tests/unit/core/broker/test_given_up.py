"""Whose the tasks were that were given up: remembered, and bounded."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.broker import given_up
from cbw.core.broker.given_up import NOBODYS, GivenUpTasks, Whose
from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import ClientRow, Entry
from cbw.wire import native


def entry(task: int) -> Entry:
    client = ClientRow("C1", "b", b"C1", native.CLIENT)
    return Entry(messages.Request(task, "s", b""), client, RequestState.RUNNING, 0.0, task=task)


def test_a_task_is_found_and_the_last_one_of_a_worker() -> None:
    found = GivenUpTasks()
    found.add(entry(1), "W1")
    found.add(entry(2), "W1")
    assert found.find(1, "W1") == Whose("C1/1", "C1", "s")
    assert found.find(0, "W1") == Whose("C1/2", "C1", "s")
    assert found.find(3, "W1") == found.find(0, "W2") == Whose("", "", "")


def test_the_oldest_are_forgotten_first() -> None:
    found = GivenUpTasks()
    for task in range(1, given_up.GIVEN_UP_MAX + 2):
        found.add(entry(task), "W1")
    assert found.find(1, "W1") == NOBODYS
    assert found.find(given_up.GIVEN_UP_MAX, "W1") != NOBODYS != found.find(0, "W1")
