"""What keys allow: as whom a client is let in, which services it may ask, and a worker serve."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.broker.events import PeerLost, Side
from cbw.core.journal_records import Asker
from cbw.core.key import ROLES, ROLES_OF_PORT, Key
from cbw.core.messages import Answer, Refusal, Refused, Status, Welcome
from cbw.wire import lab

from .system import CoreSystem, client_said, plain_said, req_ready


class Guarded(CoreSystem):
    """``keys`` are what the connections have shown, by their names; who is not there is not allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, Key] = {}
        self.core.use_keys(self._key_of, self._key_of)

    def _key_of(self, peer: bytes) -> Key | None:
        return self.keys.get(peer.decode())

    def show(self, peer: str, role: str, name: str, *services: str) -> None:
        self.keys[peer] = Key(role, name.ljust(40, "."), name, services)


@pytest.fixture
def system() -> Guarded:
    return Guarded()


def refusal(system: Guarded, peer: str) -> str:
    (refused,) = [message for message in system.take(peer) if isinstance(message, Refused)]
    assert refused.reason is Refusal.KEY
    return refused.text


def test_an_id_belongs_to_the_key_that_used_it_first(system: Guarded) -> None:
    system.show("P1", "client", "anna")
    system.client("C1", peer="P1")
    assert system.said("P1", Welcome)
    system.tell(PeerLost(Side.CLIENT, b"P1"))
    system.show("P2", "client", "eve")
    system.client("C1", peer="P2")  # she even knows its boot
    assert refusal(system, "P2") == "the id 'C1' belongs to another key"
    system.show("P3", "client", "anna")
    system.client("C1", peer="P3")
    assert system.said("P3", Welcome)


def test_the_answers_of_one_that_is_away_are_for_its_key_alone(system: Guarded) -> None:
    system.show("P1", "client", "anna")
    system.show("W1", "worker", "w")
    system.client("C1", peer="P1")
    system.worker("W1")
    system.ask(1, client="P1")
    system.tell(PeerLost(Side.CLIENT, b"P1"))
    system.answer_all("W1")
    system.show("P2", "client", "eve")
    system.tell(client_said(b"P2", [messages.ClientHello("C1", "b"), messages.Request(1, "s", b"")]))
    assert not any(isinstance(message, Answer) for message in system.take("P2"))
    system.show("P3", "client", "anna")
    system.tell(client_said(b"P3", [messages.ClientHello("C1", "b"), messages.Request(1, "s", b"")]))
    assert system.answers("P3") == [(1, Status.OK)]


def test_a_key_may_ask_its_services_only(system: Guarded) -> None:
    system.show("C1", "client", "anna", "s")
    system.show("W1", "worker", "w")
    system.client()
    system.worker(services=("s", "t"))
    system.take("C1")
    system.tell(client_said(b"C1", [messages.Request(1, "s", b"1"), messages.Request(2, "t", b"2")]))
    assert system.bodies("W1") == [1]
    assert system.answers() == [(2, Status.NOT_ALLOWED)]
    system.tell(client_said(b"C1", [messages.Start(3, "ticket", "t", b"")]))
    assert system.answers() == [(3, Status.NOT_ALLOWED)] and not system.core.tickets.rows


def test_only_an_admin_controls_the_broker(system: Guarded) -> None:
    system.show("C1", "client", "anna")
    system.show("C2", "admin", "root")
    for name in ("C1", "C2"):
        system.client(name)
        system.take(name)
        system.tell(client_said(name.encode(), [messages.Request(1, "cbw.dead.list", b"{}")]))
    assert system.answers("C1") == [(1, Status.NOT_ALLOWED)]
    assert system.answers("C2") == [(1, Status.OK)]


@pytest.mark.parametrize(("asked", "code"), [("s", b"200"), ("t", b"404"), ("none", b"404"), ("cbw.status", b"404")])
def test_a_key_learns_whether_its_services_are_served(system: Guarded, asked: str, code: bytes) -> None:
    """Of all others it learns nothing: a service that it may not ask is as one that is not there."""
    system.show("C1", "client", "anna", "s")
    system.show("W1", "worker", "w")
    system.client()
    system.worker(services=("s", "t"))
    system.take("C1")
    system.tell(client_said(b"C1", [messages.Request(1, "mmi.service", asked.encode())]))
    (answer,) = [message for message in system.take("C1") if isinstance(message, Answer)]
    assert (answer.status, answer.body) == (Status.OK, code)


