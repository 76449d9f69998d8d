"""What a broker that reads a journal knows of the lab's programs, which say nothing of what they have and are at."""

from __future__ import annotations

from cbw.core.broker.events import PeerLost, PeersConnected, Side
from cbw.core.messages import Answer, Status

from .journaled import Journaled
from .system import plain_said, reply_undelivered, req_ready, req_said


def test_req_programs_are_reached_by_their_identities() -> None:
    system = Journaled()
    system.tell(req_ready(b"P1"), plain_said(b"R1", (b"",), b"hello"))
    system.wait(0.1)
    assert system.plain_tasks["P1"] == [(b"R1#1000", b"hello")]
    system.crash()
    system.tell(PeersConnected(Side.WORKER), PeersConnected(Side.CLIENT))
    system.req_answer("P1", b"world")  # it was at it all the time
    system.wait(1.0)
    assert system.replies("R1") == [b"world"]
    system.tell(plain_said(b"R1", (b"",), b"again"))
    assert system.plain_tasks["P1"] == [(b"R1#2000", b"again")]


def test_a_req_worker_that_was_idle_gets_work_when_it_is_back() -> None:
    system = Journaled()
    system.tell(req_ready(b"P1"))
    system.wait(0.1)
    system.tell(plain_said(b"R9", (b"",), b"first"))
    system.req_answer("P1", b"first")
    system.crash()
    system.client("C1")
    system.ask(1, service="")
    system.tell(PeersConnected(Side.WORKER))
    system.wait(0.2)
    assert system.plain_tasks["P1"] == [(b"C1#2000", b"1")]


def test_an_idle_req_worker_may_still_be_at_a_task_that_was_given_up() -> None:
    system = Journaled(answer_timeout_s=1.0, attempts_max=1)
    system.tell(req_ready(b"P1"), plain_said(b"R1", (b"1", b""), b"one"))
    system.wait(1.2)
    assert [answer.status for answer in system.plain_replies["R1"]] == [Status.GAVE_UP]
    one = system.named["P1"]
    system.tell(plain_said(b"R1", (b"2", b""), b"two"))
    system.crash()
    system.tell(PeersConnected(Side.WORKER), PeersConnected(Side.CLIENT))
    system.wait(0.2)
    assert [body for _, body in system.plain_tasks["P1"]] == [b"two"]
    system.tell(req_said(b"P1", one, b"the answer to one"))
    system.wait(0.5)
    assert [body for _, body in system.plain_tasks["P1"]] == [b"two", b"two"], "its socket has thrown the first away"
    system.req_answer("P1", b"the answer to two")
    system.wait(0.5)
    assert system.replies("R1")[-1:] == [b"the answer to two"]
    assert b"the answer to one" not in system.replies("R1")


def test_a_req_worker_may_be_at_a_later_task_than_the_journal_knows() -> None:
    system = Journaled()
    system.tell(req_ready(b"P1"), plain_said(b"R1", (b"1", b""), b"one"), plain_said(b"R1", (b"2", b""), b"two"))
    system.wait(0.1)
    system.is_slow = True
    system.req_answer("P1", b"the answer to one")
    assert [body for _, body in system.plain_tasks["P1"]] == [b"one", b"two"]
    system.crash()
    system.is_slow = False
    system.tell(PeersConnected(Side.CLIENT), PeersConnected(Side.WORKER))
    system.req_answer("P1", b"the answer to two")
    system.wait(0.5)
    assert b"the answer to two" not in system.replies("R1")
    assert [body for _, body in system.plain_tasks["P1"]] == [b"one"]


def test_a_reply_that_may_lie_in_a_buffer_is_sent_again_after_a_crash_but_not_later() -> None:
    system = Journaled()
    system.tell(req_ready(b"P1"))
    for body in (b"one", b"two"):
        system.tell(plain_said(b"R1", (body, b""), body))
        system.req_answer("P1", body)
        system.wait(1.5 if body == b"one" else 0.1)
    assert system.replies("R1") == [b"one", b"two"]
    system.crash()
    system.tell(PeersConnected(Side.CLIENT))
    system.wait(1.0)
    assert system.replies("R1") == [b"two"]


def test_a_reply_is_stored_as_long_as_its_client_does_not_read() -> None:
    system = Journaled()
    system.core.clients.waiting_for = lambda side, peer: [Answer(1, Status.OK, b"one")]
    system.tell(req_ready(b"P1"), plain_said(b"R1", (b"1", b""), b"one"))
    system.req_answer("P1", b"one")
    system.wait(5.0)
    system.crash()
    assert system.core.requests.parked.count == 1


def test_a_reply_that_is_sent_again_is_stored_for_as_long_again() -> None:
    system = Journaled()
    system.tell(req_ready(b"P1"))
    system.tell(plain_said(b"R1", (b"1", b""), b"one"))
    system.req_answer("P1", b"one")
    (reply,) = system.plain_replies["R1"]
    system.tell(reply_undelivered(b"R1", (b"1", b""), reply))
    system.wait(0.5)
    system.tell(PeersConnected(Side.CLIENT))
    system.wait(0.8)  # of which it was there for half a second
    assert system.replies("R1") == [b"one", b"one"]
    system.crash()
    system.tell(PeersConnected(Side.CLIENT))
    system.wait(0.5)
    assert system.replies("R1") == [b"one"]


