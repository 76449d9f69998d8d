"""Records as a broker, clients, workers and a verification make them, and what a check says of them."""

from __future__ import annotations

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.verify.checks import judge
from cbw.verify.verdict import Verdict


def broker(at: float, event: str, **fields: object) -> Record:
    return Record(at, catalogue.EventName(event), role="broker", sender="BRO", **fields)  # type: ignore[arg-type]


def ready(at: float, worker: str, services: str = "s") -> Record:
    return broker(at, "worker_ready", worker=worker, text=services)


def accepted(at: float, request: str, service: str = "s") -> Record:
    return broker(at, "accepted", request=request, service=service)


def given(at: float, event: str, request: str, worker: str, task: int, service: str = "s") -> Record:
    """A broker's record of what became of an attempt."""
    return broker(at, event, request=request, service=service, worker=worker, task=task)


def sent(at: float, request: str, service: str = "s", *, text: str | None = None) -> Record:
    client = request.partition("/")[0]
    return Record(
        at,
        catalogue.SENT,
        role="client",
        sender=client,
        request=request,
        client=client,
        service=service,
        text=request if text is None else text,
    )


def got(at: float, request: str, text: str) -> Record:
    client = request.partition("/")[0]
    return Record(at, catalogue.GOT, role="client", sender=client, request=request, client=client, text=text)


def failed(at: float, request: str, text: str = "no answer") -> Record:
    client = request.partition("/")[0]
    return Record(at, catalogue.FAILED, role="client", sender=client, request=request, client=client, text=text)


def begun(at: float, worker: str, request: str = "", task: int = 0, service: str = "s") -> Record:
    return Record(
        at, catalogue.BEGUN, role="worker", sender=worker, request=request, service=service, worker=worker, task=task
    )


def done(at: float, worker: str, request: str = "", task: int = 0, service: str = "s") -> Record:
    return Record(
        at, catalogue.DONE, role="worker", sender=worker, request=request, service=service, worker=worker, task=task
    )


def hurt(at: float, event: str, worker: str, request: str, task: int = 0) -> Record:
    return Record(
        at, catalogue.EventName(event), role="verify", sender="verify", request=request, worker=worker, task=task
    )


def started(at: float, service: str = "s") -> Record:
    return Record(at, catalogue.STARTED, role="verify", sender="verify", service=service)


def verdict(name: str, records: list[Record]) -> Verdict:
    ordered = sorted(records, key=lambda record: record.at)
    return next(found for found in judge(ordered) if found.name == name)


def without(records: list[Record], *events: str) -> list[Record]:
    return [record for record in records if record.event not in events]
