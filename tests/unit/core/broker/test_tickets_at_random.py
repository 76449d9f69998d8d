"""Tickets under everything at once, in any order: two clients that come and go, a slow disk, and a broker that crashes."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cbw.core.broker.events import PeerLost, Side
from cbw.core.messages import Answer, ClientHello, Collect, Message, Start, Started, Status

from .journaled import Journaled
from .system import client_said

CLIENTS = ("C1", "C2")
TICKETS = ("t", "u")
BODIES = (b"1", b"2")
clients, tickets, bodies = map(st.sampled_from, (CLIENTS, TICKETS, BODIES))


class Machine(RuleBasedStateMachine):
    """Remembers what clients were told, which must stay true, and what they were not, which they ask again."""

    def __init__(self) -> None:
        super().__init__()
        self.system = Journaled(is_slow=True)
        self.system.store()
        self.asked: dict[str, dict[int, Start | Collect]] = {name: {} for name in CLIENTS}
        self.owned: dict[str, bytes] = {}
        """The bodies of the requests of which somebody was told that they are started."""
        self.answered: dict[str, bytes] = {}
        self.connections = 0
        self.peers: dict[str, str] = {}
        self.keys = 0
        for name in CLIENTS:
            self.connect(name)
        self.work()

    def tell(self, name: str, *said: Message) -> None:
        self.system.tell(client_said(self.peers[name].encode(), said))

    @rule(name=clients)
    def connect(self, name: str) -> None:
        """Over a new connection, perhaps before the loss of the old one is noticed: everything is sent again."""
        self.connections += 1
        self.peers[name] = f"{name}.{self.connections}"
        self.tell(name, ClientHello(name, "b"), *self.asked[name].values())

    @rule(name=clients)
    def lose(self, name: str) -> None:
        self.system.tell(PeerLost(Side.CLIENT, self.peers[name].encode()))
        self.system.take(self.peers[name])
        self.connect(name)

    @rule(name=clients, ticket=tickets, body=bodies)
    def start(self, name: str, ticket: str, body: bytes) -> None:
        self.keys += 1
        self.asked[name][self.keys] = Start(self.keys, ticket, "s", body)
        self.tell(name, self.asked[name][self.keys])

    @rule(name=clients, ticket=tickets)
    def collect(self, name: str, ticket: str) -> None:
        self.keys += 1
        self.asked[name][self.keys] = Collect(self.keys, ticket)
        self.tell(name, self.asked[name][self.keys])

    @rule(count=st.integers(1, 3))
    def store(self, count: int) -> None:
        self.system.store(count)

    @rule()
    def work(self) -> None:
        self.system.worker("W1", boot=str(self.system.boots))
        self.system.answer_all("W1")

    @rule()
    def crash(self) -> None:
        self.system.crash()
        for name in CLIENTS:
            self.connect(name)

    @invariant()
    def listen(self) -> None:
        for name in CLIENTS:
            for message in self.system.take(self.peers[name]):
                if isinstance(message, Started | Answer):
                    asked = self.asked[name].pop(message.id, None)
                    if asked is not None:
                        self.heard(asked, message)

    def heard(self, asked: Start | Collect, message: Started | Answer) -> None:
        ticket = asked.ticket
        if isinstance(message, Started):
            assert isinstance(asked, Start) and message.is_durable
            assert self.owned.setdefault(ticket, asked.body) == asked.body, "two requests have one ticket"
        elif isinstance(asked, Start):
            assert message.status is Status.TICKET_TAKEN
            assert self.owned.get(ticket) != asked.body, "its own request is in its way"
        elif message.status is Status.UNKNOWN_TICKET:
            assert ticket not in self.owned, "a started request is lost"
        else:
            assert message.status is Status.OK
            assert self.answered.setdefault(ticket, message.body) == message.body, "two answers"
            assert ticket not in self.owned or message.body == b"done " + self.owned[ticket]

    def teardown(self) -> None:
        """When all is well again everything that was started is answered, and nobody waits."""
        self.system.is_slow = False
        self.system.store()
        for name in CLIENTS:
            self.lose(name)
        self.system.wait(10.0)
        self.listen()
        for _ in range(4):
            self.work()
        self.listen()
        for ticket in self.owned:
            self.collect("C1", ticket)
            self.listen()
            assert ticket in self.answered, "a started request is not answered"
        waiting = [asked for each in self.asked.values() for asked in each.values()]
        assert waiting == []


TestTickets = pytest.mark.slow(Machine.TestCase)
TestTickets.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
