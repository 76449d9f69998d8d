"""A broker that is told to stop: what it finishes, whom it tells to go elsewhere, and when it ends."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.broker.stopping import ASK_ON_S
from cbw.core.messages import Status

from .journaled import Journaled
from .system import CoreSystem, plain_said, req_ready, req_said


def test_idle_it_stops_at_once(system: CoreSystem) -> None:
    system.worker("W1")
    system.tell(events.StopRequested(system.now + 10))
    assert [type(order) for order in system.others] == [events.Stop]
    assert system.said("C1", messages.Goodbye)
    assert system.said("W1", messages.Goodbye)


def test_what_runs_is_finished_what_waits_is_told(system: CoreSystem) -> None:
    system.worker("W1")
    system.ask(1, 2)
    (task,) = system.take_tasks("W1")
    system.tell(events.StopRequested(system.now + 10))
    assert system.answers() == [(2, Status.STOPPING)]
    assert not system.others
    system.answer("W1", task)
    assert system.answers() == [(1, Status.OK)]
    assert [type(order) for order in system.others] == [events.Stop]


def test_the_grace_time_ends_it(system: CoreSystem) -> None:
    system.worker("W1")
    system.ask(1)
    system.tell(events.StopRequested(system.now + 1))
    system.wait(1.1, "W1")
    assert system.answers() == [(1, Status.STOPPING)]
    assert any(isinstance(order, events.Stop) for order in system.others)


def test_new_requests_are_sent_elsewhere(system: CoreSystem) -> None:
    system.worker("W1")
    system.ask(1)
    system.tell(events.StopRequested(system.now + 10))
    system.ask(2)
    assert system.answers() == [(2, Status.STOPPING)]


def test_a_second_request_to_stop_gives_no_more_time(system: CoreSystem) -> None:
    system.worker()
    system.ask(1)
    for seconds in (1.0, 100.0):
        system.tell(events.StopRequested(system.now + seconds))
    system.wait(1.1)
    assert any(isinstance(order, events.Stop) for order in system.others)


# --- clients of the lab, which would take "ask the successor" for an answer


@pytest.fixture
def lab() -> CoreSystem:
    """One worker of the lab, P1, that is at the request of R1."""
    system = CoreSystem()
    system.tell(req_ready(b"P1"), plain_said(b"R1", (b"",), b"one"))
    return system


def stop(system: CoreSystem, grace_s: float = 10.0) -> None:
    system.tell(events.StopRequested(system.now + grace_s))


def has_stopped(system: CoreSystem) -> bool:
    return any(isinstance(order, events.Stop) for order in system.others)


def test_what_a_plain_client_waits_for_is_handed_out(lab: CoreSystem) -> None:
    lab.tell(plain_said(b"R2", (b"",), b"two"))
    stop(lab)
    lab.tell(req_said(b"P1", b"R1", b"answer one"))
    assert lab.plain_tasks["P1"][-1] == (b"R2", b"two")
    lab.tell(req_said(b"P1", b"R2", b"answer two"))
    assert (lab.replies("R1"), lab.replies("R2")) == ([b"answer one"], [b"answer two"])


def test_what_a_plain_client_asks_on_is_served(lab: CoreSystem) -> None:
    stop(lab)
    lab.tell(req_said(b"P1", b"R1", b"answer one"))
    assert not has_stopped(lab)
    lab.tell(plain_said(b"R1", (b"",), b"two"))
    assert lab.plain_tasks["P1"][-1] == (b"R1", b"two")
    lab.tell(req_said(b"P1", b"R1", b"answer two"))
    assert lab.replies("R1") == [b"answer one", b"answer two"]


def test_it_ends_when_plain_clients_have_had_the_time_to_ask_on(lab: CoreSystem) -> None:
    stop(lab)
    lab.wait(1.0)
    lab.tell(req_said(b"P1", b"R1", b"answer one"))
    lab.wait(ASK_ON_S - 0.06)
    assert not has_stopped(lab)
    lab.wait(0.1)
    assert has_stopped(lab)


def test_a_broker_with_plain_clients_that_ask_nothing_ends_soon() -> None:
    system = CoreSystem()
    system.tell(req_ready(b"P1"), plain_said(b"R1", (b"",), b"one"))
    system.tell(req_said(b"P1", b"R1", b"answer one"))
    stop(system)
    system.wait(ASK_ON_S + 0.05)
    assert has_stopped(system)


def test_at_the_end_of_the_grace_who_waits_is_told_and_who_is_served_gets_the_answer_of_the_next_broker(
    lab: CoreSystem,
) -> None:
    lab.tell(plain_said(b"R2", (b"",), b"two"))
    stop(lab, 1.0)
    lab.wait(1.1)
    assert has_stopped(lab)
    assert [answer.status for answer in lab.plain_replies["R2"]] == [Status.STOPPING]
    assert lab.plain_replies["R1"] == [], "its worker will bring the answer to the next broker"


def test_at_the_end_of_the_grace_a_plain_client_of_a_native_worker_is_told() -> None:
    """It says goodbye to its worker, so no answer comes."""
    system = CoreSystem()
    system.worker("W1", services=("",))
    system.tell(plain_said(b"R1", (b"",), b"one"))
    stop(system, 1.0)
    system.wait(1.1, "W1")
    assert [answer.status for answer in system.plain_replies["R1"]] == [Status.STOPPING]


def test_with_a_journal_what_a_plain_client_asks_on_is_for_the_next_broker() -> None:
    system = Journaled()
    system.tell(req_ready(b"P1"), plain_said(b"R1", (b"",), b"one"))
    system.wait(0.1)
    system.tell(events.StopRequested(system.now + 10))
    system.req_answer("P1", b"answer one")
    system.wait(0.1)
    system.tell(plain_said(b"R1", (b"",), b"two"))
    system.wait(ASK_ON_S)
    assert has_stopped(system) and system.replies("R1") == [b"answer one"]
    system.crash(0.0)
    system.tell(events.PeersConnected(events.Side.WORKER), events.PeersConnected(events.Side.CLIENT))
    system.wait(0.3)
    system.req_answer("P1", b"answer two")
    system.wait(0.5)
    assert system.replies("R1") == [b"answer two"]
