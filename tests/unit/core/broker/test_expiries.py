"""Where a request was when its time was over: what its client is told, whoever has watched the time."""

from __future__ import annotations

import difflib

import pytest

from cbw.core import messages
from cbw.core.broker import acts
from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import ClientRow, Entry
from cbw.core.key import Key
from cbw.core.messages import Status, error_of
from cbw.wire import native

from .control import Control
from .system import CoreSystem, client_said, worker_said


def ask(system: CoreSystem, service: str = "s", ttl: float | None = 1.0) -> None:
    system.ask(1, service=service, ttl=ttl)


def late(system: CoreSystem, key: int = 1, client: str = "C1") -> None:
    """The client's time is over."""
    system.tell(client_said(client.encode(), [messages.Cancel(key, is_late=True)]))


def told(system: CoreSystem, client: str = "C1") -> tuple[Status, str, str]:
    """What a client got: one error."""
    (answer,) = [message for message in system.take(client) if isinstance(message, messages.Answer)]
    return answer.status, *error_of(answer.body)


@pytest.mark.parametrize("is_clients_time", [False, True])
def test_nobody_serves_it(system: CoreSystem, is_clients_time: bool) -> None:
    ask(system)
    if is_clients_time:
        late(system)
    else:
        system.wait(1.1)
    status, kind, text = told(system)
    assert (status, kind) == (Status.EXPIRED, "no_worker")
    assert text == "the deadline passed before a worker came that serves 's'"


def test_the_nameless_service_has_no_name_to_be_told() -> None:
    entry = Entry(messages.Request(1, "", b"x"), ClientRow("C1", "b", b"C1", native.CLIENT), RequestState.WAITING, 0.0)
    why = CoreSystem().core.requests.expiries.why(entry, 0.0)
    assert why == ("no_worker", "the deadline passed before a worker came")


@pytest.mark.parametrize("is_clients_time", [False, True])
def test_it_waited_for_a_worker(system: CoreSystem, is_clients_time: bool) -> None:
    system.worker("W1")
    system.ask(7)
    ask(system)
    if is_clients_time:
        late(system)
    else:
        system.wait(1.1, "W1")
    assert told(system) == (Status.EXPIRED, "queue", "the deadline passed before a worker was free")


@pytest.mark.parametrize("service", ["s", ""])
def test_its_service_was_paused(system: CoreSystem, service: str) -> None:
    """No worker is missing then: to say that none was free would send people looking for more."""
    system.worker("W1", services=(service,))
    system.client("ADMIN")
    Control(system).ask(acts.PAUSE, services=[service])
    ask(system, service)
    system.wait(1.1, "W1")
    what = f"service {service!r}" if service else "the nameless service"
    assert told(system) == (Status.EXPIRED, "queue", f"the deadline passed while {what} was paused (cbw pause)")


def test_all_its_workers_were_drained(system: CoreSystem) -> None:
    for worker in ("W1", "W2"):
        system.worker(worker)
    system.client("ADMIN")
    Control(system).ask(acts.DRAIN, workers=["W1", "W2"])
    ask(system)
    system.wait(1.1, "W1", "W2")
    text = "the deadline passed while all workers of service 's' were drained (cbw drain)"
    assert told(system) == (Status.EXPIRED, "queue", text)
    Control(system).ask(acts.UNDRAIN, workers=["W1"])
    system.ask(7)
    ask(system)
    late(system)
    assert told(system) == (Status.EXPIRED, "queue", "the deadline passed before a worker was free")


def test_a_worker_had_it(system: CoreSystem) -> None:
    system.worker("W1")
    ask(system)
    system.wait(1.0, "W1")
    late(system)
    assert told(system) == (Status.EXPIRED, "worker", "no answer in time: worker W1 has had it for 1 s")
    assert system.said("W1", messages.CancelTask)
    (end,) = [record for record in system.records if record.event == "expired"]
    assert (end.request, end.worker) == ("C1/1", "W1") and "W1" in end.text
    assert system.core.outbox.counts["expired"] == 1 and system.core.outbox.counts["cancelled"] == 0


def test_its_slot_stays_taken_until_the_worker_says_what_became_of_it(system: CoreSystem) -> None:
    system.worker("W1")
    ask(system)
    (task,) = system.take_tasks("W1")
    late(system)
    system.ask(2)
    assert not system.take_tasks("W1")
    system.tell(worker_said(b"W1", [messages.Answer(task.id, Status.OK, b"late")]))
    assert [task.body for task in system.take_tasks("W1")] == [b"2"]


def test_other_workers_had_it_before(system: CoreSystem) -> None:
    system.worker("W1")
    ask(system)
    system.lose_worker("W1")
    system.worker("W2")
    late(system)
    assert told(system)[1:] == ("worker", "no answer in time: worker W2 has had it for 0 s; 1 failed at it before")


def test_an_answer_that_is_on_its_way_is_not_followed_by_another(system: CoreSystem) -> None:
    system.worker("W1")
    ask(system)
    system.answer_all("W1")
    late(system)
    assert system.answers() == [(1, Status.OK)]


def test_whoever_collects_by_a_ticket_is_told_where_the_request_is_and_it_goes_on(system: CoreSystem) -> None:
    system.worker("W1")
    system.tell(client_said(b"C1", [messages.Start(1, "t", "s", b"x"), messages.Collect(2, "t")]))
    system.take("C1")
    late(system, 2)
    status, kind, text = told(system)
    assert (status, kind) == (Status.EXPIRED, "worker") and text.endswith("; it goes on")
    system.answer_all("W1")
    system.tell(client_said(b"C1", [messages.Collect(3, "t")]))
    assert system.answers() == [(3, Status.OK)]


def test_nobody_waits_for_such_an_answer_twice(system: CoreSystem) -> None:
    system.tell(client_said(b"C1", [messages.Start(1, "t", "s", b"x"), messages.Collect(2, "t")]))
    system.take("C1")
    late(system, 2)
    late(system, 2)
    assert len(system.take("C1")) == 1


# --- which service was meant


@pytest.mark.parametrize(("asked", "meant"), [("pricee", "price"), ("prcie", "price"), ("weather", ""), ("p", "")])
def test_a_mistyped_service_gets_a_suggestion(system: CoreSystem, asked: str, meant: str) -> None:
    system.worker("W1", services=("price", "stock", ""))
    system.ask(2, service="prices")  # nobody serves it, so nobody means it
    ask(system, asked)
    late(system)
    assert told(system)[2].endswith(f"; did you mean {meant!r}?" if meant else f"serves {asked!r}")


def test_a_service_that_the_client_may_not_use_is_not_suggested(system: CoreSystem) -> None:
    system.worker("W1", services=("price",))
    client = ClientRow("C1", "b", b"C1", native.CLIENT)
    client.key = Key("client", "", "anna", services=("stock",))
    text = system.core.requests.expiries.why_unserved(client, "pric", system.now)
    assert "price" not in text


def test_names_are_compared_now_and_then_only(system: CoreSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that asks for one nonsense after another must not slow the broker for others."""
    compared: list[str] = []

    def compare(name: str, *_: object) -> list[str]:
        compared.append(name)
        return []

    monkeypatch.setattr(difflib, "get_close_matches", compare)
    system.worker("W1", services=("price",))
    for key in range(100):
        system.ask(key, service=f"price{key}", ttl=1.0)
        late(system, key)
    assert len(compared) == 1
