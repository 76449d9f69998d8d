"""The limits of the broker's memory: requests, bodies, kept answers, names and timers."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.broker.dispatch import TIMERS_MIN
from cbw.core.broker.parked_replies import ANSWER_BYTES
from cbw.core.broker.worker_table import RECENTLY_LOST_MAX
from cbw.core.identities import NAME_CHARS_MAX
from cbw.core.messages import DEFAULT_SERVICE, Status
from tests.unit.core.broker.system import CoreSystem, client_said, plain_said, worker_said


class TestLimits:
    def test_requests(self) -> None:
        system = CoreSystem(requests_max=2)
        system.client()
        system.ask(1, 2, 3)
        assert system.answers() == [(3, Status.BUSY)]
        system.worker("W1", concurrency=2)
        system.answer_all("W1")
        system.take("C1")
        system.ask(4)
        assert system.bodies("W1") == [4]

    def test_bytes(self) -> None:
        system = CoreSystem(requests_bytes_max=10)
        system.client()
        system.tell(client_said(b"C1", [messages.Request(1, "s", b"x" * 8), messages.Request(2, "s", b"x" * 8)]))
        assert system.answers() == [(2, Status.BUSY)]

    def test_names_of_lost_workers(self, system: CoreSystem) -> None:
        for number in range(RECENTLY_LOST_MAX + 10):
            system.worker(f"W{number}")
            system.lose_worker(f"W{number}")
        assert len(system.core.workers.table._recently_lost) == RECENTLY_LOST_MAX

    def test_a_body(self) -> None:
        system = CoreSystem(body_bytes_max=10)
        system.client()
        system.tell(client_said(b"C1", [messages.Request(1, "s", b"x" * 11)]))
        assert system.answers() == [(1, Status.TOO_BIG)]

    def test_plain_clients_feel_back_pressure(self) -> None:
        system = CoreSystem(requests_max=2)
        for number in range(4):
            system.tell(plain_said(b"P%d" % number, (b"",), b"x"))
        assert [type(order) for order in system.others] == [events.PauseClients]
        system.worker("W1", services=(DEFAULT_SERVICE,), concurrency=4)
        system.answer_all("W1")
        assert [type(order) for order in system.others] == [events.PauseClients, events.ResumeClients]

    def test_answers_for_clients_that_are_away(self) -> None:
        system = CoreSystem(parked_bytes_max=2 * (ANSWER_BYTES + 100))
        for name in ("C1", "C2"):
            system.client(name)
        system.worker("W1", concurrency=3)
        system.ask(1, client="C1")
        system.ask(2, 3, client="C2")
        for name in ("C1", "C2"):
            system.tell(events.PeerLost(events.Side.CLIENT, name.encode()))
        system.events()
        system.answer_all("W1")
        assert system.core.requests.parked.bytes <= 2 * (ANSWER_BYTES + 100)
        assert system.core.outbox.counts["answers_dropped"] == 1
        assert [record for record in system.events() if record == "answer_dropped"]
        system.client("C2", peer="C2 again")
        system.ask(2, 3, client="C2 again")
        assert system.answers("C2 again") == [(2, Status.OK), (3, Status.OK)]
        system.client("C1", peer="C1 again")
        system.ask(1, client="C1 again")  # the oldest had to go, so it runs again
        assert system.answers("C1 again") == []
        system.answer_all("W1")
        assert system.answers("C1 again") == [(1, Status.OK)]
        assert system.core.requests.parked.bytes == 0

    def test_an_answer_that_fits_nowhere(self) -> None:
        system = CoreSystem(parked_bytes_max=10)
        system.tell(plain_said(b"P1", (b"",), b"1"))
        system.tell(events.PeerLost(events.Side.CLIENT, b"P1"))
        system.worker("W1", services=(DEFAULT_SERVICE,))
        system.answer_all("W1")
        assert (system.core.requests.parked.bytes, system.core.outbox.counts["answers_dropped"]) == (0, 1)

    def test_what_is_kept_is_forgotten_with_its_client(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        system.tell(events.PeerLost(events.Side.CLIENT, b"C1"))
        system.answer_all("W1")
        assert system.core.requests.parked.bytes > 0
        system.wait(62, "W1")
        assert system.core.requests.parked.bytes == 0

    def test_a_service_name_that_is_too_long(self, system: CoreSystem) -> None:
        system.ask(1, service="x" * (NAME_CHARS_MAX + 1))
        assert system.answers() == [(1, Status.BAD_REQUEST)]

    def test_services_without_work_or_workers_are_not_kept(self, system: CoreSystem) -> None:
        for number in range(10):
            system.ask(number, service=f"s{number}")
        for number in range(10):
            system.tell(client_said(b"C1", [messages.Cancel(number)]))
        assert not system.core.requests.dispatcher.services, "though no worker ever came"
        for number in range(10):
            system.worker(f"W{number}", services=(f"s{number}",))
            system.lose_worker(f"W{number}")
        assert not system.core.requests.dispatcher.services

    def test_what_has_ended_keeps_no_large_body(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(0)  # the worker is busy, so what follows waits, and has a timer
        for number in range(1, 50):
            request = messages.Request(number, "s", bytes(100_000), 3600.0)
            system.tell(client_said(b"C1", [request]))
            system.tell(client_said(b"C1", [messages.Cancel(number)]))
        timers = [entry for *_, entry in system.core.requests.dispatcher._deadlines]
        assert sum(len(entry.request.body) for entry in timers) == 0

    def test_one_that_is_returned_again_and_again_has_one_timer(self, system: CoreSystem) -> None:
        system.ask(1, ttl=9.0)
        for _ in range(50):
            system.worker(credit=1)
            (task,) = system.take_tasks("W1")
            system.tell(worker_said(b"W1", [messages.Credit(0), messages.Returned([task.id]), messages.Goodbye()]))
        assert len(system.core.requests.dispatcher._deadlines) == 1
        system.wait(10)
        assert system.answers() == [(1, Status.EXPIRED)]

    def test_timers_are_as_many_as_requests_that_wait(self, system: CoreSystem) -> None:
        for number in range(20_000):
            system.tell(client_said(b"C1", [messages.Request(number, "s", b"", 3600.0), messages.Cancel(number - 100)]))
        assert len(system.core.requests.dispatcher._deadlines) <= TIMERS_MIN + 1
