"""The table of dialects: each message is read by one of them, and a message of one never passes for another's."""

from __future__ import annotations

import pytest
from msgspec import msgpack

from cbw.core.dialect import ClientDialect, WorkerDialect
from cbw.core.messages import Beat, WorkerHello
from cbw.core.plain_messages import PlainRequest
from cbw.errors import BadMessage
from cbw.wire import dialects, lab, majordomo_01, majordomo_02, native, paranoid_pirate


@pytest.mark.parametrize(
    ("frames", "dialect"),
    [
        ([b"CBW1", b"\x90"], native.CLIENT),
        ([b"CBW9", b""], native.CLIENT),
        ([b"MDPC02", b"\x01", b"s", b"hi"], majordomo_02.CLIENT),
        ([b"", b"MDPC02", b"\x01", b"s", b"hi"], majordomo_02.CLIENT),
        ([b"", b"MDPC02", b"\x02", b"s", b"hi"], majordomo_02.MAJORTOMO_CLIENT),
        ([b"", b"MDPC01", b"s", b"hi"], majordomo_01.CLIENT),
        ([b"id", b"", b"MDPC01", b"s", b"hi"], majordomo_01.CLIENT),
        ([b"", b"hi"], lab.CLIENT),
        ([b"id", b"", b"hi"], lab.CLIENT),
        ([b"", b"hi", b"MDPC01"], lab.CLIENT),
    ],
)
def test_clients(frames: list[bytes], dialect: ClientDialect) -> None:
    assert dialects.of_client(frames) is dialect


@pytest.mark.parametrize(
    ("frames", "dialect"),
    [
        ([b"CBW1", b"\x90"], native.WORKER),
        ([b"", b"", b""], lab.LAB),
        ([b"", b"", b"", b""], lab.EARLIER_LAB),
        ([b"", b"READY"], lab.GUIDE),
        ([b"", b"\x01"], lab.GUIDE),
        ([b"\x01"], paranoid_pirate.WORKER),
        ([b"\x02"], paranoid_pirate.WORKER),
        ([b"MDPW02", b"\x05"], majordomo_02.WORKER),
        ([b"", b"MDPW02", b"\x05"], majordomo_02.WORKER_WITH_EMPTY_FRAME),
        ([b"", b"MDPW01", b"\x04"], majordomo_01.WORKER),
        ([b"", b"MDPW03", b"\x01", b"s"], None),
        ([b"READY"], None),
        ([b""], None),
    ],
)
def test_workers(frames: list[bytes], dialect: WorkerDialect | None) -> None:
    assert dialects.of_worker(frames) is dialect


@pytest.mark.parametrize(
    "frames",
    [
        [b"", b"MDPC01"],
        [b"", b"MDPC01", b"echo"],
        [b"MDPC02"],
        [b"MDPC01", b"echo", b"hi"],  # a DEALER that forgot the empty frame
        [b"MDPC01", b"echo", b"", b"hi"],
        [b"", b"MDPC03", b"echo", b"hi"],  # a version that does not exist yet
        [b"MDPC03", b"\x01", b"echo", b"", b"hi"],
        [b"", b"MDPW01", b"\x01", b"echo"],  # a worker, at the wrong port
        [b"MDPW02", b"\x01", b"echo"],
        [b"id", b"MDPC02", b"\x01", b"echo", b"", b"hi"],  # 0.2 through a ROUTER, with an empty frame in its body
        [b"", b"", b"MDPC02", b"\x01", b"echo", b"hi"],  # 0.2 with its empty frame over a REQ socket
        [b"id", b"", b"", b"MDPC02", b"\x01", b"echo", b"hi"],
    ],
)
def test_what_a_majordomo_peer_sends_is_never_the_body_of_a_lab_request(frames: list[bytes]) -> None:
    with pytest.raises(BadMessage):
        dialects.of_client(frames).read(b"C", frames)


@pytest.mark.parametrize("body", [[b"MDPC0"], [b"MDPC012"], [b"MDPCxx"], [b"hi", b"MDPC01"], [b"mdpc01"], [b"", b"hi"]])
def test_what_only_looks_like_it_is_a_lab_request(body: list[bytes]) -> None:
    (request,) = dialects.of_client([b"", *body]).read(b"C", [b"", *body])
    assert isinstance(request, PlainRequest) and request.body == b"".join(body)


@pytest.mark.parametrize(
    ("frames", "is_client_port"),
    [
        ([b"CBW1", msgpack.encode([WorkerHello("W", "b", [""], 1, 1)])], True),
        ([b"", b"MDPW01", b"\x01", b"echo"], True),
        ([b"MDPW02", b"\x01", b"echo"], True),
        ([b"", b"MDPW02", b"\x05"], True),
        ([b"", b"MDPC01", b"echo", b"hi"], False),
        ([b"MDPC02", b"\x01", b"echo", b"hi"], False),
        ([b"", b"MDPC02", b"\x02", b"echo", b"hi"], False),
    ],
)
def test_messages_for_the_other_port_are_known_as_such(frames: list[bytes], is_client_port: bool) -> None:
    assert dialects.is_for_other_port(frames, is_client_port=is_client_port)
    assert not dialects.is_for_other_port(frames, is_client_port=not is_client_port)


@pytest.mark.parametrize(
    "frames", [[b"\x01"], [b"", b"hi"], [b"", b"READY"], [b"", b"MDPW01"], [b"MDPC02", b"\x01"], [b""]]
)
def test_what_shows_no_dialect_or_is_no_message_is_for_neither_port(frames: list[bytes]) -> None:
    assert not dialects.is_for_other_port(frames, is_client_port=True)
    assert not dialects.is_for_other_port(frames, is_client_port=False)


def test_names_and_marks_are_told_apart() -> None:
    workers = {dialect.name for dialect in dialects.WORKERS}
    assert workers == {"cbw", "lab", "earlier-lab", "guide", "mdp-0.1", "mdp-0.2", "ppp"}
    clients = {dialect.name for dialect in dialects.CLIENTS}
    assert clients == {"cbw", "req", "mdp-0.1", "mdp-0.2", "majortomo"}


@pytest.mark.parametrize("dialect", dialects.WORKERS[1:])
def test_a_client_whose_name_is_a_mark_cannot_be_named_to_a_req_worker(dialect: WorkerDialect) -> None:
    """Its answer ``"" client body`` would read as a Majordomo command."""
    assert dialect.can_name(b"C1")
    assert dialect.can_name(b"MDPW01") is not dialect.returns_silently
    assert list(dialect.write([Beat()])) == [(dialect.write_one(Beat()), 1)]
