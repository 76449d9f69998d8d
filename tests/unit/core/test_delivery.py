"""G11 at random, where Hypothesis chooses what happens: the system is that of the simulation."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cbw.core.logger import Fsync
from cbw.core.sender import SILENCE_S
from tests.sim.log import LogSystem

senders = st.integers(0, 1)
loggers = st.integers(0, 1)


class Delivery(RuleBasedStateMachine):
    log: LogSystem

    @initialize(fsync=st.sampled_from([Fsync.ALWAYS, Fsync.INTERVAL]))
    def begin(self, fsync: Fsync) -> None:
        self.log = LogSystem(fsync)

    @rule(
        number=senders,
        to=loggers,
        counts=st.lists(st.integers(1, 4), max_size=4),
        sent_max=st.sampled_from([9, 9, 1, 0]),
    )
    def record(self, number: int, to: int, counts: list[int], sent_max: int) -> None:
        self.log.record(number, to, counts, sent_max)

    @rule(number=senders, to=loggers, counts=st.lists(st.integers(1, 4), max_size=3))
    def record_and_write(self, number: int, to: int, counts: list[int]) -> None:
        self.log.record_and_write(number, to, counts)

    @rule(number=senders, arrived=st.integers(0, 3))
    def move(self, number: int, arrived: int) -> None:
        self.log.move(number, arrived)

    @rule(number=senders, arrived=st.integers(0, 3))
    def lose_connection(self, number: int, arrived: int) -> None:
        self.log.lose_connection(number, arrived)

    @rule(number=senders, heard=st.integers(1, 9))
    def hear(self, number: int, heard: int) -> None:
        self.log.hear(number, heard)

    @rule(number=loggers, count=st.integers(1, 9), is_newest_first=st.booleans())
    def turn(self, number: int, count: int, is_newest_first: bool) -> None:
        self.log.turn(number, count, is_newest_first)

    @rule(number=loggers, seq=st.integers(1, 50), of=senders)
    def text_arrives(self, number: int, seq: int, of: int) -> None:
        self.log.text_arrives(number, seq, of)

    @rule(number=loggers, written=st.none() | st.integers(0, 400))
    def kill(self, number: int, written: int | None) -> None:
        self.log.kill(number, written)

    @rule(left=st.integers(0, 500))
    def lose_power(self, left: int) -> None:
        self.log.lose_power(left)

    @rule(seconds=st.sampled_from([0.02, 0.3, 1.0, 1.0, 1.0, SILENCE_S + 0.1]))
    def pass_time(self, seconds: float) -> None:
        self.log.pass_time(seconds)

    @rule(
        fault=st.sampled_from(["full", "full", "locked", "broken"]), number=senders, counts=st.lists(st.integers(1, 4))
    )
    def break_disk(self, fault: str, number: int, counts: list[int]) -> None:
        self.log.break_disk(fault, number, counts)

    @rule(number=loggers)
    def mend_disk(self, number: int) -> None:
        self.log.mend_disk(number)

    @invariant()
    def promises_hold(self) -> None:
        if hasattr(self, "log"):
            self.log.in_order_and_each_once()
            self.log.what_is_acknowledged_is_on_disk()

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.settle()


Delivery.TestCase.settings = settings(max_examples=100, stateful_step_count=60)
TestDelivery = pytest.mark.slow(Delivery.TestCase)
