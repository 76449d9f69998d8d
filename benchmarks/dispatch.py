"""What the broker's core and codec cost for a request when it holds much, against when it holds little."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from functools import partial

from benchmarks.figure import Row, in_turns, print_rows
from cbw.core import messages
from cbw.core.broker import events
from cbw.core.broker.core import BrokerCore
from cbw.wire import native

SMALL, LARGE = (10, 10, 10), (100_000, 1_000, 10_000)
REQUESTS = 40_000
BATCH = 10  # as many as there are workers in the small case: one task for each worker in both
ROUNDS = 5
BODY = b"x" * 100
FIGURES = ("dispatch with 100 000 waiting, 1 000 idle workers, 10 000 clients",)


def rows() -> Iterator[Row]:
    """The cost with 100 000 waiting requests, 1 000 idle workers and 10 000 clients, and with 10 of each."""
    costs = in_turns(ROUNDS, {scale: partial(_cost_us, *scale) for scale in (SMALL, LARGE)})
    small, large = min(costs[SMALL]), min(costs[LARGE])
    yield Row(*FIGURES, f"{large:.2f} µs/request", f"with 10 of each: {small:.2f} µs", f"{large / small:.2f}")


def filled_core(waiting: int, workers: int, clients: int) -> BrokerCore:
    """A broker's core with so many clients, idle workers, and waiting requests that none of these workers serves."""
    core = BrokerCore()
    now = time.monotonic()
    for number in range(clients):
        hello = messages.ClientHello(f"c{number}", "b")
        core.step([events.ClientSaid(b"c%d" % number, [hello], native.CLIENT)], now)
    for number in range(workers):
        registration = messages.WorkerHello(f"i{number}", "b", ["s"], 1, 100)
        core.step([events.WorkerSaid(b"i%d" % number, [registration], native.WORKER)], now)
    for number in range(waiting):
        request = messages.Request(number, "nobody", BODY, 60.0)
        core.step([events.ClientSaid(b"c%d" % (number % clients), [request], native.CLIENT)], now)
    return core


def _cost_us(waiting: int, workers: int, clients: int) -> float:
    """Microseconds for a request and its answer through decode, two steps and encode, in batches of 10.

    The waiting requests are for a service without a worker, so that they wait; the idle workers serve another.
    """
    core = filled_core(waiting, workers, clients)
    gc.collect()
    gc.freeze()
    spent = 0.0
    for batch in range(REQUESTS // BATCH):
        client = b"c%d" % (batch % clients)
        first = 1_000_000 + batch * BATCH
        ((asked, _),) = native.encode([messages.Request(first + n, "s", BODY, 60.0) for n in range(BATCH)])
        began_at = time.perf_counter()
        sent = _turn(core, [events.ClientSaid(client, native.from_client(asked), native.CLIENT)])
        spent += time.perf_counter() - began_at
        answers = []
        for peer, frames in sent:
            tasks = [task for task in native.to_worker(frames) if isinstance(task, messages.Task)]
            ((said, _),) = native.encode([messages.Answer(task.id, messages.Status.OK, BODY) for task in tasks])
            answers.append((peer, said))
        began_at = time.perf_counter()
        _turn(core, [events.WorkerSaid(peer, native.from_worker(said), native.WORKER) for peer, said in answers])
        spent += time.perf_counter() - began_at
    gc.unfreeze()
    return spent / REQUESTS * 1e6


def _turn(core: BrokerCore, facts: list[events.Event]) -> list[tuple[bytes, list[bytes]]]:
    orders = core.step(facts, time.monotonic())
    sends = [order for order in orders if isinstance(order, events.SendToWorker | events.SendToClient)]
    return [(order.peer, frames) for order in sends for frames, _ in native.encode(order.messages)]


if __name__ == "__main__":
    print_rows(rows())
