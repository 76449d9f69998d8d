"""Every state of a request against every event."""

from __future__ import annotations

import pytest

from cbw.core.request import ACCEPTED, TRANSITIONS, State


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", TRANSITIONS)
def test_every_state_and_event(state: State, event: str) -> None:
    is_held = state in (State.RUNNING, State.ALONE)
    is_queued = state in (State.WAITING, State.SUSPECT)
    allowed = {
        "handed out": is_queued,
        "returned": is_held,
        "worker failed": is_held,
        "answered": is_held,
        "gave up": is_held,
        "expired": is_queued,
        "cancelled": is_held or is_queued,
        "stopped": is_held or is_queued,
    }[event]
    if not allowed:
        with pytest.raises(KeyError):
            TRANSITIONS[event][state]
        return
    after = TRANSITIONS[event][state]
    assert after is not state or event == "worker failed"


def test_it_begins_waiting() -> None:
    assert ACCEPTED is State.WAITING


def test_a_suspect_stays_one_until_it_ends() -> None:
    assert TRANSITIONS["handed out"][State.SUSPECT] is State.ALONE
    assert TRANSITIONS["returned"][State.ALONE] is State.SUSPECT
    assert TRANSITIONS["worker failed"][State.ALONE] is State.SUSPECT


def test_nothing_leads_out_of_the_end() -> None:
    assert all(State.ENDED not in table for table in TRANSITIONS.values())
