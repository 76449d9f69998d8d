"""REQ workers that come and go without a word."""

from __future__ import annotations

import pytest

from cbw.core.broker.events import PeerLost, PeersConnected, Side

from .system import CoreSystem, plain_said, req_ready, req_said


def test_a_worker_that_is_back_before_its_last_words_are_read_is_found() -> None:
    """Both happened while the broker stood still, and the news of the loss comes last of all."""
    system = CoreSystem()
    system.tell(req_ready(b"P1"))
    system.tell(plain_said(b"R1", (b"",), b"one"))
    system.tell(PeersConnected(Side.WORKER))
    system.now += 0.001
    system.tell(req_said(b"P1", b"R1", b"one"))
    system.now += 0.01
    system.tell(PeerLost(Side.WORKER, b"P1"))
    system.wait(0.2)
    system.tell(plain_said(b"R1", (b"",), b"two"))
    assert system.plain_tasks["P1"] == [(b"R1", b"one"), (b"R1", b"two")]


@pytest.fixture
def lab() -> CoreSystem:
    """One worker of the lab, P1."""
    system = CoreSystem()
    system.tell(req_ready(b"P1"))
    return system


def test_an_answer_to_an_earlier_task_is_not_taken_for_the_next_ones(lab: CoreSystem) -> None:
    """One client asks twice, and the worker is lost in between: only the frame that names the client tells which is answered."""
    lab.tell(plain_said(b"R1", (b"",), b"one"))
    lab.tell(PeerLost(Side.WORKER, b"P1"), PeersConnected(Side.WORKER))
    lab.wait(2.5)
    frames = [client for client, _ in lab.plain_tasks["P1"]]
    assert len(frames) == 2 and frames[1] != frames[0]
    lab.tell(req_said(b"P1", frames[0], b"the answer to the first"))
    assert lab.replies("R1") == []
    lab.tell(req_said(b"P1", lab.plain_tasks["P1"][-1][0], b"the answer to the last"))
    assert lab.replies("R1") == [b"the answer to the last"]


def test_one_that_registers_anew_in_the_middle_of_a_task_still_owes_its_answer(lab: CoreSystem) -> None:
    """It may be the same program, and its answer on the way."""
    lab.tell(plain_said(b"R1", (b"",), b"one"))
    lab.tell(req_ready(b"P1"))
    assert [body for _, body in lab.plain_tasks["P1"]] == [b"one", b"one"]
    assert lab.plain_tasks["P1"][1][0] != b"R1"
    lab.tell(req_said(b"P1", b"R1", b"the answer to the first"))
    assert lab.replies("R1") == []


def test_one_that_has_answered_owes_nothing(lab: CoreSystem) -> None:
    lab.tell(plain_said(b"R1", (b"",), b"one"))
    lab.tell(req_ready(b"P1"))
    lab.tell(req_said(b"P1", lab.plain_tasks["P1"][-1][0], b"ho"))
    assert lab.replies("R1") == [b"ho"]
    lab.tell(plain_said(b"R1", (b"",), b"two"))
    assert lab.plain_tasks["P1"][-1] == (b"R1", b"two")


def test_one_without_a_name_is_not_remembered_for_its_return() -> None:
    """The ROUTER made its identity up, and will make another one up for whoever connects next."""
    system = CoreSystem()
    anonymous = b"\0\1\2\3\4"
    system.tell(req_ready(anonymous))
    system.tell(PeerLost(Side.WORKER, anonymous))
    assert system.core.workers.returning == []
    system.tell(PeersConnected(Side.WORKER))
    system.wait(1.5)
    assert not system.core.workers.by_peer


def test_one_that_is_late_for_too_long_is_probed_again(lab: CoreSystem) -> None:
    """Its task or its answer may have been lost on the way, and then it waits for another one for ever."""
    lab.tell(plain_said(b"R1", (b"",), b"one"))
    lab.wait(2.1)  # late
    lab.wait(lab.core.limits.absence_s + 1)
    assert [body for _, body in lab.plain_tasks["P1"]] == [b"one"] * 2


def test_one_that_is_away_is_given_nothing_before_what_it_owes_is_due(lab: CoreSystem) -> None:
    """Until then it may be at work, and what it is sent now would wait for it in vain."""
    lab.tell(plain_said(b"R1", (b"",), b"one"))
    lab.wait(0.5)
    lab.tell(PeerLost(Side.WORKER, b"P1"), PeersConnected(Side.WORKER))
    lab.wait(1.4)
    assert len(lab.plain_tasks["P1"]) == 1
    lab.wait(0.3)
    assert len(lab.plain_tasks["P1"]) == 2


def test_the_late_answer_of_one_that_is_not_known_is_to_no_task(lab: CoreSystem) -> None:
    lab.tell(PeerLost(Side.WORKER, b"P1"))
    lab.tell(req_said(b"P1", b"R1", b"too late"))
    assert [(record.worker, record.task) for record in lab.records if record.event == "fenced"] == [("P1", 0)]
