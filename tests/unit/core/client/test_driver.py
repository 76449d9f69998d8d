"""The client's driver: in what order it tells the core, and what it does with the orders."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cbw.core import messages
from cbw.core.client.core import ClientCore
from cbw.core.client.driver import ClientDriver
from cbw.core.client.events import Ended
from cbw.core.messages import Status
from cbw.core.port import UNSENT_RETRY_S

WELCOME = messages.Welcome("BRO", "boot", 3.0, 1 << 20)
HELLO = messages.ClientHello("C1", "boot")


class Link:
    """A connection that has room for ``room`` messages."""

    def __init__(self) -> None:
        self.changes: list[bool] = []
        self.inbox: list[list[messages.Message]] = []
        self.sent: list[messages.Message] = []
        self.room = 1000

    def watch(self) -> Iterator[bool]:
        while self.changes:
            yield self.changes.pop(0)

    def receive(self) -> list[messages.Message] | None:
        return self.inbox.pop(0) if self.inbox else None

    def send(self, batch: list[messages.Message]) -> list[messages.Message]:
        sent, unsent = batch[: self.room], batch[self.room :]
        self.room -= len(sent)
        self.sent += sent
        return unsent

    def take_sent(self) -> list[messages.Message]:
        sent, self.sent = self.sent, []
        return sent


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def driver(link: Link) -> ClientDriver:
    """A driver whose client the broker knows."""
    driver = ClientDriver(ClientCore("C1", "boot"), link)
    link.changes.append(True)
    link.inbox.append([WELCOME])
    driver.turn(0.0, has_changes=True)
    assert link.take_sent() == [HELLO]
    return driver


def ok(number: int) -> messages.Answer:
    return messages.Answer(number, Status.OK, b"done")


def request(number: int) -> messages.Request:
    return messages.Request(number, "s", b"x")


def sinks(ended: list[Ended]) -> list[object]:
    return [end.sink for end in ended]


def test_what_was_submitted_leaves_with_the_next_flush(driver: ClientDriver, link: Link) -> None:
    assert driver.submit("s", [b"x", b"x"], None, "sink") == range(1, 3)
    assert driver.submit("s", [b"x"], None, "sink") == range(3, 4)
    assert (driver.has_news, driver.in_flight, link.sent) == (True, 3, [])
    assert driver.flush(1.0) == []
    assert link.take_sent() == [request(1), request(2), request(3)]
    assert (driver.has_news, driver.in_flight) == (False, 3)


def test_answers_end_requests(driver: ClientDriver, link: Link) -> None:
    driver.submit("s", [b"x", b"x", b"x"], None, "sink")
    link.inbox += [[ok(1)], [ok(3), ok(2)]]
    assert [end.answer.id for end in driver.turn(1.0, has_changes=False)] == [1, 3, 2]
    assert (driver.submitted, driver.in_flight) == (3, 0)


def test_the_link_is_not_asked_again_when_nothing_more_is_owed(driver: ClientDriver, link: Link) -> None:
    driver.submit("s", [b"x"], None, "sink")
    link.inbox += [[ok(1)], [messages.Beat()]]
    assert len(driver.turn(1.0, has_changes=False)) == 1
    assert link.inbox == [[messages.Beat()]]


def test_a_cancel_comes_before_an_answer_that_is_read_after_it(driver: ClientDriver, link: Link) -> None:
    driver.submit("s", [b"x"], None, "sink")
    driver.flush(1.0)
    driver.cancel([1])
    link.inbox.append([ok(1)])
    (ended,) = driver.turn(1.0, has_changes=False)
    assert ended.answer.status is Status.CANCELLED


def test_what_there_is_no_room_for_comes_back_to_the_core_at_once(driver: ClientDriver, link: Link) -> None:
    """Before anything else can be ordered to be sent, which would overtake it."""
    link.room = 1
    driver.submit("s", [b"x", b"x"], None, "sink")
    driver.flush(1.0)
    link.room = 10
    driver.submit("s", [b"x"], None, "sink")
    driver.flush(1.0)
    assert link.take_sent() == [request(1)]
    assert driver.wake_at == 1.0 + UNSENT_RETRY_S
    driver.turn(driver.wake_at, has_changes=False)
    assert link.take_sent() == [request(2), request(3)]


def test_resent_requests_are_reported(link: Link) -> None:
    reported: list[list[int]] = []
    driver = ClientDriver(ClientCore("C1", "boot"), link, on_resent=lambda ids: reported.append(list(ids)), first_id=5)
    driver.submit("s", [b"x", b"x"], None, "sink")
    link.changes.append(True)
    link.inbox.append([WELCOME])
    driver.turn(0.0, has_changes=True)
    assert reported == []
    link.changes += [False, True]
    driver.turn(1.0, has_changes=True)
    assert reported == [[5, 6]]


def test_what_was_answered_over_a_lost_connection_is_not_sent_again(driver: ClientDriver, link: Link) -> None:
    """Loss and next connection are told in one turn: the client stood still for a while."""
    driver.submit("s", [b"x", b"x"], None, "sink")
    driver.flush(1.0)
    link.take_sent()
    link.inbox.append([ok(1)])
    link.changes += [False, True]
    assert [end.answer.id for end in driver.turn(2.0, has_changes=True)] == [1]
    assert link.take_sent() == [HELLO, request(2)]


def test_close_ends_also_what_the_core_did_not_know_yet(driver: ClientDriver, link: Link) -> None:
    driver.submit("s", [b"x"], None, "first")
    driver.flush(1.0)
    driver.submit("s", [b"x"], None, "second")
    link.take_sent()
    assert sinks(driver.close(2.0)) == ["first", "second"]
    assert link.sent == [], "whoever closes may not own the socket"
    driver.say_goodbye()
    assert link.take_sent() == [messages.Goodbye()]
    assert driver.flush(3.0) == []


def test_without_a_connection_there_is_no_goodbye(link: Link) -> None:
    driver = ClientDriver(ClientCore("C1", "boot"), link)
    driver.close(1.0)
    driver.say_goodbye()
    assert link.sent == []
