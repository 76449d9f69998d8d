"""What the broker tells of requests, and why they wait, in words that a person can act on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cbw.core import messages
from cbw.core.broker import acts, events, looks
from cbw.core.broker.finding import LOOKED_MAX
from cbw.core.broker.reasons import Clause, in_english, time_text
from cbw.core.broker.why import ROW_LOOKED_MAX
from cbw.core.messages import Request, Status

from .control import Control, die
from .system import CoreSystem, client_said, plain_said, worker_said


@pytest.fixture
def system() -> CoreSystem:
    made = CoreSystem()
    made.client("C1")
    made.client("ADMIN")
    return made


@pytest.fixture
def control(system: CoreSystem) -> Control:
    return Control(system)


def why(control: Control, request: str) -> str:
    text: str = control.ask(looks.TELL_WHY, request=request)["text"]
    return text


def story(told: dict[str, Any]) -> list[tuple[float, str, str, str]]:
    return [(round(step["ago_s"], 3), step["event"], step["worker"], step["text"]) for step in told["story"]]


# --- why


def test_it_waits_behind_others_for_workers_that_are_busy(system: CoreSystem, control: Control) -> None:
    system.worker("W1", services=("render",))
    system.worker("W2", services=("render",))
    system.ask(1, 2, service="render")
    system.wait(2.0, "W1", "W2")
    system.answer_all("W1")
    system.answer_all("W2")  # each needs 2 s
    system.ask(3, service="render")
    system.wait(5.0, "W1", "W2")
    system.ask(4, service="render")
    system.wait(4.0, "W1", "W2")
    system.ask(5, 6, 7, service="render")
    told = control.ask(looks.TELL_WHY, request="C1/7")
    assert told["text"] == (
        "waits for service render: 2 before it, 2 workers busy for 4 s and 9 s, about 3 s; nobody idle may serve it"
    )
    assert (told["state"], told["before"], told["about_s"]) == ("waiting", 2, pytest.approx(3.0))
    assert why(control, "C1/3") == "worker W1 has had it for 9 s"


def test_nobody_serves_it_and_another_name_is_near(system: CoreSystem, control: Control) -> None:
    system.worker("W1", services=("echo",))
    system.ask(1, service="ecko")
    assert why(control, "C1/1") == "no worker here serves 'ecko'; did you mean 'echo'?"


def test_workers_want_nothing(system: CoreSystem, control: Control) -> None:
    system.worker("W1")
    system.tell(worker_said(b"W1", [messages.Credit(0)]))
    system.ask(1)
    assert why(control, "C1/1") == "waits for service s: none of its 1 workers wants more work (0 drained)"


def test_it_is_delayed_or_to_be_tried_again(system: CoreSystem, control: Control) -> None:
    system.worker("W1")
    system.tell(client_said(b"C1", [Request(1, "s", b"1", delay_s=60.0)]))
    assert why(control, "C1/1") == "it is not handed out for another 60 s, as its client has asked"
    system.ask(2)
    (task,) = system.take_tasks("W1")
    error = messages.error_body("ValueError", "not yet")
    system.tell(worker_said(b"W1", [messages.Answer(task.id, Status.RETRY, error, 30.0)]))
    assert why(control, "C1/2") == (
        "it is not handed out for another 30 s; its handler failed once, at last with ValueError: not yet"
    )


def test_it_is_with_a_worker_that_has_others_to_do_first(system: CoreSystem, control: Control) -> None:
    system.worker("W1", credit=3)
    system.ask(1, 2, 3)
    system.wait(1.0, "W1")
    assert why(control, "C1/3") == "worker W1 has had it for 1 s and works on 2 others that it got before"
    system.lose_worker("W1")
    system.worker("W2")
    assert why(control, "C1/1") == "worker W2 has had it for 0 s; 1 attempt has failed"
    told = control.ask(looks.TELL_WHY, request="C1/3")
    assert told["text"].startswith("waits for service s: 1 before it, 1 worker busy for 0 s; as it may be to blame")
    assert story(told) == [
        (1.0, "accepted", "", ""),
        (1.0, "handed_out", "W1", ""),
        (0.0, "attempt_failed", "W1", "lost its connection"),
    ]


def test_it_was_given_up(system: CoreSystem, control: Control) -> None:
    die(system, 7)
    told = control.ask(looks.TELL_WHY, request="C1/7")
    assert told["state"] == "dead" and "3 workers failed at it" in told["text"] and "cbw dead show" in told["text"]
    events_told = [event for _, event, _, _ in story(told)]
    assert events_told == ["accepted", *["handed_out", "attempt_failed"] * 3, "gave_up"]


def test_the_story_of_one_that_is_tried_again(system: CoreSystem, control: Control) -> None:
    system.worker("W1")
    system.ask(1)
    system.wait(2.0, "W1")
    (task,) = system.take_tasks("W1")
    error = messages.error_body("ValueError", "not yet")
    system.tell(worker_said(b"W1", [messages.Answer(task.id, Status.RETRY, error, 30.0)]))
    failed = [(2.0, "handed_out", "W1", ""), (0.0, "attempt_failed", "W1", "ValueError: not yet")]
    told = story(control.ask(looks.TELL_WHY, request="C1/1"))
    assert told == [(2.0, "accepted", "", ""), *failed, (0.0, "delayed", "", "for another 30 s")]
    system.wait(30.5, "W1")
    steps = [step[1:] for step in story(control.ask(looks.TELL_WHY, request="C1/1"))]
    assert steps == [("accepted", "", ""), *[step[1:] for step in failed], ("handed_out", "W1", "")]


def test_its_answer_waits_for_its_client(system: CoreSystem, control: Control) -> None:
    system.worker("W1")
    system.ask(1)
    system.tell(events.PeerLost(events.Side.CLIENT, b"C1"))
    system.answer_all("W1")
    assert why(control, "C1/1") == "it has ended, and its client is away"


@pytest.mark.parametrize("name", ["C1/1", "C9/1", "C1/", "C1", "", "ticket/T", "C1/" + "9" * 5000, "C1/¹"])
def test_it_is_not_here(control: Control, name: str) -> None:
    status, text = control.error(looks.TELL_WHY, b'{"request": "%s"}' % name.encode())
    assert status is Status.FAILED and text.startswith("no request ")


# --- lists


def test_requests_are_listed_by_their_state_longest_first(system: CoreSystem, control: Control) -> None:
    system.worker("W1")
    system.ask(1)
    system.wait(1.0, "W1")
    system.tell(client_said(b"C1", [Request(2, "s", b"2", delay_s=60.0)]))
    system.tell(plain_said(b"REQ", (b"",), b"hello"))
    system.ask(3, ttl=30.0)
    system.wait(1.0, "W1")
    system.ask(4)
    page = control.ask(looks.LIST_REQUESTS)
    listed = [(one["request"], one["state"], one["worker"], one["in_state_s"]) for one in page["requests"]]
    assert listed == [
        ("C1/1", "running", "W1", 2.0),
        ("C1/3", "waiting", None, 1.0),
        ("REQ/1", "waiting", None, 1.0),
        ("C1/2", "delayed", None, 1.0),
        ("C1/4", "waiting", None, 0.0),
    ]
    assert (page["matching"], page["is_complete"]) == (5, True)
    assert [one["due_s"] for one in page["requests"]] == [None, None, None, 59.0, None]
    assert [one["deadline_s"] for one in page["requests"]] == [None, 29.0, None, None, None]

    def names(**query: Any) -> list[str]:
        return [one["request"] for one in control.ask(looks.LIST_REQUESTS, **query)["requests"]]

    assert names(state="waiting", service="s") == ["C1/3", "C1/4"]
    assert names(client="REQ") == ["REQ/1"]
    assert names(older_than_s=1.5) == ["C1/1"]
    assert names(limit=2, offset=1) == ["C1/3", "REQ/1"]
    assert control.error(looks.LIST_REQUESTS, b'{"state": "lost"}')[0] is Status.BAD_REQUEST
    assert control.error(looks.LIST_REQUESTS, b'{"limit": 1001}')[0] is Status.BAD_REQUEST


def test_of_very_many_requests_some_are_looked_at(control: Control, system: CoreSystem) -> None:
    many = [Request(number, "s", b"") for number in range(1, LOOKED_MAX + 2)]
    system.core.step([client_said(b"C1", many)], system.now)
    page = control.ask(looks.LIST_REQUESTS, limit=1)
    assert (page["matching"], page["is_complete"]) == (LOOKED_MAX, False)
    system.worker("W1", services=("s",))
    told = control.ask(looks.TELL_WHY, request=f"C1/{LOOKED_MAX}")
    assert told["before"] is not None  # one has been handed out
    more = [Request(LOOKED_MAX + number, "s", b"") for number in (2, 3)]
    system.core.step([client_said(b"C1", more)], system.now)
    assert control.ask(looks.TELL_WHY, request=f"C1/{LOOKED_MAX}")["before"] == LOOKED_MAX - 2
    assert "more than can be counted" in why(control, f"C1/{LOOKED_MAX + 3}")


# --- why, of the rows of a list


def test_rows_tell_why_as_one_is_told_who_asks_for_it(system: CoreSystem, control: Control) -> None:
    system.worker("W1", services=("render", "held"))
    system.ask(1, 2, 3, service="render")
    system.ask(4, service="rendr")
    control.ask(acts.PAUSE, services=["held"])
    system.ask(5, service="held")
    system.wait(12.0, "W1")
    rows = control.ask(looks.LIST_REQUESTS, why=True)["requests"]
    told = {row["request"]: row["why"] for row in rows}
    assert told == {
        "C1/1": "worker W1 has had it for 12 s",
        "C1/2": "waits for service render: 0 before it, 1 worker busy for 12 s; nobody idle may serve it",
        "C1/3": "waits for service render: 1 before it, 1 worker busy for 12 s; nobody idle may serve it",
        "C1/4": "no worker here serves 'rendr'; did you mean 'render'?",
        "C1/5": "service held is paused; cbw resume lets it go on",
    }
    for row in rows:
        clauses = msgspec.convert(row["clauses"], list[Clause])
        assert in_english(clauses) == row["why"]
        system.wait(1.0, "W1")  # otherwise names are not compared again
        assert [one.kind for one in clauses] == [
            one["kind"] for one in control.ask(looks.TELL_WHY, request=row["request"])["clauses"]
        ]
    assert [row["why"] for row in control.ask(looks.LIST_REQUESTS)["requests"]] == [None] * 5


def test_several_names_that_nobody_serves_are_compared_one_at_a_time(system: CoreSystem, control: Control) -> None:
    """They are told again without another comparison, so that many of them do not slow the broker."""
    system.worker("W1", services=("render", "echo"))
    system.ask(1, service="rendr")
    system.ask(2, service="ecko")

    def suggested() -> list[str]:
        rows = control.ask(looks.LIST_REQUESTS, why=True)["requests"]
        return [row["why"].partition("; did you mean ")[2] for row in rows]

    assert suggested() == ["'render'?", ""]
    system.wait(0.1, "W1")
    assert suggested() == ["'render'?", "'echo'?"]
    assert suggested() == ["'render'?", "'echo'?"]
    system.lose_worker("W1")
    system.worker("W2", services=("other",))
    for _ in range(8):
        system.wait(1.0, "W2")
        told = suggested()
    assert told == ["", ""], "they are compared again from time to time"


def test_what_is_remembered_of_names_and_told_of_rows_is_bounded(system: CoreSystem, control: Control) -> None:
    system.worker("W1", services=("render",))
    for number in range(2 * looks.REASONS_MAX):
        system.ask(number, service=f"rendr{number}")
    rows = control.ask(looks.LIST_REQUESTS, why=True)["requests"]
    assert [row["why"] is not None for row in rows] == [True] * looks.REASONS_MAX + [False] * looks.REASONS_MAX


def test_a_row_looks_at_few_requests(system: CoreSystem, control: Control) -> None:
    system.worker("W1")
    system.ask(1)
    system.tell(client_said(b"C1", [Request(2, "s", b"", priority=0)]))
    system.wait(0.1, "W1")
    many = [Request(number, "s", b"") for number in range(3, ROW_LOOKED_MAX + 10)]
    system.core.step([client_said(b"C1", many)], system.now)
    rows = control.ask(looks.LIST_REQUESTS, state="waiting", why=True, limit=9)["requests"]
    told = {row["request"]: row["why"] for row in rows}
    assert "s: 4 before it" in told["C1/7"]
    assert "more than can be counted before it" in told["C1/2"], "it comes last"
    assert f"{len(many)} before it" in why(control, "C1/2")


def test_a_worker_whose_slots_other_brokers_have_is_elsewhere_and_will_take_requests(
    system: CoreSystem, control: Control
) -> None:
    """It is not leaving, as one that wants nothing more."""
    for name in ("W1", "W2"):
        system.worker(name)
        system.tell(worker_said(name.encode(), [messages.Credit(0, is_shared=True)]))
    system.worker("W3")
    system.tell(worker_said(b"W3", [messages.Credit(0)]))
    system.ask(1)
    rows = {row["worker"]: row for row in control.ask(looks.LIST_WORKERS)["workers"]}
    assert [rows[name]["state"] for name in ("W1", "W2", "W3")] == ["elsewhere", "elsewhere", "leaving"]
    assert [rows[name]["is_shared"] for name in ("W1", "W2", "W3")] == [True, True, False]
    assert control.ask(looks.LIST_WORKERS, takes_requests=True)["matching"] == 2
    assert why(control, "C1/1") == (
        "waits for service s: other brokers have all slots of its workers (2), and give the next that comes free"
    )
    status = control.ask(looks.SHOW_STATUS)
    assert (status["shared_workers"], status["worker_states"]["elsewhere"]) == (2, 2)
    assert status["verdict"]["kind"] == "drained", "of three workers one is not elsewhere"
    system.tell(worker_said(b"W3", [messages.Goodbye()]))
    told = control.ask(looks.SHOW_STATUS)["verdict"]
    assert (told["kind"], told["waiting"], told["workers"]) == ("elsewhere", 1, 2)
    system.tell(worker_said(b"W1", [messages.Credit(1, is_shared=True)]))
    rows = {row["worker"]: row for row in control.ask(looks.LIST_WORKERS)["workers"]}
    assert (rows["W1"]["state"], rows["W2"]["state"]) == ("busy", "elsewhere")


def test_times_are_told_as_people_say_them() -> None:
    times = (0.0, 0.0123, 9.87, 99.96, 123.4, 599.0, 600.0, 36000.0, 864000.0)
    told = ["0 s", "0.0123 s", "9.87 s", "100 s", "123 s", "599 s", "10.0 min", "10.0 h", "10.0 d"]
    assert [time_text(seconds) for seconds in times] == told
    assert [time_text(seconds, 2) for seconds in (0.123, 99.6, 123.4)] == ["0.12 s", "100 s", "123 s"]


def test_workers_are_listed_with_what_they_are_at(system: CoreSystem, control: Control) -> None:
    system.worker("W1")
    system.worker("W2", services=("other",))
    system.ask(1)
    system.wait(2.0, "W1", "W2")
    system.answer_all("W1")
    system.wait(2.0, "W1", "W2")
    system.ask(2)
    page = control.ask(looks.LIST_WORKERS, service="s")
    (worker,) = page["workers"]
    assert (worker["worker"], worker["at"], worker["at_s"]) == ("W1", "C1/2", 0.0)
    assert (worker["mean_s"], worker["busy"]) == (pytest.approx(2.0), pytest.approx(0.5))
    assert page["matching"] == 1 and control.ask(looks.LIST_WORKERS, state="free")["matching"] == 1
    shown = control.ask(looks.SHOW_STATUS)
    assert [(row["service"], row["running"]) for row in shown["services"]] == [("s", 1), ("other", 0)]
