"""Workers that serve several brokers: no slot is with one broker while another has work, and nothing is lost or run twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbw.core import messages
from cbw.core.worker import events as worker_events

from .several_brokers import HOP_S, Cluster

IDLE_MAX_S = 0.02 + 2 * HOP_S
"""Longest time that a worker may be idle with work at some broker: the promise is a round trip and 20 ms."""
LOOK_S = 0.001


def test_one_broker_with_all_the_work_gets_all_the_slots() -> None:
    cluster = Cluster(1, brokers=3, concurrency=[2, 2])
    for _ in range(40):
        cluster.brokers[0].ask(b"0.01")
    cluster.run(0.01 * 10 + 0.02)
    assert cluster.answered == [40, 0, 0]
    cluster.check()


def test_work_at_all_brokers_is_shared() -> None:
    cluster = Cluster(2, brokers=3, concurrency=[1])
    for broker in cluster.brokers:
        for _ in range(100):
            broker.ask(b"0.01")
    cluster.run(0.01 * 90)
    assert min(cluster.answered) >= 25, cluster.answered


def test_a_worker_never_has_more_in_hand_than_it_wants() -> None:
    cluster = Cluster(3, brokers=3, concurrency=[4])
    for _ in range(30):
        for broker in cluster.brokers:
            broker.ask(b"0.005")
    cluster.run(1.0)
    cluster.check()
    assert cluster.workers[0].most_in_hand <= 4


def test_a_frozen_broker_keeps_no_slot() -> None:
    cluster = Cluster(4, brokers=2, concurrency=[1])
    frozen, other = cluster.brokers
    for _ in range(3):
        frozen.ask(b"0.01")
    cluster.run(0.001)
    frozen.is_frozen = True
    for _ in range(20):
        other.ask(b"0.01")
    cluster.run(0.01 * 21 + 0.05)
    assert cluster.answered == [0, 20]
    frozen.thaw()
    cluster.run(0.2)
    cluster.check()


def test_a_broker_that_joins_later_gets_its_share() -> None:
    cluster = Cluster(5, brokers=2, concurrency=[1])
    first, second = cluster.brokers
    (worker,) = cluster.workers
    worker.lose(1)
    for _ in range(50):
        first.ask(b"0.01")
        second.ask(b"0.01")
    cluster.run(0.1)
    assert cluster.answered[1] == 0
    worker.meet(1, second)
    cluster.run(0.3)
    assert cluster.answered[1] >= 10
    cluster.run(1.0)
    cluster.check()


def test_tasks_of_a_broker_that_is_lost_are_left_to_it() -> None:
    cluster = Cluster(6, brokers=2, concurrency=[1, 1])
    first, second = cluster.brokers
    for _ in range(10):
        first.ask(b"0.02")
        second.ask(b"0.02")
    cluster.run(0.05)
    cluster.workers[0].lose(0)
    cluster.run(1.0)
    cluster.check()


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 1 << 30),
    st.integers(2, 4),
    st.lists(st.integers(1, 8), min_size=1, max_size=5),
    st.sampled_from([0.0001, 0.001, 0.01, 0.1]),
    st.sampled_from([0.2, 0.8, 2.0]),
)
def test_no_worker_is_idle_while_any_broker_has_work(
    seed: int, brokers: int, concurrency: list[int], work_s: float, load: float
) -> None:
    """At any load, also in bursts, and whatever the brokers have of it."""
    cluster = Cluster(seed, brokers, concurrency)
    world = cluster.world
    rate = load * sum(concurrency) / work_s
    count = min(400, int(rate * 0.5) + 10)
    weights = [world.random.random() ** 2 for _ in cluster.brokers]
    at = world.now
    for _ in range(count):
        at += world.random.expovariate(rate)
        broker = world.random.choices(cluster.brokers, weights)[0]
        world.at(at, lambda broker=broker: broker.ask(str(world.random.uniform(0, 2 * work_s)).encode()))  # type: ignore[misc]
    waits = cluster.run(at - world.now + 2 * count * work_s / sum(concurrency) + 1.0, LOOK_S)
    cluster.check()
    assert max(waits, default=0.0) <= IDLE_MAX_S + LOOK_S, waits
    for worker in cluster.workers:
        assert worker.most_in_hand <= worker.concurrency * 1001


@pytest.mark.parametrize("brokers", [1, 3])
def test_a_lone_request_costs_few_messages(brokers: int) -> None:
    """A worker that has nothing else to do tells the other brokers twice: once that it works, once that it does not."""
    cluster = Cluster(7, brokers, concurrency=[1])
    for _ in range(10):
        cluster.brokers[0].ask(b"0.0001")
        cluster.run(0.001)
    cluster.check()
    assert cluster.workers[0].returned == 0


def test_brokers_that_number_their_tasks_alike_get_each_its_own_answers() -> None:
    cluster = Cluster(8, brokers=3, concurrency=[2, 2], apart=0)
    for _ in range(20):
        for broker in cluster.brokers:
            broker.ask(b"0.005")
    cluster.run(1.0)
    cluster.check()


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(2, 3), st.lists(st.integers(1, 4), min_size=2, max_size=4))
def test_connections_that_are_lost_lose_nothing(seed: int, brokers: int, concurrency: list[int]) -> None:
    """Each worker loses its connection to one broker under load, and gets it back; a broker stands still meanwhile."""
    cluster = Cluster(seed, brokers, concurrency)
    world = cluster.world
    for _ in range(60 * brokers):
        broker = world.random.choice(cluster.brokers)
        world.at(world.now + world.random.random(), lambda broker=broker: broker.ask(b"0.01"))  # type: ignore[misc]
    lost = world.random.choice(cluster.brokers)
    for worker in cluster.workers:
        at = world.now + world.random.random()
        world.at(at, lambda worker=worker: worker.lose(lost.number))  # type: ignore[misc]
        world.at(
            at + world.random.uniform(0.01, 0.5),
            lambda worker=worker: worker.meet(lost.number, lost),  # type: ignore[misc]
        )
    frozen = world.random.choice(cluster.brokers)
    world.at(world.now + 0.3, frozen.freeze)
    world.at(world.now + 0.3 + world.random.random(), frozen.thaw)
    cluster.run(30.0, look_every_s=0.01)
    cluster.check()


def test_what_lies_behind_another_brokers_long_task_goes_to_a_free_worker() -> None:
    """Quick handlers have tasks in reserve; then one is not quick, and the broker of those behind it does not know of it."""
    cluster = Cluster(7, brokers=2, concurrency=[1, 1])
    first, second = cluster.brokers
    for _ in range(50):
        first.ask(b"0.0001")
        second.ask(b"0.0001")
    cluster.run(0.3)
    for number in range(300):
        first.ask(b"5" if number == 100 else b"0.0001")
        second.ask(b"0.0001")
    cluster.run(0.5)
    assert cluster.answered == [349, 350]
    cluster.run(6.0)
    cluster.check()


def test_a_demand_behind_tasks_is_not_taken_for_met_by_them() -> None:
    cluster = Cluster(8, brokers=2, concurrency=[1])
    _, second = cluster.brokers
    (worker,) = cluster.workers
    for _ in range(20):
        second.ask(b"0.0001")
    cluster.run(0.1)
    second.ask(b"0.3")
    cluster.run(0.1)
    batch: list[messages.Message] = [messages.Task(999, "s", b"0.01", None, 1), messages.Demand("s", 1)]
    worker.hear(worker_events.BatchArrived(batch, 0))
    assert worker.core.sessions[0].share.waiting == 1


def test_a_broker_that_heard_of_an_offer_too_late_demands_again() -> None:
    """A worker keeps a slot for a moment only, and forgets the demand with it. The broker stood still meanwhile."""
    cluster = Cluster(9, brokers=2, concurrency=[1])
    first, second = cluster.brokers
    for _ in range(60):
        first.ask(b"0.05")
    cluster.run(0.01)
    second.ask(b"0.01")
    cluster.run(0.02)
    second.is_frozen = True
    cluster.run(0.5)
    second.thaw()
    cluster.run(0.5)
    assert cluster.answered[1] == 1
