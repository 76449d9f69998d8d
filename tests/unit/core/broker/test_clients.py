"""Clients of CBW/1 that come, go away, come back and do not read, and the answers kept for them."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.messages import Status
from cbw.wire import native
from tests.unit.core.broker.system import CoreSystem, client_said, plain_said


class TestClients:
    def test_a_stranger_is_asked_for_its_hello(self, system: CoreSystem) -> None:
        system.tell(client_said(b"X", [messages.Request(1, "s", b"")]))
        assert system.said("X", messages.HelloAgain)
        assert system.core.requests.count == 0

    def test_a_request_before_a_hello_that_is_refused_is_accepted(self, system: CoreSystem) -> None:
        system.worker()
        hello, bad = messages.ClientHello("C2", "b"), messages.ClientHello("", "b")
        system.tell(client_said(b"C2", [hello, messages.Request(1, "s", b"1"), bad]))
        system.answer_all("W1")
        assert system.answers("C2") == [(1, Status.OK)]

    def test_nothing_is_kept_for_a_plain_client_on_the_connection_of_another(self, system: CoreSystem) -> None:
        peer = b"\0anon"
        system.tell(client_said(peer, [messages.ClientHello("C2", "b")]))
        system.tell(plain_said(peer, (b"",), b"x"))
        system.tell(events.Undelivered(events.Side.CLIENT, peer, [messages.Answer(1, Status.OK, b"")]))
        assert system.core.requests.parked.bytes == 0

    def test_a_request_sent_again_joins_the_running_one(self, system: CoreSystem) -> None:
        system.worker("W1", concurrency=2)
        system.ask(1)
        system.client("C1", peer="C1 again")
        system.ask(1, client="C1 again")
        assert len(system.take_tasks("W1")) == 1
        assert system.core.outbox.counts["requests_joined"] == 1

    def test_an_answer_that_came_while_it_was_away_is_kept(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        system.tell(events.PeerLost(events.Side.CLIENT, b"C1"))
        system.answer_all("W1")
        system.client("C1", peer="back")
        system.ask(1, client="back")
        assert system.answers("back") == [(1, Status.OK)]
        assert system.bodies("W1") == []

    def test_an_answer_that_could_not_be_delivered_is_kept_too(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        system.answer_all("W1")
        answers = system.take("C1")
        system.tell(
            events.Undelivered(events.Side.CLIENT, b"C1", [x for x in answers if isinstance(x, messages.Answer)])
        )
        system.client("C1", peer="back")
        system.ask(1, client="back")
        assert system.answers("back") == [(1, Status.OK)]

    def test_what_it_does_not_fetch_when_it_is_back_is_dropped(self, system: CoreSystem) -> None:
        system.worker()
        system.ask(1)
        system.tell(events.PeerLost(events.Side.CLIENT, b"C1"))
        assert b"C1" not in system.core.clients.by_peer
        system.answer_all("W1")
        assert system.core.requests.parked.bytes
        system.client(peer="C1b")
        system.wait(2.5, "W1")
        assert system.core.requests.parked.bytes
        system.wait(1, "W1")
        assert not system.core.requests.parked.bytes
        assert not system.core.clients.needs_sweep

    def test_one_that_did_not_read_for_long_is_asked_for_its_hello(self, system: CoreSystem) -> None:
        """Or it would wait for the answers that were dropped."""
        system.take("C1")
        system.tell(events.PeerUnread(events.Side.CLIENT, b"C1", [messages.Answer(1, Status.OK, b"")], native.CLIENT))
        assert system.take("C1") == [messages.HelloAgain()]

    def test_one_that_stays_away_is_forgotten(self, system: CoreSystem) -> None:
        system.ask(1)
        system.tell(events.PeerLost(events.Side.CLIENT, b"C1"))
        system.wait(62)
        assert system.core.requests.count == 0
        system.worker("W1")
        assert system.bodies("W1") == []

    def test_goodbye_forgets_it_at_once(self, system: CoreSystem) -> None:
        system.ask(1)
        system.tell(client_said(b"C1", [messages.Goodbye()]))
        assert system.core.requests.count == 0

    def test_answers_go_to_who_asked(self, system: CoreSystem) -> None:
        system.client("C2")
        system.worker("W1", concurrency=2)
        system.ask(1, client="C1")
        system.ask(1, client="C2")
        first, second = system.take_tasks("W1")
        system.answer("W1", second)
        assert (system.answers("C1"), system.answers("C2")) == ([], [(1, Status.OK)])
        system.answer("W1", first)
        assert system.answers("C1") == [(1, Status.OK)]

    def test_the_end_of_the_connection_that_it_has_left_does_not_make_it_absent(self, system: CoreSystem) -> None:
        system.client("C2", peer="P1")
        system.client("C2", peer="P2")
        system.tell(events.PeerLost(events.Side.CLIENT, b"P1"))
        system.worker()
        system.ask(1, client="P2")
        system.answer_all("W1")
        assert system.answers("P2") == [(1, Status.OK)]

    def test_one_that_calls_itself_otherwise_is_another(self, system: CoreSystem) -> None:
        system.client("C2", peer="P")
        system.ask(1, client="P")
        system.client("C3", peer="P")
        system.worker()
        assert system.take_tasks("W1") == [], "nobody waits for it any more"
        assert "client_gone" in system.events()

    def test_an_answer_for_one_that_cannot_be_reached_is_kept(self, system: CoreSystem) -> None:
        system.worker()
        system.ask(1)
        tasks = system.take_tasks("W1")
        system.take("C1")
        system.tell(events.Undelivered(events.Side.CLIENT, b"C1", []))
        system.answer("W1", *tasks)
        assert system.answers() == []
        system.client(peer="again")
        system.ask(1, client="again")
        assert system.answers("again") == [(1, Status.OK)]

    def test_what_one_that_does_not_read_has_missed_is_counted(self, system: CoreSystem) -> None:
        order = [messages.Answer(1, Status.OK, b""), messages.Answer(2, Status.OK, b"")]
        system.tell(events.PeerUnread(events.Side.CLIENT, b"C1", order, native.CLIENT))
        assert system.core.outbox.counts["messages_dropped"] == 2
