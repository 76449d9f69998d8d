"""Identities that another program has taken, all in one step: as after a broker stood still."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.broker import events

from .driven import Broker
from .system import CoreSystem, plain_said

C = b"C1"


def test_a_refusal_does_not_reach_the_program_that_has_the_identity_now() -> None:
    system = CoreSystem(body_bytes_max=10)
    system.tell(
        plain_said(b"R1", (b"",), bytes(20)),
        plain_said(b"R1", (b"",), b"another program's", is_replaced=True),
    )
    assert len(system.plain_replies["R1"]) == 1


def test_who_has_the_identity_of_one_that_waits_is_told_of() -> None:
    system = CoreSystem()
    system.tell(plain_said(b"EXT", (b"",), b"EXT-1"))
    system.tell(plain_said(b"EXT", (b"",), b"EXT-1", is_replaced=True))
    assert [record.client for record in system.records if record.event == "identity_taken"] == ["EXT"]


def test_a_program_that_was_started_anew_is_nothing_to_be_told_of() -> None:
    system = CoreSystem()
    system.tell(plain_said(b"EXT", (b"",), b"EXT-1"))
    system.tell(events.PeerLost(events.Side.CLIENT, b"EXT"))
    system.tell(plain_said(b"EXT", (b"",), b"EXT-1"))
    assert "identity_taken" not in system.events()


def _asked(*bodies: bytes) -> list[events.Event]:
    """A DEALER asks each under the number that it ends with: those of its envelopes."""
    return [plain_said(b"D1", (body[-1:], b""), body) for body in bodies]


def _left_by_a_dealer() -> tuple[CoreSystem, list[messages.Task]]:
    """A broker that knows the requests of a DEALER which is gone, and the tasks that its worker has."""
    system = CoreSystem()
    system.worker("W1", services=("",), concurrency=9)
    system.tell(*_asked(b"old 1", b"old 2", b"old 3"))
    tasks = system.take_tasks("W1")
    system.tell(events.PeerLost(events.Side.CLIENT, b"D1"))
    return system, tasks


def test_a_program_under_the_identity_of_a_dead_one_gets_no_answer_to_what_that_had_asked() -> None:
    """Its numbers begin anew, and it has asked several things before the broker hears the first."""
    system, tasks = _left_by_a_dealer()
    system.answer("W1", *tasks[:2])
    system.tell(*_asked(b"new 1", b"new 2", b"new 3"))
    system.answer("W1", tasks[2])
    assert system.replies("D1") == []
    system.answer_all("W1")
    assert system.replies("D1") == [b"done new 1", b"done new 2", b"done new 3"]


def test_if_it_has_asked_something_else_with_a_number_all_is_void_that_the_dead_one_had_asked() -> None:
    system, tasks = _left_by_a_dealer()
    system.answer("W1", tasks[2])
    system.tell(*_asked(b"new 1"))
    system.answer("W1", *tasks[:2])
    assert system.replies("D1") == []


def test_a_program_that_has_only_lost_its_connection_gets_its_answers() -> None:
    system, tasks = _left_by_a_dealer()
    system.answer("W1", *tasks[:2])
    system.tell(*_asked(b"new 4", b"old 3"))
    assert system.replies("D1") == [b"done old 1", b"done old 2"]
    system.answer_all("W1")
    assert system.replies("D1")[2:] == [b"done new 4", b"done old 3"]


def test_one_that_asks_where_a_lost_one_was_sent_something_gets_no_answer_to_what_that_had_asked() -> None:
    """Nobody had spoken over that connection before, so it may be another program's."""
    system, tasks = _left_by_a_dealer()
    system.answer("W1", tasks[0])
    system.tell(events.PeersConnected(events.Side.CLIENT))
    system.wait(0.5, "W1")
    assert system.replies("D1") == [b"done old 1"]  # to whoever is there
    system.tell(events.IdentityUncertain(b"D1", True))
    system.answer("W1", tasks[1])
    system.tell(*_asked(b"new 2"), events.IdentityUncertain(b"D1", False))
    system.answer_all("W1")
    assert system.replies("D1") == [b"done old 1", b"done new 2"]
    assert "identity_taken" not in system.events()


def test_a_program_that_has_lost_its_identity_is_told() -> None:
    """If it waits, in the words of its own dialect, not of the other program's."""
    broker = Broker()
    broker.client_says(C, b"", b"old")
    assert broker.clients.told_displaced == []
    broker.client_says(C, b"MDPC02", b"\x01", b"echo", b"new", is_replaced=True)
    broker.client_says(C, b"", b"third", is_replaced=True)
    broker.client_says(C, b"MDPC02", b"\x01", b"echo", b"another", is_replaced=True)
    (first, to_lab), (second, to_majordomo), _ = broker.clients.told_displaced
    assert first == second == C
    assert to_lab[0] == b"" and to_lab[-1].startswith(b"ERROR CANCELLED id_taken: another program has taken this id")
    assert to_majordomo[:2] == [b"MDPC02", b"\x03"]
