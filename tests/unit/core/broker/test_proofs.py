"""Who says another's id and boot goes on with its session only with the proof that it began with."""

from __future__ import annotations

import msgspec
import pytest

from cbw.core import catalogue, messages
from cbw.core.broker import events
from cbw.core.identities import NO_PROOF
from cbw.core.journal_records import Asker, RequestAccepted
from cbw.core.messages import Refusal, Status
from cbw.wire.journal import decode_batch, encode_batch

from .journaled import Journaled
from .system import CoreSystem, client_said, worker_said

PROOF, OTHER = b"p" * 16, b"q" * 16
WRONG = [b"", OTHER, PROOF + b"p"]
"""What a stranger may show instead."""


def client_hello(system: CoreSystem, peer: str, proof: bytes) -> None:
    system.tell(client_said(peer.encode(), [messages.ClientHello("C1", "b", proof)]))


def worker_hello(system: CoreSystem, peer: str, proof: bytes, *tasks: int) -> None:
    system.tell(worker_said(peer.encode(), [messages.WorkerHello("W1", "b", ["s"], 1, 1, list(tasks), proof)]))


def was_refused(system: CoreSystem, peer: str, reason: Refusal = Refusal.DUPLICATE_ID) -> bool:
    """Whether the only thing that ``peer`` was told is that its hello is refused."""
    return [message.reason for message in system.take(peer) if isinstance(message, messages.Refused)] == [reason]


@pytest.fixture
def system() -> CoreSystem:
    return CoreSystem()


@pytest.mark.parametrize("shown", WRONG)
def test_a_stranger_gets_nothing_of_a_client_that_is_here(system: CoreSystem, shown: bytes) -> None:
    client_hello(system, "C1", PROOF)
    system.ask(1)
    client_hello(system, "stranger", shown)
    assert was_refused(system, "stranger")
    system.worker("W1")
    system.answer_all("W1")
    assert system.answers("C1") == [(1, Status.OK)]
    assert system.take("stranger") == []


@pytest.mark.parametrize("shown", WRONG)
def test_nor_of_one_that_is_away(system: CoreSystem, shown: bytes) -> None:
    client_hello(system, "C1", PROOF)
    system.ask(1)
    system.tell(events.PeerLost(events.Side.CLIENT, b"C1"))
    client_hello(system, "stranger", shown)
    assert was_refused(system, "stranger")
    client_hello(system, "again", PROOF)
    system.worker("W1")
    system.answer_all("W1")
    assert system.answers("again") == [(1, Status.OK)]


def test_it_is_counted_and_the_trace_says_why(system: CoreSystem) -> None:
    client_hello(system, "C1", PROOF)
    worker_hello(system, "W1", PROOF)
    system.records.clear()
    client_hello(system, "stranger", OTHER)
    worker_hello(system, "stranger", OTHER)
    assert system.core.outbox.counts["hellos_refused"] == 2
    told = [(r.event, r.client or r.worker, r.text) for r in system.records if r.event == catalogue.REFUSED]
    assert told == [(catalogue.REFUSED, name, NO_PROOF) for name in ("C1", "W1")]


@pytest.mark.parametrize("shown", WRONG)
def test_a_worker_keeps_its_place_and_its_tasks(system: CoreSystem, shown: bytes) -> None:
    worker_hello(system, "W1", PROOF)
    system.client("C1")
    system.ask(1)
    worker_hello(system, "stranger", shown)
    assert was_refused(system, "stranger")
    system.answer_all("W1")
    assert system.answers() == [(1, Status.OK)]


def test_peers_of_earlier_versions_have_no_proof_and_come_back_without(system: CoreSystem) -> None:
    client_hello(system, "C1", b"")
    worker_hello(system, "W1", b"")
    client_hello(system, "again", b"")
    worker_hello(system, "again", b"")
    assert system.core.outbox.counts["hellos_refused"] == 0


@pytest.mark.parametrize("proof", [b"p" * 15, b"p" * 65])
def test_a_proof_that_is_too_short_or_too_long_is_refused(system: CoreSystem, proof: bytes) -> None:
    client_hello(system, "C1", proof)
    assert was_refused(system, "C1", Refusal.BAD_HELLO)
    worker_hello(system, "W1", proof)
    assert was_refused(system, "W1", Refusal.BAD_HELLO)


@pytest.mark.parametrize("shown", WRONG)
def test_a_broker_that_reads_a_journal_wants_it_too(shown: bytes) -> None:
    system = Journaled()
    worker_hello(system, "W1", PROOF)
    client_hello(system, "C1", PROOF)
    system.ask(1)
    (task,) = system.take_tasks("W1")
    system.wait(0.1, "W1")
    system.crash()
    client_hello(system, "stranger", shown)
    worker_hello(system, "thief", shown, task.id)
    assert was_refused(system, "stranger") and was_refused(system, "thief")
    client_hello(system, "C1", PROOF)
    worker_hello(system, "W1", PROOF, task.id)
    system.answer("W1", task)
    assert system.answers("C1") == [(1, Status.OK)]


def test_a_stored_answer_is_told_to_nobody_else() -> None:
    system = Journaled()
    client_hello(system, "C1", PROOF)
    system.worker("W1")
    system.ask(1)
    system.answer_all("W1")
    system.crash()
    client_hello(system, "stranger", OTHER)
    assert was_refused(system, "stranger")
    client_hello(system, "C1", PROOF)
    system.ask(1)
    assert system.answers("C1") == [(1, Status.OK)]


def test_who_was_first_without_a_proof_does_not_share_a_session_with_one_that_has(system: CoreSystem) -> None:
    client_hello(system, "stranger", b"")
    worker_hello(system, "thief", b"")
    client_hello(system, "C1", PROOF)
    worker_hello(system, "W1", PROOF)
    assert was_refused(system, "C1") and was_refused(system, "W1")


def test_sessions_of_a_journal_that_an_earlier_version_wrote_go_on() -> None:
    system = Journaled()
    client_hello(system, "C1", PROOF)
    system.ask(1)
    system.wait(0.1)
    for position, data in system.stored.items():
        batch = decode_batch(position, data)
        for record in batch.records:
            if isinstance(record, RequestAccepted):
                record.asker = Asker(*msgspec.structs.astuple(record.asker)[:4])
        system.stored[position] = encode_batch(batch)
    system.crash()
    client_hello(system, "C1", PROOF)
    system.worker("W1")
    system.answer_all("W1")
    assert system.answers("C1") == [(1, Status.OK)]
