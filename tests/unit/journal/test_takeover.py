"""When a standby may take a journal over."""

from __future__ import annotations

import pytest

from cbw.journal.takeover import ASK_S, GONE_S, SILENT_S, Takeover


def test_a_journal_that_was_given_back_is_taken_at_once() -> None:
    assert Takeover().nobody(0.0, is_given_back=True)


def test_an_owner_whose_connection_is_gone_has_a_moment_to_come_back() -> None:
    takeover = Takeover()
    assert not takeover.nobody(10.0, is_given_back=False)
    assert not takeover.nobody(10.0 + GONE_S - 0.01, is_given_back=False)
    assert takeover.nobody(10.0 + GONE_S, is_given_back=False)


@pytest.mark.parametrize(
    "is_back", [Takeover.answered, lambda takeover: takeover.silent(10.6, 10.1, is_connected=True)]
)
def test_an_owner_that_is_back_is_not_gone(is_back: object) -> None:
    takeover = Takeover()
    takeover.nobody(10.0, is_given_back=False)
    is_back(takeover)  # type: ignore[operator]
    assert not takeover.nobody(10.0 + GONE_S, is_given_back=False)


def test_an_owner_that_does_not_answer_is_frozen_after_a_while() -> None:
    takeover = Takeover()
    asked_at, found = 10.0, []
    for _ in range(4):
        found.append(takeover.silent(asked_at + ASK_S, asked_at, is_connected=True))
        asked_at += ASK_S
    assert found == [False, False, False, True]
    assert 4 * ASK_S == SILENT_S


def test_one_answer_begins_the_wait_anew() -> None:
    takeover = Takeover()
    takeover.silent(10.5, 10.0, is_connected=True)
    takeover.answered()
    assert not takeover.silent(12.5, 12.0, is_connected=True)


def test_whoever_is_cut_off_from_the_servers_can_tell_nothing() -> None:
    takeover = Takeover()
    takeover.silent(10.5, 10.0, is_connected=True)
    assert not takeover.silent(12.5, 12.0, is_connected=False)
    assert not takeover.silent(13.0, 12.5, is_connected=True)
