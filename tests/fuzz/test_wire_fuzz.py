"""Bytes of any kind into every reader: nothing but BadMessage comes out, and what passes does not upset the broker."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.broker.check import check
from cbw.core.broker.core import BrokerCore
from cbw.core.client import events as client_events
from cbw.core.client.core import ClientCore
from cbw.core.worker import events as worker_events
from cbw.core.worker.core import WorkerCore
from cbw.errors import BadMessage
from cbw.wire import dialects, native

few = settings(max_examples=200, deadline=None)
numbers = st.integers(-(2**63), 2**64 - 1)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | st.binary(max_size=20) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)
tags = st.sampled_from([0, 1, 10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42, 50, 60])
likely = st.lists(st.tuples(tags, *[values] * 5).map(lambda fields: list(fields)), max_size=5)
batches = st.binary(max_size=60) | likely.map(msgspec.msgpack.encode)
frames_of_native = st.tuples(
    st.sampled_from([b"CBW1", b"CBW9", b"CBW"]), batches, st.lists(st.binary(max_size=9), max_size=3)
)
short = st.sampled_from(
    [b"", b"READY", b"C1", b"\x01", b"\x02", b"MDPC01", b"MDPC02", b"MDPW01", b"MDPW02"]
) | st.binary(max_size=9)

requests = st.builds(
    messages.Request,
    numbers,
    st.text(max_size=3),
    st.binary(max_size=5),
    st.none() | st.floats(allow_nan=True, allow_infinity=True),
)
client_words = st.lists(
    st.one_of(
        st.builds(messages.ClientHello, st.text(max_size=3), st.text(max_size=2)),
        requests,
        st.builds(messages.Cancel, numbers),
        st.builds(messages.Beat),
        st.builds(messages.Goodbye),
    ),
    max_size=4,
)
worker_words = st.lists(
    st.one_of(
        st.builds(
            messages.WorkerHello,
            st.text(max_size=2),
            st.text(max_size=1),
            st.lists(st.text(max_size=1), max_size=3),
            st.integers(-5, 5),
            st.integers(-5, 10),
        ),
        st.builds(messages.Credit, numbers),
        st.builds(messages.Returned, st.lists(st.integers(0, 50), max_size=4)),
        st.builds(messages.Answer, st.integers(0, 50), st.sampled_from(messages.Status), st.binary(max_size=5)),
        st.builds(messages.Beat),
        st.builds(messages.Goodbye),
    ),
    max_size=4,
)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", [native.from_client, native.from_worker, native.to_client, native.to_worker])
@few
@given(data=st.data())
def test_native(decoder: Any, data: st.DataObject) -> None:
    magic, batch, bodies = data.draw(frames_of_native)
    try:
        batch = decoder([magic, batch, *bodies])
    except BadMessage:
        return
    assert all(isinstance(message, messages.Message) for message in batch)


@few
@given(st.lists(short, min_size=1, max_size=7))
def test_every_dialect(frames: list[bytes]) -> None:
    for dialect in (*dialects.CLIENTS, *dialects.WORKERS):
        dialect.recognises(frames)
        with contextlib.suppress(BadMessage):
            assert all(isinstance(message, messages.Message) for message in dialect.read(b"peer", frames))
        dialect.refusal(frames, "why")


@pytest.mark.slow
@few
@given(st.lists(st.tuples(st.sampled_from([b"p", b"q"]), client_words, worker_words, st.floats(0, 2)), max_size=8))
def test_the_broker_makes_sense_whatever_peers_say(
    rounds: list[tuple[bytes, list[messages.Message], list[messages.Message], float]],
) -> None:
    core = BrokerCore()
    now = 1.0
    for peer, from_client, from_worker, passed in rounds:
        now += passed
        core.step(
            [events.ClientSaid(peer, from_client, native.CLIENT), events.WorkerSaid(peer, from_worker, native.WORKER)],
            now,
        )
        check(core)
        assert core.wake_at == core.wake_at


@pytest.mark.slow
@few
@given(st.lists(likely, max_size=5))
def test_our_own_ends_survive_a_mad_broker(batches: list[Any]) -> None:
    client, worker = ClientCore("C", "b"), WorkerCore("W", "b", ["s"], 1)
    client.step([client_events.Connected(), client_events.Submitted(1, "s", [b"x"], 9.0, None)], 1.0)
    worker.step([worker_events.Connected()], 1.0)
    for number, batch in enumerate(batches):
        frames = [native.MAGIC, msgspec.msgpack.encode(batch)]
        now = 2.0 + number
        with contextlib.suppress(BadMessage):
            client.step([client_events.BatchArrived(native.to_client(frames))], now)
        with contextlib.suppress(BadMessage):
            worker.step([worker_events.BatchArrived(native.to_worker(frames))], now)
        client.step([], now)
        worker.step([], now + 0.5)
