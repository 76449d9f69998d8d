"""When the client port is read, and when it is not."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.broker.back_pressure import STANDSTILL_S
from cbw.core.broker.events import PauseClients, PeerLost, PeersConnected, ResumeClients, Side
from cbw.core.messages import DEFAULT_SERVICE

from .system import CoreSystem, client_said, plain_said, worker_said


def test_too_many_bytes_stop_it_until_there_is_room_for_bytes() -> None:
    """Their number alone would allow more all the time."""
    system = CoreSystem(requests_bytes_max=100)
    for number in range(5):
        system.tell(plain_said(b"P%d" % number, (b"",), bytes(40)))
    assert [type(order) for order in system.others] == [PauseClients]
    system.worker("W1", services=(DEFAULT_SERVICE,))
    rest = []
    while not any(isinstance(order, ResumeClients) for order in system.others):
        system.answer_all("W1")
        rest.append(system.core.requests.bytes)
    assert rest == [160, 120, 80]


def _left_with_a_stream(*, is_full: bool) -> CoreSystem:
    """A broker that reads no clients, and whose worker has a stream in hand."""
    system = CoreSystem(requests_max=1)
    hello = messages.WorkerHello("W1", "b", [DEFAULT_SERVICE], 1, 1, takes_streams=True)
    system.tell(worker_said(b"W1", [hello]))
    system.client("C1")
    asked = messages.StreamRequest(1, DEFAULT_SERVICE, b"go", parts=2)
    system.tell(client_said(b"C1", [asked]))
    (task,) = system.take_tasks("W1")
    system.tell(plain_said(b"P1", (b"",), b"x"))
    system.tell(worker_said(b"W1", [messages.AnswerPart(task.id, n, b"") for n in range(1, 3 if is_full else 2)]))
    assert [type(order) for order in system.others] == [PauseClients]
    return system


def test_at_a_standstill_clients_are_heard_that_have_room_for_more_of_a_stream() -> None:
    """Found by the simulation: the stream waited for its client, which nobody heard until the stream had ended."""
    system = _left_with_a_stream(is_full=True)
    system.wait(STANDSTILL_S - 0.1, "W1")
    assert [type(order) for order in system.others] == [PauseClients]
    system.wait(0.2, "W1")
    assert [type(order) for order in system.others] == [PauseClients, ResumeClients]
    system.tell(plain_said(b"P2", (b"",), b"x"))
    assert [type(order) for order in system.others] == [PauseClients, ResumeClients, PauseClients]
    system.wait(2 * STANDSTILL_S - 0.1, "W1")
    assert len(system.others) == 3, "each time it takes longer"
    system.wait(0.2, "W1")
    assert len(system.others) == 4


def test_while_a_stream_can_go_on_nobody_is_heard() -> None:
    system = _left_with_a_stream(is_full=False)
    system.wait(2 * STANDSTILL_S, "W1")
    assert [type(order) for order in system.others] == [PauseClients]
    assert system.core.wake_at < system.now + STANDSTILL_S + 0.1


def test_who_could_not_be_heard_may_speak_before_it_gets_what_a_lost_program_of_its_identity_has_asked_for() -> None:
    """Found by the simulation: a REQ socket that had asked again took that for its answer."""
    system = CoreSystem(requests_max=1)
    system.tell(plain_said(b"P1", (b"",), b"first"))
    system.tell(PeerLost(Side.CLIENT, b"P1"))
    system.tell(plain_said(b"P2", (b"",), b"x"), PeersConnected(Side.CLIENT))
    assert isinstance(system.others[-1], PauseClients)
    system.worker("W1", services=(DEFAULT_SERVICE,), concurrency=2)
    tasks = system.take_tasks("W1")
    system.answer("W1", tasks[0])
    system.wait(0.5, "W1")
    system.answer("W1", tasks[1])
    assert isinstance(system.others[-1], ResumeClients)
    system.wait(0.2, "W1")
    assert system.replies("P1") == []
    system.tell(plain_said(b"P1", (b"",), b"first"))
    system.answer_all("W1")
    assert system.replies("P1") == [b"done first"]
