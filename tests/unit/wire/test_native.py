"""CBW/1: what goes in comes out, and nothing else does."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cbw.core import messages
from cbw.core.messages import Parts, Refusal, Status
from cbw.errors import BadMessage
from cbw.wire import native

BIG = b"b" * native.FRAME_BYTES

FROM_CLIENT: list[messages.Message] = [
    messages.ClientHello("C1", "boot"),
    messages.Request(1, "s", b"body", 1.5),
    messages.Request(2, "", b""),
    messages.Request(3, "s", b"body", None, 9),
    messages.Cancel(1),
    messages.Beat(),
    messages.Goodbye(),
]
FROM_WORKER: list[messages.Message] = [
    messages.WorkerHello("W1", "boot", ["a", "b"], 2, 300),
    messages.Credit(7),
    messages.Returned([1, 2]),
    messages.Answer(1, Status.OK, b"body"),
    messages.Answer(2, Status.CRASHED, messages.error_body("crashed", "why")),
    messages.Beat(),
    messages.Goodbye(),
]
TO_CLIENT: list[messages.Message] = [
    messages.Welcome("BRO", "boot", 3.0, 1 << 20),
    messages.HelloAgain(),
    messages.Refused(Refusal.VERSION, "why"),
    messages.Answer(1, Status.OK, b"body"),
    messages.Answer(2, Status.BUSY, messages.error_body("busy", "why"), 0.25),
]
TO_WORKER: list[messages.Message] = [
    messages.Task(1, "s", b"body", None, 1),
    messages.Recall([1]),
    messages.CancelTask(1),
    messages.HelloAgain(),
]


def decoded(decoder: Any, batch: list[messages.Message]) -> list[messages.Message]:
    return [message for frames, _ in native.encode(batch) for message in decoder(frames)]


@pytest.mark.parametrize(
    ("decoder", "batch"),
    [
        (native.from_client, FROM_CLIENT),
        (native.from_worker, FROM_WORKER),
        (native.to_client, TO_CLIENT),
        (native.to_worker, TO_WORKER),
    ],
)
def test_round_trip(decoder: Any, batch: list[messages.Message]) -> None:
    assert decoded(decoder, batch) == batch


def test_nothing_to_say_is_nothing_sent() -> None:
    assert list(native.encode([])) == []


def test_big_bodies_travel_in_frames_of_their_own() -> None:
    batch: list[messages.Message] = [
        messages.Request(1, "s", b"small"),
        messages.Request(2, "s", BIG),
        messages.Request(3, "s", BIG + b"c"),
    ]
    ((frames, count),) = native.encode(batch)
    assert count == 3
    assert frames[2:] == [BIG, BIG + b"c"]
    assert len(frames[1]) < 200
    assert native.from_client(frames) == batch


def test_encoding_leaves_the_messages_alone() -> None:
    request = messages.Request(1, "s", BIG)
    list(native.encode([request]))
    assert request.body == BIG


def test_a_batch_has_a_limit_of_messages() -> None:
    batch: list[messages.Message] = [messages.Request(n, "s", b"") for n in range(native.BATCH_MESSAGES + 1)]
    assert [count for _, count in native.encode(batch)] == [native.BATCH_MESSAGES, 1]
    assert decoded(native.from_client, batch) == batch


def test_and_of_bytes() -> None:
    batch: list[messages.Message] = [messages.Request(n, "s", b"x" * 30_000) for n in range(40)]
    assert len(list(native.encode(batch))) > 1
    assert decoded(native.from_client, batch) == batch


def test_a_batch_that_is_neither_small_nor_too_large_goes_whole() -> None:
    small: list[messages.Message] = [messages.Request(n, "s", b"x" * 100) for n in range(1000)]
    assert [count for _, count in native.encode(small)] == [1000]
    with_a_big_one = [*small, messages.Request(1000, "s", BIG)]
    ((frames, count),) = native.encode(with_a_big_one)
    assert (len(frames), count) == (3, 1001)
    assert decoded(native.from_client, with_a_big_one) == with_a_big_one


def test_a_body_of_several_frames_is_sent_as_one() -> None:
    assert decoded(native.to_worker, [messages.Task(1, "s", Parts((b"a", b"b")), None, 1)]) == [
        messages.Task(1, "s", b"ab", None, 1)
    ]


def _batch(*batch: Any) -> bytes:
    return msgspec.msgpack.encode(list(batch))


@pytest.mark.parametrize(
    "frames",
    [
        [b"CBW2", _batch()],
        [b"CBW"],
        [native.MAGIC],
        [native.MAGIC, b""],
        [native.MAGIC, b"\xc1"],
        [native.MAGIC, _batch([999])],
        [native.MAGIC, _batch([11, "no number", "s", b"", None])],
        [native.MAGIC, _batch([40, 1, "s", b"", None, 1])],  # a task is not for a client to say
        [native.MAGIC, _batch([11, 1, "s"])],
        [native.MAGIC, _batch([11, 1, "s", b"", None]), b"a body that nobody claims"],
        [native.MAGIC, _batch([11, 1, "s", b"", None], [60, [1]]), b"for a message that is not there"],
        [native.MAGIC, _batch([11, 1, "s", b"", None], [60, [-1]]), b"before the first"],
        [native.MAGIC, _batch([11, 1, "s", b"", None], [60, [0, 0]]), b"two", b"for one message"],
        [native.MAGIC, _batch([12, 1], [60, [0]]), b"for a message without a body"],
        [native.MAGIC, _batch([11, 1, "s", b"", None], [60, [0]])],
    ],
)
def test_what_is_no_message_is_said_to_be_none(frames: list[bytes]) -> None:
    with pytest.raises(BadMessage):
        native.from_client(frames)


@pytest.mark.parametrize("decoder", [native.to_client, native.to_worker])
def test_a_broker_of_another_version_has_refused_us_whatever_it_says(decoder: Any) -> None:
    (refused,) = decoder([b"CBW9", b"who knows"])
    assert refused.reason is Refusal.VERSION and "CBW9" in refused.text


def test_an_error_body_that_is_none_is_read_all_the_same() -> None:
    assert messages.error_of(messages.error_body("kind", "text")) == ("kind", "text")
    assert messages.error_of(b"\xff nonsense") == ("error", "\ufffd nonsense")


def test_a_batch_of_very_many_messages() -> None:
    """A beat takes two bytes, so the bound on bytes alone would be none."""
    beats = [messages.Beat()] * native.BATCH_MESSAGES_MAX
    assert len(native.from_client([native.MAGIC, msgspec.msgpack.encode(beats)])) == len(beats)
    for count in (len(beats) + 1, 70_000):
        frame = msgspec.msgpack.encode([messages.Beat()] * count)
        with pytest.raises(BadMessage, match="a batch of more than"):
            native.from_client([native.MAGIC, frame])


def test_peers_from_before_priorities_and_hints_are_understood() -> None:
    batch = msgspec.msgpack.encode([[11, 1, "s", b"body", None]])
    assert native.from_client([native.MAGIC, batch]) == [messages.Request(1, "s", b"body", None, 5)]
    batch = msgspec.msgpack.encode([[50, 1, 5, b"body"]])
    assert native.to_client([native.MAGIC, batch]) == [messages.Answer(1, Status.BUSY, b"body", None)]


def test_and_understand_us() -> None:
    """What a peer does not know at the end of a message it leaves out, so that fields can be added there."""

    class Request(messages.Message, tag=11):
        id: int
        service: str
        body: bytes
        ttl: float | None = None

    class Answer(messages.Message, tag=50):
        id: int
        status: Status
        body: bytes

    older: Any = native.Decoder(Request | Answer)
    busy = messages.error_body("busy", "why")
    said = [messages.Request(1, "s", b"x", 1.5, 9), messages.Answer(2, Status.BUSY, busy, 0.5)]
    assert decoded(older, said) == [Request(1, "s", b"x", 1.5), Answer(2, Status.BUSY, busy)]
