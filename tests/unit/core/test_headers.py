"""Headers in the cores: their bounds, and where they go."""

from __future__ import annotations

import pytest

import cbw
from cbw.core import messages
from cbw.core.broker import events
from cbw.core.headers import HEADERS_BYTES_MAX, HEADERS_MAX, memory_of_headers, why_bad_headers
from cbw.core.messages import Status
from cbw.testing import System
from cbw.wire import native
from tests.unit.core.broker.system import CoreSystem


def test_bounds() -> None:
    assert why_bad_headers({str(number): "" for number in range(HEADERS_MAX)}) == ""
    assert why_bad_headers({"a": "x" * (HEADERS_BYTES_MAX - 1)}) == ""
    assert why_bad_headers({"a": "ñ" * (HEADERS_BYTES_MAX // 2)})
    assert memory_of_headers(None) == 0 < memory_of_headers({"a": ""})


@pytest.mark.parametrize("headers", [{"a": "x" * HEADERS_BYTES_MAX}, {str(n): "" for n in range(HEADERS_MAX + 1)}])
def test_a_broker_refuses_too_much(headers: dict[str, str]) -> None:
    """Whatever the client is: memory is bounded (G9)."""
    system = CoreSystem()
    system.client("C1")
    system.tell(events.ClientSaid(b"C1", [messages.Request(1, "s", b"x", headers=headers)], native.CLIENT))
    assert system.answers("C1") == [(1, Status.BAD_REQUEST)]
    assert system.core.requests.count == system.core.requests.bytes == 0


def test_headers_go_with_every_attempt_and_with_a_dead_letter_that_is_sent_again() -> None:
    seen: list[dict[str, str]] = []

    with System() as system:

        def fail(context: cbw.Context) -> None:
            seen.append(dict(context.headers))
            raise cbw.Retry(after_s=1)

        system.worker({"s": fail}, retries=1)
        request = system.submit(b"", "s", headers={"tenant": "t"})
        with pytest.raises(cbw.HandlerFailed):
            request.result()
        (letter,) = system.broker.requests.dead
        system.call({"ids": [letter.id]}, "cbw.dead.requeue")
        system.pass_time(10)
    assert seen == [{"tenant": "t"}] * 4
