"""When the client port is read, and when it is not."""

from __future__ import annotations

from cbw.core.broker.events import PauseClients, ResumeClients
from cbw.core.messages import DEFAULT_SERVICE

from .system import CoreSystem, plain_said


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
