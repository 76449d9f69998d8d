"""Dead letters in the journal: they survive the broker, with their stories, and are carried along."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.broker import dead_services
from cbw.core.broker import journal as journal_module
from cbw.core.broker.looks import LIST_REQUESTS, SHOW_STATUS
from cbw.core.broker.replay import Replay
from cbw.core.broker.schemas import SCHEMA
from cbw.core.broker.service_list import SERVICES
from cbw.core.journal_records import Batch
from cbw.core.messages import Collect, Goodbye, Request, Start, Status
from cbw.wire.journal import encode_batch

from .control import Control, dead_of, die
from .journaled import Journaled
from .system import client_said


@pytest.fixture
def journaled() -> Journaled:
    system = Journaled()
    system.client("C1")
    system.client("ADMIN")
    return system


def test_they_survive_a_crash(journaled: Journaled) -> None:
    control = Control(journaled)
    die(journaled, 1)
    journaled.wait(5.0)
    die(journaled, 2, why="exit code 7")
    before = [control.ask(dead_services.SHOW, id=letter["id"]) for letter in control.list()]
    journaled.crash(after_s=100.0)
    journaled.client("ADMIN")
    after = [control.ask(dead_services.SHOW, id=letter["id"]) for letter in control.list()]
    for letter in (*before, *after):  # the journal's clock is only as late as its last batch
        letter["died_ago_s"] = round(letter["died_ago_s"], 1)
    assert [letter["attempts"][0]["worker"] for letter in after] == ["W0", "W0"]
    for was, now in zip(before, after, strict=True):
        assert {k: v for k, v in was.items() if not k.endswith("_s") and k != "attempts"} == {
            k: v for k, v in now.items() if not k.endswith("_s") and k != "attempts"
        }
        assert now["accepted_ago_s"] == pytest.approx(was["accepted_ago_s"], abs=1.0)
    journaled.client("C1")
    die(journaled, 3)
    assert len({letter["id"] for letter in control.list()}) == 3, "no id is given twice"


def test_attempts_before_a_crash_belong_to_the_story(journaled: Journaled) -> None:
    journaled.ask(1)
    for number in range(2):
        journaled.worker(f"W{number}")
        journaled.lose_worker(f"W{number}")
    journaled.wait(0.1)
    journaled.crash()
    journaled.client("ADMIN")
    journaled.worker("W9")
    journaled.lose_worker("W9")
    (letter,) = dead_of(journaled)
    assert [attempt.worker for attempt in letter.attempts] == ["W0", "W1", "W9"]
    ends = [attempt.ended_at for attempt in letter.attempts]
    assert ends == sorted(ends) and letter.accepted_at <= letter.attempts[0].begun_at


def test_the_client_is_told_of_a_dead_letter_only_when_it_is_stored() -> None:
    system = Journaled(is_slow=True)
    system.client("C1")
    system.store()
    system.ask(1)
    system.store()
    for number in range(3):
        system.worker(f"W{number}")
        system.lose_worker(f"W{number}")
    assert system.answers() == []
    system.crash()
    assert len(dead_of(system)) == 0 and system.core.requests.count == 1, "and neither was lost"
    system.store()


def test_what_was_dropped_or_sent_again_is_so_after_a_crash(journaled: Journaled) -> None:
    control = Control(journaled)
    die(journaled, 1, 2, 3)
    one, two, _ = [letter["id"] for letter in control.list()]
    control.ask(dead_services.DROP, ids=[one])
    control.ask(dead_services.REQUEUE, ids=[two])
    journaled.crash()
    assert [letter.request for letter in dead_of(journaled)] == [3]
    assert journaled.core.requests.count == 1
    journaled.worker("W9")
    assert journaled.bodies("W9") == [2]
    journaled.lose_worker("W9")
    for number in range(2):
        journaled.worker(f"W{number}")
        journaled.lose_worker(f"W{number}")
    (three, again) = dead_of(journaled)
    assert (again.client, again.request, again.requeued) == ("C1", 2, 1) and three.request == 3


def test_an_act_whose_answer_is_lost_is_not_done_twice(journaled: Journaled) -> None:
    die(journaled, 1, 2)
    act = Request(77, dead_services.DROP, b'{"all": true, "limit": 1}')
    journaled.tell(client_said(b"ADMIN", [act]))
    assert journaled.answers("ADMIN") == [(77, Status.OK)]
    journaled.crash()
    journaled.client("ADMIN")
    journaled.tell(client_said(b"ADMIN", [act]))
    assert journaled.answers("ADMIN") == [(77, Status.OK)] and len(dead_of(journaled)) == 1


def test_a_stalled_journal_refuses_acts_and_answers_looks() -> None:
    system = Journaled(is_slow=True)
    system.client("C1")
    system.client("ADMIN")
    system.store()
    system.ask(1)
    looks = (dead_services.LIST, SHOW_STATUS, LIST_REQUESTS, SERVICES, SCHEMA)
    asked = [Request(number, service, b"") for number, service in enumerate(looks, 1)]
    told = [(request.id, Status.OK) for request in asked]
    system.tell(client_said(b"ADMIN", asked))
    assert system.answers("ADMIN") == told, "before anybody knows that nothing is stored"
    system.wait(3.0)
    system.tell(client_said(b"ADMIN", [*asked, Request(9, dead_services.DROP, b'{"all": true}')]))
    assert system.answers("ADMIN") == [*told, (9, Status.BUSY)]
    system.store()


def test_looks_are_not_written_to_the_journal(journaled: Journaled) -> None:
    journaled.client("ADMIN")
    stored = len(journaled.stored)
    journaled.tell(client_said(b"ADMIN", [Request(1, SHOW_STATUS, b"")]))
    assert journaled.answers("ADMIN") == [(1, Status.OK)]
    journaled.wait(2.0)
    assert len(journaled.stored) == stored


def test_the_answer_to_a_look_under_a_ticket_is_stored(journaled: Journaled) -> None:
    """Somebody may come for it when this broker is long gone."""
    journaled.client("C1")
    journaled.tell(client_said(b"C1", [Start(1, "7", SHOW_STATUS, b"")]))
    journaled.crash()
    journaled.client("C1")
    journaled.tell(client_said(b"C1", [Collect(2, "7")]))
    assert (2, Status.OK) in journaled.answers("C1")


def test_smaller_bounds_at_the_next_start(journaled: Journaled) -> None:
    die(journaled, 1, 2, 3)
    journaled.limits = {"dead_max": 1}
    journaled.crash()
    assert [letter.request for letter in dead_of(journaled)] == [3]
    journaled.wait(0.2)
    journaled.crash()
    assert [letter.request for letter in dead_of(journaled)] == [3]


def test_they_are_carried_along_when_the_journal_is_compacted(
    journaled: Journaled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SLACK_BYTES", 20_000)
    monkeypatch.setattr(journal_module, "COMPACT_BYTES", 1000)
    die(journaled, 1, 2)
    journaled.ask(900, service="u")
    journaled.worker("U", services=("u",))
    journaled.lose_worker("U")  # its story has to be carried along too
    journaled.worker("W1", services=("t",))
    for number in range(1000, 1500):
        journaled.ask(number, service="t")
        journaled.answer_all("W1")
        journaled.tell(client_said(b"C1", [messages.Received([number])]))
        journaled.wait(0.05, "W1")
    journaled.tell(client_said(b"C1", [messages.Received([1, 2])]))
    journaled.wait(0.2, "W1")
    assert min(journaled.stored) > 30 and sum(map(len, journaled.stored.values())) < 60_000
    for _ in range(2):
        journaled.crash()
        assert [(letter.request, len(letter.attempts)) for letter in dead_of(journaled)] == [(1, 3), (2, 3)]
    for number in range(2):
        journaled.worker(f"U{number}", services=("u",))
        journaled.lose_worker(f"U{number}")
    last = list(dead_of(journaled))[-1]
    assert [attempt.worker for attempt in last.attempts] == ["U", "U0", "U1"]


def test_they_are_among_what_is_still_needed_of_a_journal(journaled: Journaled) -> None:
    die(journaled, 1)
    journaled.ask(2)
    journaled.worker("W1")
    journaled.lose_worker("W1")
    journaled.wait(0.2)
    replay = Replay()
    for position, data in journaled.stored.items():
        replay.read(position, data)
    journaled.stored = {replay.position + 1: encode_batch(Batch(replay.at, list(replay.records())))}
    journaled.crash()
    assert [(letter.request, len(letter.attempts)) for letter in dead_of(journaled)] == [(1, 3)]
    for number in range(2):
        journaled.worker(f"W{number}")
        journaled.lose_worker(f"W{number}")
    assert [(letter.request, len(letter.attempts)) for letter in dead_of(journaled)] == [(1, 3), (2, 3)]


def test_a_client_that_is_gone_takes_no_dead_letter_with_it(journaled: Journaled) -> None:
    die(journaled, 1)
    journaled.tell(client_said(b"C1", [Goodbye()]))
    journaled.wait(0.2)
    journaled.crash()
    assert len(dead_of(journaled)) == 1
