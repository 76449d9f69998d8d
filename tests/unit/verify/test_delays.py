"""G2 as the checks judge it: a request that is not to be handed out yet does not wait."""

from __future__ import annotations

import pytest

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.verify.idle import IDLE_S_MAX, WAY_S_MAX

from .records import accepted, begun, broker, done, given, ready, sent, verdict

NAME = "no-idle-while-waiting"


def delayed(due_at: float, again_at: float) -> list[Record]:
    """Its client wants it later, and its handler once more."""
    return [
        ready(0.0, "W1"),
        accepted(1.0, "A/1"),
        broker(1.0, "delayed", request="A/1", service="s"),
        broker(3.0, "due", request="A/1", service="s"),
        given(3.0, "handed_out", "A/1", "W1", 1),
        given(4.0, "retried", "A/1", "W1", 1),
        broker(due_at, "due", request="A/1", service="s"),
        given(again_at, "handed_out", "A/1", "W1", 2),
        given(again_at + 1, "answered", "A/1", "W1", 2),
    ]


def test_a_delayed_request_does_not_wait() -> None:
    found = verdict(NAME, delayed(9.0, 9.0))
    assert found.passed and found.figures["longest_s"] == 0.0


def test_one_that_is_due_does() -> None:
    found = verdict(NAME, delayed(9.0, 9.0 + 2 * IDLE_S_MAX))
    assert not found.passed and found.figures["longest_s"] == pytest.approx(2 * IDLE_S_MAX)


# --- without a broker's trace


def sent_later(at: float, request: str, delay_s: object) -> Record:
    record = sent(at, request)
    record.fields = {"delay_s": delay_s}
    return record


def seen_from_the_ends(begun_at: float, delay_s: object = 2.0) -> list[Record]:
    """W1 has nothing to do from 1.2 on, and A/2, sent at 1.3, is not wanted before 3.3."""
    return [
        sent(1.0, "A/1"),
        begun(1.1, "W1", "A/1"),
        done(1.2, "W1", "A/1"),
        sent_later(1.3, "A/2", delay_s),
        begun(begun_at, "W1", "A/2"),
        done(begun_at + 0.1, "W1", "A/2"),
    ]


def test_seen_from_the_ends_a_delayed_request_does_not_wait() -> None:
    found = verdict(NAME, seen_from_the_ends(3.3))
    assert found.passed and found.figures["source"] == "clients and workers" and found.figures["longest_s"] == 0.0


def test_seen_from_the_ends_one_that_is_due_does() -> None:
    late_s = 2 * (IDLE_S_MAX + WAY_S_MAX)
    found = verdict(NAME, seen_from_the_ends(3.3 + late_s))
    assert not found.passed and found.figures["longest_s"] == pytest.approx(late_s)


@pytest.mark.parametrize("delay_s", [None, "2", -1.0, [2]])
def test_seen_from_the_ends_a_delay_that_makes_no_sense_is_none(delay_s: object) -> None:
    found = verdict(NAME, seen_from_the_ends(2.3, delay_s))
    assert not found.passed and found.figures["longest_s"] == pytest.approx(1.0)


def test_seen_from_the_ends_waiting_for_a_retry_is_no_idleness() -> None:
    failed = Record(
        1.2,
        catalogue.ERROR,
        role="worker",
        sender="W1",
        request="A/1",
        service="s",
        worker="W1",
        text="ConnectionError",
    )
    tries = [sent(1.0, "A/1"), begun(1.1, "W1", "A/1"), failed, begun(9.0, "W1", "A/1"), done(9.1, "W1", "A/1")]
    found = verdict(NAME, tries)
    assert found.passed and found.figures["judged"] == 2 and found.figures["longest_s"] == 0.0
