"""Every state of a request against every event."""

from __future__ import annotations

import pytest

from cbw.core.broker.states import ACCEPTED, ACCEPTED_WITH_JOURNAL, TRANSITIONS, Change, RequestState


@pytest.mark.parametrize("state", RequestState)
@pytest.mark.parametrize("event", TRANSITIONS)
def test_every_state_and_event(state: RequestState, event: Change) -> None:
    is_held = state in (RequestState.RUNNING, RequestState.ALONE)
    is_queued = state in (RequestState.WAITING, RequestState.SUSPECT)
    is_delayed = state is RequestState.DELAYED
    is_accepted = state is not RequestState.ENDED
    allowed = {
        Change.DELAYED: is_held or state is RequestState.WAITING,
        Change.DUE: is_delayed,
        Change.STORED: state is RequestState.STORING,
        Change.HANDED_OUT: is_queued,
        Change.RETURNED: is_held,
        Change.WORKER_FAILED: is_held,
        Change.ANSWERED: is_held,
        Change.GAVE_UP: is_held,
        Change.SERVED: state in (RequestState.STORING, RequestState.WAITING),
        Change.EXPIRED: is_accepted,
        Change.CANCELLED: is_accepted,
        Change.STOPPED: is_accepted,
        Change.BROKEN: is_accepted,
    }[event]
    if not allowed:
        with pytest.raises(KeyError):
            TRANSITIONS[event][state]
        return
    after = TRANSITIONS[event][state]
    assert after is not state or event is Change.WORKER_FAILED


def test_it_begins_waiting() -> None:
    assert ACCEPTED is RequestState.WAITING
    assert ACCEPTED_WITH_JOURNAL is RequestState.STORING


def test_a_suspect_stays_one_until_it_ends() -> None:
    assert TRANSITIONS[Change.HANDED_OUT][RequestState.SUSPECT] is RequestState.ALONE
    assert TRANSITIONS[Change.RETURNED][RequestState.ALONE] is RequestState.SUSPECT
    assert TRANSITIONS[Change.WORKER_FAILED][RequestState.ALONE] is RequestState.SUSPECT


def test_nothing_leads_out_of_the_end() -> None:
    assert all(RequestState.ENDED not in table for table in TRANSITIONS.values())