def test_a_plain_client_learns_of_the_services_of_its_key_only(system: Guarded) -> None:
    system.show("M1", "client", "anna", "s")
    system.show("W1", "worker", "w")
    system.worker(services=("s", "t"))
    for number, service in enumerate((b"s", b"t")):
        system.tell(plain_said(b"M1", (b"%d" % number,), service, service="mmi.service"))
    assert [answer.body for answer in system.plain_replies["M1"]] == [b"200", b"404"]


def test_a_key_may_serve_its_services_only(system: Guarded) -> None:
    system.show("W1", "worker", "w", "s")
    system.worker("W1", services=("s", "t"))
    assert refusal(system, "W1") == "the key w is not good for the service 't'" and not system.core.workers.by_peer
    system.worker("W1", services=("s",))
    assert system.said("W1", Welcome)


def test_a_plain_worker_serves_the_nameless_service(system: Guarded) -> None:
    system.show("R1", "worker", "w", "s")
    system.tell(req_ready(b"R1"))
    assert not system.core.workers.by_peer and "bad_message" in system.events()
    system.show("R2", "worker", "v", "")
    system.tell(req_ready(b"R2"))
    assert list(system.core.workers.by_peer) == [b"R2"]


def test_a_plain_clients_key_holds_too(system: Guarded) -> None:
    system.show("R1", "client", "anna", "other")
    system.tell(plain_said(b"R1", (b"",), b"1"))
    (answer,) = system.plain_replies["R1"]
    assert answer.status is Status.NOT_ALLOWED
    system.show("R2", "client", "bert")
    system.tell(plain_said(b"R2", (b"",), b"2"))
    system.show("R2", "client", "eve")
    system.tell(plain_said(b"R2", (b"",), b"3", is_replaced=True))
    assert [entry.request.body for entry in system.core.clients.by_peer[b"R2"].entries.values()] == [b"2"]


def test_one_that_is_away_is_known_by_its_key(system: Guarded) -> None:
    """It may be a client of an earlier broker, that this one knows from its journal alone."""
    dialect = client_said(b"", []).dialect
    system.core.clients.restore(Asker("C1", "b", b"", dialect.name, key="anna"), dialect)
    system.core.clients.restore(Asker("", "", b"R1", lab.CLIENT.name, key="anna"), lab.CLIENT)
    system.show("P1", "client", "eve")
    system.client("C1", peer="P1")
    assert refusal(system, "P1") == "the id 'C1' belongs to another key"
    system.show("R1", "client", "eve")
    system.tell(plain_said(b"R1", (b"",), b"1"))
    assert not system.core.clients.by_peer[b"R1"].entries
    system.show("P2", "client", "anna")
    system.client("C1", peer="P2")
    system.show("R1", "client", "anna")
    system.tell(plain_said(b"R1", (b"",), b"1"))
    assert system.said("P2", Welcome) and system.core.requests.count == 1


def test_a_journal_outlives_the_use_of_keys(system: Guarded) -> None:
    """Whoever comes first with a key gets what was asked without one; and without keys everybody is let in."""
    dialect = client_said(b"", []).dialect
    system.core.clients.restore(Asker("C1", "b", b"", dialect.name), dialect)
    system.show("P1", "client", "anna")
    system.client("C1", peer="P1")
    assert system.said("P1", Welcome)
    open_system = CoreSystem()
    open_system.core.clients.restore(Asker("C1", "b", b"", dialect.name, key="anna"), dialect)
    open_system.client("C1", peer="P1")
    assert open_system.said("P1", Welcome)


def test_a_key_that_was_taken_back(system: Guarded) -> None:
    system.client("C1")
    assert refusal(system, "C1") == "its key is not allowed any more"
    system.worker("W1")
    assert refusal(system, "W1") == "its key is not allowed any more"
    system.tell(plain_said(b"R1", (b"",), b"1"), req_ready(b"R2"))
    assert not system.core.clients.by_peer and not system.core.workers.by_peer


def test_the_keys_name_stands_in_the_trace(system: Guarded) -> None:
    system.show("C1", "client", "anna")
    system.show("W1", "worker", "w")
    system.client()
    system.worker()
    system.ask(1)
    told = {record.event: record.fields for record in system.records if record.fields}
    assert told == {"client_hello": {"key": "anna"}, "worker_ready": {"key": "w"}, "accepted": {"key": "anna"}}


def test_ports_are_for_roles() -> None:
    opens = {role: {port for port in ROLES_OF_PORT if Key(role, "", "x").opens(port)} for role in ROLES}
    assert opens["client"] == opens["admin"] == {"clients", "records", "lines of text"}
    assert opens["worker"] == {"workers", "records", "lines of text"}
    assert opens["broker"] == opens["logger"] == {"records", "lines of text"}
