"""A worker that no key lets in: it learns that from its own side, without a connection, and ends."""

from __future__ import annotations

import pytest

from cbw.core.messages import KEY_REFUSALS, Refusal, Refused
from cbw.core.worker.broker_session import Registration
from cbw.core.worker.events import Disconnected, End

from .sessions import arrived, busy, started


@pytest.mark.parametrize("reason", KEY_REFUSALS)
def test_without_a_connection(reason: Refusal) -> None:
    core = started()
    core.step([Disconnected()], 0.5)
    assert core.step([arrived(Refused(reason, "no"))], 1.0)[-1] == End(Refused(reason, "no"))
    assert core.sessions[0].registration is Registration.ENDED


def test_in_the_middle_of_its_work() -> None:
    """Its key was taken back: the connection is lost, and the next is refused."""
    core = busy(1)
    core.step([Disconnected()], 1.0)
    assert core.step([arrived(Refused(Refusal.KEY, "no"))], 1.1)[-1] == End(Refused(Refusal.KEY, "no"))


def test_any_other_refusal_is_of_the_connection_that_was_lost() -> None:
    core = started()
    core.step([Disconnected()], 0.5)
    for reason in sorted(set(Refusal) - set(KEY_REFUSALS)):
        assert core.step([arrived(Refused(reason, "no"))], 1.0) == []
    assert core.sessions[0].registration is Registration.DISCONNECTED