def test_a_program_that_is_away_is_tried_once_for_each_connection_whatever_waits_for_it() -> None:
    system = Journaled()
    system.tell(req_ready(b"P1"), req_ready(b"P2"))
    asked: dict[bytes, tuple[bytes, ...]] = {b"numbered": (b"1", b""), b"plain": (b"",)}
    for body, envelope in asked.items():
        system.tell(plain_said(b"R1", envelope, body))
    system.tell(PeerLost(Side.CLIENT, b"R1"))
    for worker in ("P1", "P2"):
        system.req_answer(worker, system.plain_tasks[worker][-1][1])
    system.tell(PeersConnected(Side.CLIENT))  # somebody else
    system.is_slow = True
    tried: list[bytes] = []
    for _ in range(100):
        system.wait(0.02)
        for reply in system.plain_replies.pop("R1", []):
            tried.append(reply.body)
            system.tell(reply_undelivered(b"R1", asked[reply.body], reply))
        system.store()
    assert tried == [b"numbered"], "the other was not to be sent before that was stored, and nobody was there by then"
    assert system.core.requests.parked.count == 2
    system.tell(PeersConnected(Side.CLIENT))
    system.wait(0.5)
    system.store()
    assert sorted(system.replies("R1")) == [b"numbered", b"plain"]


def test_a_req_socket_never_gets_a_reply_twice_as_it_would_take_it_for_the_next_one() -> None:
    system = Journaled()
    system.tell(req_ready(b"P1"), plain_said(b"R1", (b"",), b"one"))
    system.req_answer("P1", b"one")
    assert system.replies("R1") == [b"one"]
    system.tell(plain_said(b"R1", (b"",), b"two"))
    system.wait(0.1)
    system.crash()
    system.tell(PeersConnected(Side.CLIENT), PeersConnected(Side.WORKER))
    system.wait(0.5)
    assert system.plain_replies["R1"] == []
    system.req_answer("P1", b"two")
    system.wait(0.5)
    assert system.replies("R1") == [b"two"]
    system.crash()
    system.tell(PeersConnected(Side.CLIENT))
    system.wait(0.5)
    assert system.plain_replies["R1"] == []


def test_a_stored_reply_leaves_for_a_req_socket_when_it_is_dropped_for_good() -> None:
    system = Journaled()
    system.tell(req_ready(b"P1"), plain_said(b"R1", (b"",), b"one"))
    system.tell(PeerLost(Side.CLIENT, b"R1"))
    system.req_answer("P1", b"one")
    system.is_slow = True
    system.tell(PeersConnected(Side.CLIENT))
    system.wait(0.5)
    assert system.plain_replies["R1"] == []
    system.store()
    (reply,) = system.plain_replies["R1"]
    system.tell(reply_undelivered(b"R1", (b"",), reply))  # it was not there: the reply is stored again
    system.wait(0.1)
    system.store()
    system.crash()
    system.is_slow = False
    system.tell(PeersConnected(Side.CLIENT))
    system.wait(0.5)
    assert system.replies("R1") == [b"one"]


def test_a_reply_that_waits_to_leave_is_void_if_its_req_program_asks_anew() -> None:
    system = Journaled()
    system.tell(req_ready(b"P1"), plain_said(b"R1", (b"",), b"one"))
    system.tell(PeerLost(Side.CLIENT, b"R1"))
    system.req_answer("P1", b"one")
    system.is_slow = True
    system.tell(PeersConnected(Side.CLIENT))
    system.wait(0.5)
    system.tell(plain_said(b"R1", (b"",), b"two"))
    system.store()
    assert system.plain_replies["R1"] == []


def test_a_req_socket_never_gets_the_reply_to_an_earlier_request() -> None:
    """Found by the chaos: it has its reply, its next request died with the broker, and it waits."""
    system = Journaled()
    system.tell(req_ready(b"P1"), plain_said(b"R1", (b"",), b"one"))
    system.req_answer("P1", b"one")
    assert system.replies("R1") == [b"one"]
    system.crash()
    system.tell(PeersConnected(Side.CLIENT))
    system.wait(1.0)
    assert not system.plain_replies["R1"]


def test_a_req_socket_that_is_away_gets_its_reply_after_a_crash() -> None:
    system = Journaled()
    system.tell(req_ready(b"P1"), plain_said(b"R1", (b"",), b"one"))
    system.tell(PeerLost(Side.CLIENT, b"R1"))
    system.req_answer("P1", b"one")
    system.crash()
    system.tell(PeersConnected(Side.CLIENT))
    system.wait(1.0)
    assert system.replies("R1") == [b"one"]


def test_an_anonymous_client_cannot_come_back() -> None:
    system = Journaled()
    system.tell(plain_said(b"\x00abcd", (b"",), b"hello"))
    system.crash()
    assert system.core.requests.count == 0
    system.crash()
    assert system.core.requests.count == 0
