"""Requests that are given up: what is kept of them, for how long, and what the broker's own services do with them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cbw.core import messages
from cbw.core.broker import dead_services
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.dead_letters import ERROR_CHARS_MAX
from cbw.core.broker.events import ClientSaid, PeerLost, Side, Stop, StopRequested
from cbw.core.broker.limits import Limits
from cbw.core.broker.stories import REASON_CHARS_MAX
from cbw.core.messages import Answer, Goodbye, Request, Status, error_of
from cbw.core.plain_messages import PlainRequest
from cbw.wire import majordomo_02 as majordomo

from .control import Control, dead_of, die
from .journaled import Journaled
from .system import CoreSystem, client_said, worker_said

ALL: dict[str, Any] = {"all": True}


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


# --- what is kept


def test_a_request_that_is_given_up_is_kept_with_its_story(system: CoreSystem, control: Control) -> None:
    die(system, 7)
    (answer,) = [m for m in system.take("C1") if isinstance(m, Answer)]
    (letter,) = control.list()
    assert answer.status is Status.GAVE_UP and f"cbw dead show {letter['id']}" in error_of(answer.body)[1]
    shown = control.ask(dead_services.SHOW, id=letter["id"])
    assert (shown["client"], shown["request"], shown["service"], shown["body"]) == ("C1", 7, "s", "7")
    assert shown["kind"] == "gave_up" and shown["error"].startswith("3 workers failed at it")
    assert [(one["worker"], one["reason"]) for one in shown["attempts"]] == [
        (f"W{number}", "lost its connection") for number in range(3)
    ]
    assert control.answer(dead_services.BODY, b'{"id": "%s"}' % letter["id"].encode()).body == b"7"
    assert "dead_letter_kept" in system.events()


def test_a_request_that_is_answered_in_the_end_leaves_nothing(system: CoreSystem, control: Control) -> None:
    system.ask(1)
    system.worker("W1")
    system.lose_worker("W1")
    system.worker("W2")
    system.answer_all("W2")
    assert system.answers() == [(1, Status.OK)] and control.list() == []


def test_a_body_that_is_no_text_is_shown_in_base64(system: CoreSystem, control: Control) -> None:
    system.tell(client_said(b"C1", [Request(1, "s", b"\xff\x00")]))
    for number in range(3):
        system.worker(f"W{number}")
        system.lose_worker(f"W{number}")
    (letter,) = control.list()
    shown = control.ask(dead_services.SHOW, id=letter["id"])
    assert shown["body_base64"] == "/wA=" and "body" not in shown and shown["body_bytes"] == 2


def test_what_a_worker_says_of_a_crash_is_kept_but_not_without_end(system: CoreSystem, control: Control) -> None:
    die(system, 1, why="exit code 7" + "!" * 5000)
    (letter,) = control.list()
    shown = control.ask(dead_services.SHOW, id=letter["id"])
    assert all(one["reason"].startswith("exit code 7!") for one in shown["attempts"])
    assert max(len(one["reason"]) for one in shown["attempts"]) == REASON_CHARS_MAX
    assert len(shown["error"]) == ERROR_CHARS_MAX


# --- bounds


@pytest.mark.parametrize("kind", [CoreSystem, Journaled])
def test_the_oldest_gives_way(kind: type[CoreSystem]) -> None:
    system = kind(dead_max=2)
    system.client("C1")
    system.client("ADMIN")
    for number in (1, 2, 3):
        die(system, number)
        system.wait(0.5)
    assert [letter["request"] for letter in Control(system).list()] == [2, 3]
    assert system.core.outbox.counts["dead_letters_pushed_out"] == 1
    assert "dead_letter_pushed_out" in system.events()
    if isinstance(system, Journaled):
        system.crash()
        assert [letter.request for letter in dead_of(system)] == [2, 3]


def test_they_are_bounded_by_their_bytes_too() -> None:
    system = CoreSystem(dead_bytes_max=10_000)
    system.client("C1")
    for number in range(1, 20):
        die(system, number)
    assert 0 < len(dead_of(system)) < 10 and dead_of(system).bytes <= 10_000


def test_one_that_is_too_large_pushes_out_nobody_and_its_client_is_told() -> None:
    system = CoreSystem(dead_bytes_max=10_000)
    system.client("C1")
    die(system, 1)
    system.take("C1")
    system.tell(client_said(b"C1", [Request(2, "s", bytes(20_000))]))
    for number in range(3):
        system.worker(f"W{number}")
        system.lose_worker(f"W{number}")
    (answer,) = [m for m in system.take("C1") if isinstance(m, Answer)]
    assert "--dead-bytes-max" in error_of(answer.body)[1]
    assert [letter.request for letter in dead_of(system)] == [1]


def test_none_are_kept_if_none_are_wanted() -> None:
    system = CoreSystem(dead_max=0)
    system.client("C1")
    die(system, 1)
    (answer,) = [m for m in system.take("C1") if isinstance(m, Answer)]
    assert "dead letter" not in error_of(answer.body)[1] and len(dead_of(system)) == 0


# --- which are meant


@pytest.mark.parametrize(
    ("fields", "requests"),
    [
        ({}, [1, 2, 3]),
        ({"service": "s"}, [1, 3]),
        ({"service": "S"}, []),
        ({"error": "Exit CODE 7"}, [2]),
        ({"error": "lost its"}, [1, 3]),
        ({"error": "gave_up", "service": "t"}, [2]),
        ({"older_than_s": 9.0}, [1, 2]),
        ({"newer_than_s": 9.0}, [3]),
        ({"older_than_s": 9.0, "newer_than_s": 15.0}, [2]),
        ({"limit": 2}, [1, 2]),
        ({"limit": 2, "offset": 1}, [2, 3]),
        ({"offset": 3}, []),
    ],
)
def test_filters(system: CoreSystem, control: Control, fields: dict[str, Any], requests: list[int]) -> None:
    die(system, 1)
    system.wait(10.0)
    die(system, 2, service="t", why="exit code 7")
    system.wait(10.0)
    die(system, 3)
    assert [letter["request"] for letter in control.list(**fields)] == requests


def test_ids_are_filtered_too_and_those_that_are_missing_are_told(system: CoreSystem, control: Control) -> None:
    die(system, 1, 2, 3)
    one, _, three = [letter["id"] for letter in control.list()]
    assert [letter["request"] for letter in control.list(ids=[three, "x-9", one, one])] == [3, 1]
    done = control.ask(dead_services.DROP, ids=[three, "x-9"])
    assert done == {"dropped": 1, "left": 0, "missing": ["x-9"]}


def test_a_list_counts_what_it_does_not_show(system: CoreSystem, control: Control) -> None:
    die(system, 1, 2, 3)
    found = control.ask(dead_services.LIST, limit=1, service="s")
    assert (found["total"], found["matching"], len(found["letters"])) == (3, 3, 1)


# --- bad input


@pytest.mark.parametrize(
    ("service", "body", "words"),
    [
        (dead_services.LIST, b"{", "JSON"),
        (dead_services.LIST, b"\xff", ""),
        (dead_services.LIST, b"[]", "object"),
        (dead_services.LIST, b'{"sevice": "s"}', "unknown field `sevice`"),
        (dead_services.LIST, b'{"limit": 0}', "limit"),
        (dead_services.LIST, b'{"limit": 1001}', "limit"),
        (dead_services.LIST, b'{"offset": -1}', "offset"),
        (dead_services.LIST, b'{"older_than_s": "1"}', "older_than_s"),
        (dead_services.SHOW, b"{}", "id"),
        (dead_services.REQUEUE, b"{}", "say which"),
        (dead_services.REQUEUE, b'{"all": true, "ttl_s": 0}', "ttl_s"),
        (dead_services.DROP, b"", "say which"),
        (dead_services.DROP, b'{"all": false}', "say which"),
        (dead_services.DROP, b'{"ids": "x"}', "ids"),
        ("cbw.dead", b"", "cbw.dead.list"),
        ("cbw.", b"", "has no service"),
        (dead_services.LIST, b" " * (2 << 20), "too many"),
    ],
)
def test_what_makes_no_sense_is_a_bad_request(
    system: CoreSystem, control: Control, service: str, body: bytes, words: str
) -> None:
    die(system, 1)
    status, text = control.error(service, body)
    assert status is Status.BAD_REQUEST and words in text
    assert len(dead_of(system)) == 1 and system.core.requests.count == 0


def test_one_that_is_not_there(control: Control) -> None:
    for service in (dead_services.SHOW, dead_services.BODY):
        assert control.error(service, b'{"id": "x-1"}') == (Status.FAILED, "there is no dead letter 'x-1'")


def test_no_worker_serves_the_brokers_own_services(system: CoreSystem) -> None:
    system.worker("W1", services=("s", "cbw.dead.list"))
    (refused,) = [m for m in system.take("W1") if isinstance(m, messages.Refused)]
    assert "cbw." in refused.text


def test_a_majordomo_client_is_answered_too(system: CoreSystem) -> None:
    die(system, 1)
    asked = PlainRequest((b"",), dead_services.LIST, b"{}")
    system.tell(ClientSaid(b"MDP", [asked], majordomo.CLIENT))
    (reply,) = system.plain_replies["MDP"]
    assert reply.status is Status.OK and msgspec.json.decode(reply.body)["total"] == 1


def test_the_broker_answers_no_more_than_is_read(system: CoreSystem, control: Control, monkeypatch: Any) -> None:
    monkeypatch.setattr("cbw.core.broker.own_services.ANSWER_BYTES_MAX", 100)
    die(system, 1)
    control.list()
    status, text = control.error(dead_services.LIST, b"")
    assert status is Status.BUSY and "ask again" in text
    system.wait(1.5)
    control.next_id -= 1  # a client that is told so sends the same request again
    assert len(control.list()) == 1


# --- sent again


def test_a_requeued_request_is_a_new_one_whose_answer_nobody_gets(system: CoreSystem, control: Control) -> None:
    die(system, 1)
    system.take("C1")
    assert control.ask(dead_services.REQUEUE, **ALL)["requeued"] == 1
    assert control.list() == [] and system.core.requests.count == 1
    system.worker("W9")
    (task,) = system.take_tasks("W9")
    assert (task.body, task.attempt, task.ttl) == (b"1", 1, None)
    system.answer("W9", task)
    assert system.answers() == [] and system.answers("ADMIN") == []
    assert system.core.requests.count == 0 and control.list() == []


def test_who_asked_is_recorded(system: CoreSystem, control: Control) -> None:
    die(system, 1, 2, 3)
    one = control.list()[0]["id"]
    control.ask(dead_services.REQUEUE, ids=[one])
    control.ask(dead_services.DROP, service="s")
    told = {(record.event, record.client, record.count) for record in system.records}
    assert {("requeue_asked", "ADMIN", 1), ("drop_asked", "ADMIN", 2)} <= told
    texts = [record.text for record in system.records if record.event.startswith("dead_letter_requeued")]
    assert texts == [f"{one}, once C1/1"]


def test_one_that_dies_again_is_kept_again_and_still_known_as_what_it_was(system: CoreSystem, control: Control) -> None:
    die(system, 5)
    first = control.list()[0]["id"]
    for times in (1, 2):
        control.ask(dead_services.REQUEUE, **ALL)
        for number in range(3):
            system.worker(f"W{number}")
            system.lose_worker(f"W{number}")
        (letter,) = control.list()
        assert (letter["client"], letter["request"], letter["requeued"]) == ("C1", 5, times)
        assert letter["id"] != first and letter["attempts"] == 3


def test_one_that_fails_or_expires_when_sent_again_is_a_dead_letter_again(system: CoreSystem, control: Control) -> None:
    die(system, 1)
    control.ask(dead_services.REQUEUE, **ALL)
    system.worker("W9")
    (task,) = system.take_tasks("W9")
    error = messages.error_body("KeyError", "no such thing")
    system.tell(worker_said(b"W9", [Answer(task.id, Status.FAILED, error), Goodbye()]))
    (letter,) = control.list()
    assert (letter["kind"], letter["error"], letter["requeued"]) == ("KeyError", "no such thing", 1)
    control.ask(dead_services.REQUEUE, all=True, ttl_s=5.0)
    system.wait(4.0)
    assert control.list() == []
    system.wait(2.0)
    (letter,) = control.list()
    assert (letter["kind"], letter["requeued"], letter["attempts"]) == ("expired", 2, 0)


def test_no_more_is_sent_again_than_the_broker_may_have() -> None:
    system = CoreSystem(requests_max=2)
    system.client("C1")
    system.client("ADMIN")
    control = Control(system)
    for number in (1, 2, 3):
        die(system, number)
    done = control.ask(dead_services.REQUEUE, **ALL)
    assert (done["requeued"], done["left"]) == (1, 2) and "--requests-max" in done["refused"]
    assert [letter["request"] for letter in control.list()] == [2, 3]
    assert control.ask(dead_services.DROP, **ALL)["dropped"] == 2, "also while the broker is full"


def test_a_limit_leaves_the_rest(system: CoreSystem, control: Control) -> None:
    die(system, 1, 2, 3)
    assert control.ask(dead_services.REQUEUE, all=True, limit=2)["left"] == 1
    assert control.ask(dead_services.DROP, all=True, limit=1) == {"dropped": 1, "left": 0, "missing": []}
    assert system.core.requests.count == 2


def test_a_broker_that_stops_does_not_wait_for_what_was_sent_again() -> None:
    system = CoreSystem()
    system.client("C1")
    system.client("ADMIN")
    die(system, 1)
    Control(system).ask(dead_services.REQUEUE, **ALL)
    system.tell(StopRequested(system.now + 10.0))
    assert any(isinstance(order, Stop) for order in system.others)


def test_the_names_of_dead_letters_begin_with_six_characters_of_the_brokers_boot() -> None:
    core = BrokerCore(boot="abcdefghij", limits=Limits(attempts_max=1))
    core.step([client_said(b"C1", [messages.ClientHello("C1", "b"), messages.Request(1, "s", b"x")])], 0.0)
    core.step([worker_said(b"W1", [messages.WorkerHello("W1", "b", ["s"], 1, 1)])], 0.0)
    core.step([PeerLost(Side.WORKER, b"W1")], 1.0)
    (letter,) = core.requests.dead
    assert letter.id.startswith("abcdef") and not letter.id.startswith("abcdefg")
