"""What peers can grow is counted at what it takes, and has a bound."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.broker.memory import memory_of, memory_of_body
from cbw.core.messages import Parts, Refusal, Refused, Status
from cbw.wire import lab, native
from tests.unit.core.broker.system import CoreSystem

REQUEST_BYTES = 350
"""What every request takes beside its body in the tables of a core that records nothing (measured)."""
SHAPES = {"one frame": (1, 4000), "few": (20, 9), "many small": (2000, 9), "many": (200, 100), "two large": (2, 50_000)}


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_requests_are_counted_at_what_they_take(shape: str) -> None:
    """In a process of its own, by its resident memory: bodies of 2,000 small frames took eight times what was counted."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, *map(str, SHAPES[shape])],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    count, taken, counted = map(int, done.stdout.split())
    assert 0.7 < (counted + count * REQUEST_BYTES) / taken < 1.3, (taken / count, counted / count)


def test_a_usual_request_is_counted_by_its_body() -> None:
    request = messages.Request(1, "s", b"x" * 100)
    assert memory_of(request, ()) == memory_of(request, (b"",)) == 100


def test_frames_envelopes_and_views_are_counted() -> None:
    assert memory_of_body(Parts((b"x",) * 2000)) > 2000 * 45
    assert memory_of(messages.Request(1, "s", b"x"), (b"i" * 250, b"")) > 250
    assert memory_of_body(memoryview(b"x" * 40_000)) > 40_000  # type: ignore[arg-type]


@pytest.mark.parametrize("headers", [None, {"trace": "x" * 2000, "tenant": "t"}])
@pytest.mark.parametrize("body", [Parts((b"x",) * 50), b"x"])
def test_what_was_counted_is_given_back(body: bytes, headers: dict[str, str] | None) -> None:
    system = CoreSystem()
    request = messages.Request(1, "s", body, headers=headers)
    assert headers is None or memory_of(request, ()) > 2000
    system.client("C1")
    system.tell(events.ClientSaid(b"C1", [request], native.CLIENT))
    assert system.core.requests.bytes == memory_of(request, ())
    system.worker("W1", services=("s",), credit=1)
    system.answer_all("W1")
    assert system.core.requests.bytes == 0


def test_a_small_body_in_a_frame_of_its_own_does_not_keep_what_came_with_it() -> None:
    """libzmq receives many messages into one piece of memory, which a view of any of them keeps."""
    batch = [messages.Request(1, "s", b""), messages.Attached([0])]
    small, large = memoryview(b"x"), memoryview(bytes(native.FRAME_BYTES))
    for body, kind in ((small, bytes), (large, memoryview)):
        (request,) = native.from_client([native.MAGIC, msgspec.msgpack.encode(batch), body])
        assert type(request.body) is kind


# --- services


def test_workers_register_no_more_services_than_are_allowed() -> None:
    system = CoreSystem(services_max=5)
    system.worker("W1", services=("a", "b", "c"), credit=1)
    system.take("W1")
    system.worker("W2", services=("a", "b", "d"), credit=1)
    (refused,) = system.take("W2")
    assert isinstance(refused, Refused) and refused.reason is Refusal.BAD_HELLO
    assert "--services-max" in refused.text and "3 services here already" in refused.text
    system.worker("W3", services=("a", "b"), credit=1)
    assert system.said("W3", messages.Welcome)
    system.lose_worker("W1")
    system.worker("W2", services=("a", "b", "d"), credit=1)
    assert system.said("W2", messages.Welcome), "there is room again"


def test_a_worker_that_says_hello_again_counts_once() -> None:
    system = CoreSystem(services_max=3)
    for _ in range(3):
        system.worker("W1", services=("a", "b", "c"), credit=1)
        assert system.said("W1", messages.Welcome)


def test_requests_wait_for_no_more_services_than_are_allowed() -> None:
    system = CoreSystem(services_max=3)
    system.client("C1")
    for number in range(5):
        system.ask(number + 1, service=f"s{number}")
    assert system.answers() == [(4, Status.BUSY), (5, Status.BUSY)]
    system.ask(6, service="s0")
    assert system.answers() == [], "one that is known takes nothing more"
    system.worker("W1", services=("new",), credit=1)
    assert system.said("W1", messages.Welcome), "workers have their share whatever clients ask for"


def _measure(frames: int, size: int) -> None:
    """Print how many requests of that shape a broker has, what they have taken, and what was counted for them."""
    core = CoreSystem(is_tracing=False).core
    count = 40_000_000 // (frames * (2 * size + 60) + 600)
    first = number = 200
    before = 0
    for number in range(first + count):
        if number == first:
            gc.collect()
            before, counted = _resident(), core.requests.bytes
        body = [os.urandom(size) for _ in range(frames)]
        peer = b"c%d" % (number % 20)
        core.step([events.ClientSaid(peer, lab.CLIENT.read(peer, [b"%06d" % number, b"", *body]), lab.CLIENT)], 0.0)
    gc.collect()
    print(count, _resident() - before, core.requests.bytes - counted)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    _measure(int(sys.argv[1]), int(sys.argv[2]))
