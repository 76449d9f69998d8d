"""Clients and workers of the lab, whose dialect has no hellos and no ids of requests."""

from __future__ import annotations

import pytest

from cbw.core.broker import events
from cbw.core.broker.core import SWEEP_S
from cbw.core.broker.snapshot import state_of
from cbw.core.messages import DEFAULT_SERVICE, Status
from tests.unit.core.broker.system import CoreSystem, plain_said, req_ready, req_said


class TestPlainPeers:
    @pytest.fixture
    def lab(self) -> CoreSystem:
        system = CoreSystem()
        system.tell(req_ready(b"PW1"))
        return system

    def ask(self, system: CoreSystem, client: str, body: bytes = b"x", *, is_replaced: bool = False) -> None:
        system.tell(plain_said(client.encode(), (b"",), body, is_replaced))

    def replies(self, system: CoreSystem, client: str) -> list[bytes]:
        return [answer.body for answer in system.plain_replies[client]]

    def test_a_request_and_its_reply(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1", b"hi")
        assert lab.plain_tasks["PW1"] == [(b"P1", b"hi")]
        lab.tell(req_said(b"PW1", b"P1", b"ho"))
        assert self.replies(lab, "P1") == [b"ho"]

    def test_one_task_at_a_time(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1")
        self.ask(lab, "P2")
        assert len(lab.plain_tasks["PW1"]) == 1
        lab.tell(req_said(b"PW1", b"P1", b"ho"))
        assert len(lab.plain_tasks["PW1"]) == 2

    def test_one_that_does_not_answer_in_time_is_late(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1", b"hi")
        lab.tell(req_ready(b"PW2"))
        lab.wait(1.9)
        assert not lab.plain_tasks["PW2"]
        lab.wait(0.2)
        assert lab.plain_tasks["PW2"] == [(b"P1", b"hi")]

    def test_a_late_answer_is_void_but_its_worker_is_ready_again(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1", b"hi")
        lab.tell(req_ready(b"PW2"))
        lab.wait(2.1)
        lab.tell(req_said(b"PW1", b"P1", b"too late"))
        lab.tell(req_said(b"PW2", b"P1", b"in time"))
        assert self.replies(lab, "P1") == [b"in time"]
        assert lab.fenced == [("PW1", "P1/1", "P1", "")]
        self.ask(lab, "P2", b"next")
        assert lab.plain_tasks["PW1"][-1] == (b"P2", b"next")

    def test_one_that_was_late_once_is_not_lost_for_it_later(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1", b"hi")
        lab.wait(2.1)
        lab.tell(req_said(b"PW1", b"P1", b"too late"))
        lab.wait(2.1)
        lab.tell(req_said(b"PW1", b"P1", b"too late"))
        lab.wait(1)
        lab.tell(req_said(b"PW1", b"P1", b"in time"))
        lab.wait(70)
        assert lab.core.outbox.counts["workers_lost"] == 0

    def test_the_late_answer_of_one_that_was_lost_is_fenced(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1", b"hi")
        lab.tell(events.PeerLost(events.Side.WORKER, b"PW1"))
        lab.tell(req_said(b"PW1", b"P1", b"too late"))
        assert self.replies(lab, "P1") == []
        assert lab.fenced == [("PW1", "P1/1", "P1", "")]
        assert lab.plain_tasks["PW1"] == [(b"P1", b"hi")] * 2  # it is not lost, and is given it anew

    def test_one_that_was_lost_is_looked_for_until_it_has_been_away_too_long(self, lab: CoreSystem) -> None:
        lab.tell(req_ready(b"PW1"))  # it has only just spoken
        lab.tell(events.PeerLost(events.Side.WORKER, b"PW1"))
        looked_for_at = []
        began_at = lab.now
        for _ in range(9):
            lab.tell(events.PeersConnected(events.Side.WORKER))  # but it is somebody else
            for _ in range(200):
                lab.wait(0.05)
                if b"PW1" in lab.core.workers.by_peer:
                    looked_for_at.append(lab.now - began_at)
                    lab.tell(events.PeerLost(events.Side.WORKER, b"PW1"))
        assert 50 < looked_for_at[-1] < lab.core.limits.absence_s + 1

    def test_one_that_came_back_without_a_word_is_absent_until_it_speaks(self, lab: CoreSystem) -> None:
        lab.tell(events.PeerLost(events.Side.WORKER, b"PW1"))
        lab.tell(events.PeersConnected(events.Side.WORKER))
        lab.wait(0.1)
        assert state_of(lab.core.workers.by_peer[b"PW1"]) == "absent"
        self.ask(lab, "P1", b"hi")
        lab.tell(req_said(b"PW1", b"P1", b"ho"))
        assert self.replies(lab, "P1") == [b"ho"]
        assert state_of(lab.core.workers.by_peer[b"PW1"]) == "free"

    def test_an_answer_for_another_client_is_void(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1")
        lab.tell(req_said(b"PW1", b"P9", b"wrong"))
        assert not lab.plain_replies["P9"] and not lab.plain_replies["P1"]

    def test_a_client_that_asks_anew_never_gets_the_answer_to_what_it_asked_before(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1", b"old")
        self.ask(lab, "P1", b"new", is_replaced=True)
        lab.tell(req_said(b"PW1", b"P1", b"to old"))
        lab.tell(req_said(b"PW1", b"P1", b"to new"))
        assert self.replies(lab, "P1") == [b"to new"]

    def test_a_client_that_comes_back_without_a_word_gets_its_answer(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1", b"hi")
        lab.tell(events.PeerLost(events.Side.CLIENT, b"P1"))
        lab.tell(req_said(b"PW1", b"P1", b"ho"))
        assert self.replies(lab, "P1") == []
        lab.tell(events.PeersConnected(events.Side.CLIENT))
        lab.wait(0.5)
        assert self.replies(lab, "P1") == [b"ho"]

    @pytest.mark.parametrize("pause_s", [0.0, SWEEP_S], ids=["", "in the step of a sweep"])
    def test_a_client_that_comes_back_without_a_word_after_long_gets_its_answer(
        self, lab: CoreSystem, pause_s: float
    ) -> None:
        """What it asked runs on although it was away for longer than absences are remembered."""
        lab.worker("W1", services=(DEFAULT_SERVICE,))
        lab.lose_worker("PW1")
        self.ask(lab, "P1", b"1")
        lab.tell(events.PeerLost(events.Side.CLIENT, b"P1"))
        lab.tell(events.PeersConnected(events.Side.CLIENT))
        lab.wait(70, "W1")
        lab.now += pause_s
        lab.answer_all("W1")
        assert self.replies(lab, "P1") == [b"done 1"]

    def test_one_that_has_got_its_answer_without_a_word_is_forgotten_in_the_end(self, lab: CoreSystem) -> None:
        """Nobody tells that it leaves: of a connection that has said nothing, a ROUTER does not know whose it was."""
        self.test_a_client_that_comes_back_without_a_word_gets_its_answer(lab)
        lab.wait(70)
        assert not lab.core.clients.by_peer and not lab.core.clients.absent

    def test_a_client_whose_identity_another_may_have_gets_nothing(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1", b"hi")
        lab.tell(events.IdentityUncertain(b"P1", True))
        lab.tell(req_said(b"PW1", b"P1", b"ho"))
        lab.wait(1)
        assert self.replies(lab, "P1") == []
        assert lab.core.outbox.counts["clients_uncertain"] == 1

    def test_it_gets_its_answer_however_long_that_is_uncertain(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1")
        lab.tell(events.PeerLost(events.Side.CLIENT, b"P1"))
        lab.tell(req_said(b"PW1", b"P1", b"first"))
        lab.tell(events.PeersConnected(events.Side.CLIENT))
        lab.wait(1)
        assert self.replies(lab, "P1") == [b"first"]
        self.ask(lab, "P1", b"again")
        lab.tell(events.IdentityUncertain(b"P1", True))
        lab.tell(req_said(b"PW1", b"P1", b"second"))
        lab.wait(10)
        lab.tell(events.IdentityUncertain(b"P1", False))
        assert self.replies(lab, "P1") == [b"first", b"second"]

    def test_it_is_not_forgotten_while_a_reply_is_withheld_from_it(self, lab: CoreSystem) -> None:
        """Found by the simulation: it was back without a word, and waited for ever."""
        self.ask(lab, "P1", b"hi")
        lab.tell(events.PeerLost(events.Side.CLIENT, b"P1"))
        lab.tell(events.IdentityUncertain(b"P1", True))
        lab.tell(req_said(b"PW1", b"P1", b"ho"), events.PeersConnected(events.Side.CLIENT))
        lab.wait(70)
        lab.tell(events.IdentityUncertain(b"P1", False))
        lab.wait(1)
        assert self.replies(lab, "P1") == [b"ho"]

    def test_it_gets_its_answer_when_its_identity_is_certain_again(self, lab: CoreSystem) -> None:
        self.test_a_client_whose_identity_another_may_have_gets_nothing(lab)
        lab.tell(events.IdentityUncertain(b"P1", False))
        assert self.replies(lab, "P1") == [b"ho"]

    def test_nor_does_the_other_get_it_who_asks_then(self, lab: CoreSystem) -> None:
        self.test_a_client_whose_identity_another_may_have_gets_nothing(lab)
        self.ask(lab, "P1", b"mine", is_replaced=True)
        lab.tell(events.IdentityUncertain(b"P1", False))
        lab.tell(req_said(b"PW1", b"P1", b"yours"))
        assert self.replies(lab, "P1") == [b"yours"]

    def test_nor_one_that_is_away_and_may_be_another_when_it_is_back(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1", b"hi")
        lab.tell(events.PeerLost(events.Side.CLIENT, b"P1"))
        lab.tell(
            events.IdentityUncertain(b"P1", True),
            req_said(b"PW1", b"P1", b"ho"),
            events.PeersConnected(events.Side.CLIENT),
        )
        lab.wait(1)
        assert self.replies(lab, "P1") == []
        lab.tell(events.IdentityUncertain(b"P1", False))
        assert self.replies(lab, "P1") == [b"ho"]

    def test_an_anonymous_client_never_comes_back(self, lab: CoreSystem) -> None:
        lab.tell(plain_said(b"\0abcd", (b"",), b"x"))
        lab.tell(events.PeerLost(events.Side.CLIENT, b"\0abcd"))
        assert lab.core.requests.count == 0
        assert not lab.core.clients.by_peer

    def test_an_idle_worker_that_comes_back_without_a_word_is_used_again(self, lab: CoreSystem) -> None:
        lab.lose_worker("PW1")
        self.ask(lab, "P1", b"hi")
        assert not lab.plain_tasks["PW1"]
        lab.tell(events.PeersConnected(events.Side.WORKER))
        lab.wait(0.5)
        assert lab.plain_tasks["PW1"] == [(b"P1", b"hi")]

    def test_a_worker_that_came_back_while_it_owes_an_answer_is_used_again_however_long_it_may_owe_it(self) -> None:
        """Its answer may be lost with its connection: then it waits for a task, and says nothing."""
        system = CoreSystem(answer_timeout_s=100.0)
        system.tell(req_ready(b"PW1"))
        self.ask(system, "P1", b"hi")
        assert system.plain_tasks.pop("PW1") == [(b"P1", b"hi")]
        system.lose_worker("PW1")
        system.tell(events.PeersConnected(events.Side.WORKER))
        system.wait(90)
        assert not system.plain_tasks["PW1"]
        system.wait(11)
        assert [body for _, body in system.plain_tasks["PW1"]] == [b"hi"]

    def test_a_plain_client_and_a_native_worker(self) -> None:
        system = CoreSystem()
        system.worker("W1", services=(DEFAULT_SERVICE,))
        self.ask(system, "P1", b"5")
        system.answer_all("W1")
        assert self.replies(system, "P1") == [b"done 5"]

    def test_a_native_client_and_a_plain_worker(self, lab: CoreSystem) -> None:
        lab.client()
        lab.ask(1, service=DEFAULT_SERVICE)
        ((frame, body),) = lab.plain_tasks["PW1"]
        assert frame.startswith(b"C1#") and body == b"1"
        lab.tell(req_said(b"PW1", frame, b"ho"))
        assert lab.answers() == [(1, Status.OK)]
