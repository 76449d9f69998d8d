"""A client that asks the broker's own services, and workers that die of what they are asked."""

from __future__ import annotations

from typing import Any

import msgspec

from cbw.core import messages
from cbw.core.broker import dead_services
from cbw.core.broker.dead_letters import DeadLetters
from cbw.core.messages import Answer, Goodbye, Request, Status, error_of

from .system import CoreSystem, client_said, worker_said


def die(system: CoreSystem, *ids: int, service: str = "s", client: str = "C1", why: str = "") -> None:
    """Every worker that gets these requests is lost, or with ``why`` says that its child process crashed."""
    system.ask(*ids, client=client, service=service)
    for _ in ids:
        for number in range(3):
            name = f"W{number}"
            system.worker(name, services=(service,), boot=f"b{number}")
            tasks = system.take_tasks(name)
            assert len(tasks) == 1
            if why:
                crashed = messages.error_body("crashed", why)
                system.tell(worker_said(name.encode(), [Answer(tasks[0].id, Status.CRASHED, crashed), Goodbye()]))
            else:
                system.lose_worker(name)


class Control:
    """A client that asks the broker's own services."""

    def __init__(self, system: CoreSystem, name: str = "ADMIN") -> None:
        self.system = system
        self.name = name
        self.next_id = 1_000_000

    def answer(self, service: str, body: bytes) -> Answer:
        """What it gets, at once."""
        self.next_id += 1
        self.system.tell(client_said(self.name.encode(), [Request(self.next_id, service, body)]))
        (answer,) = [m for m in self.system.take(self.name) if isinstance(m, Answer)]
        assert answer.id == self.next_id
        return answer

    def ask(self, asked: str, /, **fields: Any) -> Any:
        """The JSON that it gets."""
        answer = self.answer(asked, msgspec.json.encode(fields))
        assert answer.status is Status.OK, error_of(answer.body)
        return msgspec.json.decode(answer.body)

    def error(self, service: str, body: bytes) -> tuple[Status, str]:
        answer = self.answer(service, body)
        return answer.status, error_of(answer.body)[1]

    def list(self, **fields: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask(dead_services.LIST, **fields)["letters"]
        return found


def dead_of(system: CoreSystem) -> DeadLetters:
    return system.core.requests.dead
