"""An id belongs to one living peer, and hellos that cannot be are refused."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.broker.workers import SERVICES_MAX
from cbw.core.identities import NAME_CHARS_MAX
from cbw.core.messages import Refusal
from tests.unit.core.broker.system import CoreSystem, client_said


class TestDuplicateIds:
    def refusal(self, system: CoreSystem, peer: str) -> Refusal | None:
        return next((x.reason for x in system.take(peer) if isinstance(x, messages.Refused)), None)

    def test_a_second_living_worker_is_refused(self, system: CoreSystem) -> None:
        system.worker("W1", boot="one")
        system.worker("W1", boot="two", peer="other")
        assert self.refusal(system, "other") is Refusal.DUPLICATE_ID
        system.ask(1)
        assert system.bodies("W1") == [1]

    def test_it_is_accepted_once_the_first_is_gone(self, system: CoreSystem) -> None:
        system.worker("W1", boot="one")
        system.lose_worker("W1")
        system.worker("W1", boot="two", peer="other")
        assert self.refusal(system, "other") is None

    def test_the_same_worker_on_another_connection_replaces_itself(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        system.worker("W1", peer="other")
        assert [task.attempt for task in system.take_tasks("other")] == [2]

    def test_a_second_living_client_is_refused(self, system: CoreSystem) -> None:
        system.client("C1", boot="two", peer="other")
        assert self.refusal(system, "other") is Refusal.DUPLICATE_ID

    def test_a_new_client_takes_the_id_of_one_that_is_away(self, system: CoreSystem) -> None:
        system.ask(1)
        system.tell(events.PeerLost(events.Side.CLIENT, b"C1"))
        system.client("C1", boot="two", peer="other")
        assert self.refusal(system, "other") is None
        system.worker("W1")
        assert system.bodies("W1") == []  # what its forerunner asked is nobody's

    @pytest.mark.parametrize("name", ["", "x" * (NAME_CHARS_MAX + 1)])
    def test_a_bad_id_is_refused(self, system: CoreSystem, name: str) -> None:
        system.client(name, peer="x")
        assert self.refusal(system, "x") is Refusal.BAD_HELLO
        system.worker(name, peer="y")
        assert self.refusal(system, "y") is Refusal.BAD_HELLO

    @pytest.mark.parametrize("boot", ["", "x" * (NAME_CHARS_MAX + 1)])
    def test_so_is_a_bad_boot(self, system: CoreSystem, boot: str) -> None:
        system.client("C2", boot=boot, peer="x")
        assert self.refusal(system, "x") is Refusal.BAD_HELLO
        system.worker("W1", boot=boot, peer="y")
        assert self.refusal(system, "y") is Refusal.BAD_HELLO

    def test_and_nothing_after_it_is_heard(self, system: CoreSystem) -> None:
        system.tell(client_said(b"C2", [messages.ClientHello("", "b"), messages.Request(1, "s", b"")]))
        (refused,) = system.take("C2")
        assert isinstance(refused, messages.Refused)
        assert not system.core.requests.count

    def test_so_is_a_worker_of_too_many_services(self, system: CoreSystem) -> None:
        system.worker("W1", services=tuple(f"s{number}" for number in range(SERVICES_MAX + 1)))
        assert self.refusal(system, "W1") is Refusal.BAD_HELLO
        assert not system.core.requests.dispatcher.services
