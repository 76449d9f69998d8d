"""What people do to a running broker: requests are cancelled and purged, workers drained, services paused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cbw.core import messages
from cbw.core.broker import acts, dead_services, looks, schemas
from cbw.core.broker.demands import ASK_MORE_S
from cbw.core.broker.own_services import IS_SERVED
from cbw.core.key import ANYBODY, Key
from cbw.core.messages import Answer, Recall, Status, error_of
from cbw.wire import lab

from .control import Control, die
from .journaled import Journaled
from .system import CoreSystem, client_said, plain_said, req_ready, req_said, worker_said


@pytest.fixture(params=[CoreSystem, Journaled])
def system(request: pytest.FixtureRequest) -> CoreSystem:
    """With and without a journal."""
    made: CoreSystem = request.param()
    made.client("C1")
    made.client("ADMIN")
    return made


@pytest.fixture
def control(system: CoreSystem) -> Control:
    return Control(system)


def errors(system: CoreSystem, client: str = "C1") -> list[tuple[int, Status, str]]:
    """What ``client`` was told, with the texts of its errors."""
    answers = [message for message in system.take(client) if isinstance(message, Answer)]
    return [(answer.id, answer.status, error_of(answer.body)[1]) for answer in answers]


# --- cancel


def test_what_waits_and_what_runs_is_cancelled_and_its_client_is_told_by_whom(
    system: CoreSystem, control: Control
) -> None:
    system.worker("W1")
    system.ask(1, 2)
    (task,) = system.take_tasks("W1")
    names = ["C1/1", "C1/2", "C1/3", "X/1", "C1/x", "C1"]
    assert control.ask(acts.CANCEL, requests=names) == {"cancelled": 2, "missing": names[2:]}
    text = "cancelled by ADMIN (cbw cancel)"
    assert errors(system) == [(1, Status.CANCELLED, text), (2, Status.CANCELLED, text)]
    assert system.said("W1", messages.CancelTask)
    asked = next(record for record in system.records if record.event == "cancel_asked")
    assert (asked.client, asked.count, asked.text) == ("ADMIN", 2, ", ".join(names))
    system.answer("W1", task)  # too late: it is fenced, and the slot is free again
    assert system.answers() == []
    system.ask(4)
    assert system.bodies("W1") == [4]


def test_a_plain_client_is_told_too(system: CoreSystem, control: Control) -> None:
    system.tell(plain_said(b"REQ", (b"",), b"hello"))
    name = control.ask(looks.LIST_REQUESTS)["requests"][0]["request"]
    assert control.ask(acts.CANCEL, requests=[name])["cancelled"] == 1
    (reply,) = system.plain_replies["REQ"]
    assert reply.status is Status.CANCELLED


def test_a_request_that_outlives_its_client_is_cancelled_by_its_ticket(system: CoreSystem, control: Control) -> None:
    system.tell(client_said(b"C1", [messages.Start(1, "T1", "s", b"1")]))
    assert control.ask(looks.TELL_WHY, request="ticket/T1")["state"] == "waiting"
    assert control.ask(acts.CANCEL, requests=["ticket/T1"])["cancelled"] == 1
    system.take("C1")
    system.tell(client_said(b"C1", [messages.Collect(2, "T1")]))
    assert system.answers() == [(2, Status.CANCELLED)]
    assert control.ask(looks.TELL_WHY, request="ticket/T1")["state"] == "ended"


# --- purge


def test_what_no_worker_has_is_purged_and_what_runs_is_not(system: CoreSystem, control: Control) -> None:
    system.worker("W1", services=("s", "other"))
    system.ask(1, 2, 3)
    system.tell(client_said(b"C1", [messages.Request(4, "s", b"4", delay_s=5.0)]))
    system.ask(5, service="other")
    system.take("C1")
    assert control.ask(acts.PURGE, service="s", limit=2) == {"purged": 2, "is_complete": False}
    assert control.ask(acts.PURGE, service="s") == {"purged": 1, "is_complete": True}
    text = "cancelled by ADMIN (cbw purge)"
    assert errors(system) == [(number, Status.CANCELLED, text) for number in (2, 3, 4)]
    system.answer_all("W1")
    assert system.answers() == [(1, Status.OK)]
    assert system.bodies("W1") == [5]


def test_a_purge_says_what_it_means(system: CoreSystem, control: Control) -> None:
    system.client("C2")
    system.ask(1)
    system.wait(10)
    system.ask(2)
    system.ask(3, client="C2")
    status, text = control.error(acts.PURGE, b"{}")
    assert status is Status.BAD_REQUEST and '"all": true' in text
    assert control.ask(acts.PURGE, client="C1", older_than_s=5)["purged"] == 1
    assert errors(system) == [(1, Status.CANCELLED, "cancelled by ADMIN (cbw purge)")]
    assert control.ask(acts.PURGE, all=True)["purged"] == 2
    assert [record.text for record in system.records if record.event == "purge_asked"] == [
        "client C1, older_than_s 5.0",
        "all",
    ]


# --- drain


def test_a_drained_worker_ends_what_it_has_and_gets_nothing_more(system: CoreSystem, control: Control) -> None:
    system.worker("W1")
    system.worker("W2")
    system.ask(1, 2)
    assert control.ask(acts.DRAIN, workers=["W1", "W9"]) == {"drained": 1, "missing": ["W9"]}
    states = {worker["worker"]: worker["state"] for worker in control.ask(looks.LIST_WORKERS)["workers"]}
    assert states == {"W1": "draining", "W2": "busy"}
    system.ask(3, 4)
    system.answer_all("W1")
    assert system.bodies("W1") == []
    assert [worker["state"] for worker in control.ask(looks.LIST_WORKERS, worker="W1")["workers"]] == ["drained"]
    assert "every worker" not in control.ask(looks.TELL_WHY, request="C1/3")["text"]
    assert control.ask(acts.UNDRAIN, workers=["W1"]) == {"undrained": 1, "missing": []}
    assert system.bodies("W1") == [3]
    assert {"worker_drained", "worker_undrained"} <= set(system.events())
    assert control.ask(acts.UNDRAIN, workers=["W1"]) == {"undrained": 0, "missing": ["W1"]}


def test_a_drained_worker_that_is_away_is_undrained(system: CoreSystem, control: Control) -> None:
    system.worker("W1")
    control.ask(acts.DRAIN, workers=["W1"])
    system.lose_worker("W1")
    assert control.ask(acts.UNDRAIN, workers=["W1"])["undrained"] == 1
    system.ask(1)
    system.worker("W1")
    assert system.bodies("W1") == [1]


def test_a_drained_worker_is_asked_for_what_it_has_not_begun(system: CoreSystem, control: Control) -> None:
    system.worker("W1", credit=3)
    system.ask(1, 2, 3)
    first, second, third = system.take_tasks("W1")
    control.ask(acts.DRAIN, workers=["W1"])
    (recall,) = [message for message in system.take("W1") if isinstance(message, Recall)]
    assert recall.tasks == [second.id, third.id]
    assert first.body == b"1"


def test_a_drained_worker_that_is_back_is_still_drained_and_its_successor_is_not(
    system: CoreSystem, control: Control
) -> None:
    system.worker("W1")
    control.ask(acts.DRAIN, workers=["W1"])
    system.lose_worker("W1")
    system.worker("W1")
    system.ask(1)
    assert system.bodies("W1") == []
    assert "every worker (1) is drained" in control.ask(looks.TELL_WHY, request="C1/1")["text"]
    system.lose_worker("W1")
    system.worker("W1", boot="another")
    assert system.bodies("W1") == [1]


def test_a_worker_of_the_lab_is_drained_until_another_program_has_its_identity() -> None:
    system = CoreSystem()
    system.client("ADMIN")
    control = Control(system)
    system.tell(req_ready(b"R1"))
    control.ask(acts.DRAIN, workers=["R1"])
    system.tell(plain_said(b"REQ", (b"",), b"hello"))
    assert system.plain_tasks["R1"] == []
    system.tell(req_said(b"R1", None, b""))  # the same program says again that it is ready
    assert system.plain_tasks["R1"] == []
    system.lose_worker("R1")
    system.tell(req_ready(b"R1"))
    assert [body for _, body in system.plain_tasks["R1"]] == [b"hello"]
    assert lab.LAB.name == control.ask(looks.LIST_WORKERS)["workers"][0]["dialect"]


# --- pause


def test_requests_of_a_paused_service_wait_and_what_runs_goes_on(system: CoreSystem, control: Control) -> None:
    system.worker("W1", services=("s", "other"), concurrency=2)
    system.ask(1)
    assert control.ask(acts.PAUSE, services=["s", "s"]) == {"paused": 1, "all_paused": ["s"]}
    system.ask(2)
    system.ask(3, service="other")
    assert system.bodies("W1") == [1, 3]
    told = control.ask(looks.TELL_WHY, request="C1/2")
    assert told["text"] == "service s is paused; cbw resume lets it go on"
    shown = control.ask(looks.SHOW_STATUS)["services"]
    assert {row["service"]: row["is_paused"] for row in shown} == {"s": True, "other": False}
    assert control.ask(acts.RESUME, services=["s", "x"]) == {"resumed": 1, "missing": ["x"], "all_paused": []}
    system.worker("W2")
    assert system.bodies("W2") == [2]
    events = [record for record in system.records if record.event in ("service_paused", "service_resumed")]
    assert [(record.client, record.service) for record in events] == [("ADMIN", "s"), ("ADMIN", "s")]


def test_a_service_is_paused_before_anybody_serves_it(system: CoreSystem, control: Control) -> None:
    control.ask(acts.PAUSE, services=["s"])
    system.worker("W1")
    system.ask(1, ttl=1.0)
    assert system.bodies("W1") == []
    system.wait(1.5, "W1")
    assert system.answers() == [(1, Status.EXPIRED)]  # a deadline holds in a paused service too


def test_so_many_services_can_be_paused(system: CoreSystem, control: Control) -> None:
    names = [str(number) for number in range(acts.PAUSED_MAX)]
    control.ask(acts.PAUSE, services=names)
    status, text = control.error(acts.PAUSE, b'{"services": ["one more"]}')
    assert status is Status.BAD_REQUEST and "at most 1000" in text
    assert control.error(acts.PAUSE, b'{"services": ["%s"]}' % (b"x" * 2000))[0] is Status.BAD_REQUEST


def demands(system: CoreSystem, worker: str) -> list[int]:
    """How many requests that wait ``worker`` was told of, each time."""
    return [message.waiting for message in system.take(worker) if isinstance(message, messages.Demand)]


def test_of_workers_that_serve_other_brokers_too_nothing_is_demanded_that_they_would_not_get(
    system: CoreSystem, control: Control
) -> None:
    for name in ("W1", "W2"):
        system.worker(name)
        system.tell(worker_said(name.encode(), [messages.Credit(0, is_shared=True)]))
    control.ask(acts.DRAIN, workers=["W2"])
    system.ask(1)
    assert demands(system, "W1") == [1]
    control.ask(acts.PAUSE, services=["s"])
    assert demands(system, "W1") == [0]
    system.ask(2)
    system.wait(1.0, "W1", "W2")
    assert demands(system, "W1") == demands(system, "W2") == []
    control.ask(acts.RESUME, services=["s"])
    assert demands(system, "W1") == [1] and demands(system, "W2") == []


# --- who may


ACTS: dict[str, dict[str, Any]] = {
    acts.CANCEL: {"requests": ["C1/1"]},
    acts.DRAIN: {"workers": ["W1"]},
    acts.UNDRAIN: {"workers": ["W1"]},
    acts.PAUSE: {"services": ["s"]},
    acts.RESUME: {"services": ["s"]},
    acts.PURGE: {"all": True},
    dead_services.REQUEUE: {"all": True},
    dead_services.DROP: {"all": True},
}
TOLD: dict[str, tuple[str, str, str]] = {
    acts.CANCEL: ("cancel_asked", "text", "C1/1"),
    acts.DRAIN: ("worker_drained", "worker", "W1"),
    acts.UNDRAIN: ("worker_undrained", "worker", "W1"),
    acts.PAUSE: ("service_paused", "service", "s"),
    acts.RESUME: ("service_resumed", "service", "s"),
    acts.PURGE: ("purge_asked", "text", "all"),
    dead_services.REQUEUE: ("requeue_asked", "text", "all"),
    dead_services.DROP: ("drop_asked", "text", "all"),
}
"""The event in which the trace tells of each act, and the field that says what it was done to."""
BEFORE = {acts.UNDRAIN: acts.DRAIN, acts.RESUME: acts.PAUSE}
"""What is to be done before an act changes anything."""


@pytest.mark.parametrize("act", ACTS)
def test_who_may_only_look_changes_nothing(act: str) -> None:
    system = CoreSystem()
    system.client("C1")
    system.client("ADMIN")
    control = Control(system)
    die(system, 7)
    system.worker("W9", services=("t",))
    system.ask(1)
    system.take("C1")
    system.core.ask_who_may_act(lambda peer: f"{peer.decode()} is far away")
    status, text = control.error(act, b'{"all": true}')
    assert (status, text) == (Status.NOT_ALLOWED, f"{act} is refused: ADMIN is far away")
    assert system.answers() == [] and len(control.list()) == 1
    assert control.ask(looks.TELL_WHY, request="C1/1")["state"] == "waiting"
    system.core.ask_who_may_act(lambda peer: "")
    control.ask(act, **ACTS[act])


@pytest.mark.parametrize("service", [*ACTS, *(looks.LIST_REQUESTS, looks.TELL_WHY)])
def test_with_keys_only_an_admin_may(service: str) -> None:
    system = CoreSystem()
    roles = {b"C1": Key("client", "p", "alice"), b"ADMIN": Key("admin", "q", "root")}
    system.core.use_keys(roles.get, lambda peer: ANYBODY)
    system.client("C1")
    system.client("ADMIN")
    assert Control(system, "C1").error(service, b"{}")[0] is Status.NOT_ALLOWED
    fields = ACTS.get(service, {"request": "C1/1"} if service == looks.TELL_WHY else {})
    assert Control(system).answer(service, msgspec.json.encode(fields)).status in (
        Status.OK,
        Status.FAILED,
    )


@pytest.mark.parametrize("key", [None, Key("admin", "q", "root")], ids=["without keys", "with keys"])
@pytest.mark.parametrize("act", ACTS)
def test_the_trace_names_who_asked_for_each_act(act: str, key: Key | None) -> None:
    system = CoreSystem()
    if key is not None:
        roles = {b"C1": Key("client", "p", "alice"), b"ADMIN": key}
        system.core.use_keys(roles.get, lambda peer: ANYBODY)
    system.client("C1")
    system.client("ADMIN")
    control = Control(system)
    die(system, 7)
    system.worker("W1")
    system.ask(1)
    if act in BEFORE:
        control.ask(BEFORE[act], **ACTS[BEFORE[act]])
    system.records.clear()
    control.ask(act, **ACTS[act])
    event, field, value = TOLD[act]
    (record,) = [record for record in system.records if record.event == event]
    assert (record.client, getattr(record, field)) == ("ADMIN", value)
    assert record.fields == (None if key is None else {"key": "root"})


def test_the_schema_tells_of_every_service_and_of_what_it_answers(system: CoreSystem, control: Control) -> None:
    told = control.ask(schemas.SCHEMA)
    not_in_json = {schemas.SCHEMA, dead_services.BODY, IS_SERVED}
    assert told["services"].keys() | not_in_json == set(system.core.requests.own.names)
    for act in (name for name in ACTS if not name.startswith("cbw.dead.")):
        asks, answers = (
            told["$defs"][told["services"][act][side]["$ref"].removeprefix("#/$defs/")] for side in ("asks", "answers")
        )
        assert asks["additionalProperties"] is False and ACTS[act].keys() <= asks["properties"].keys()
        assert control.ask(act, **ACTS[act]).keys() == answers["properties"].keys()


def test_a_demand_comes_behind_the_tasks_that_were_demanded_before(system: CoreSystem) -> None:
    """Its worker takes each task for one of those that it knows to be demanded."""
    system.worker("W1")
    system.tell(worker_said(b"W1", [messages.Credit(0, is_shared=True)]))
    system.ask(1)
    assert demands(system, "W1") == [1]
    system.now += 2 * ASK_MORE_S
    more = client_said(b"C1", [messages.Request(id, "s", b"%d" % id) for id in (2, 3, 4)])
    system.tell(more, worker_said(b"W1", [messages.Credit(1, is_shared=True)]))
    assert [type(message) for message in system.take("W1")] == [messages.Task, messages.Demand]
