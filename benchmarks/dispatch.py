"""What the broker's core and codec cost for a request when it holds much, against when it holds little."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

from cbw.core import events as e
from cbw.core import messages as m
from cbw.core.broker import BrokerCore
from cbw.wire import native

SMALL, LARGE = (10, 10, 10), (100_000, 1_000, 10_000)
REQUESTS = 40_000
BATCH = 10  # as many as there are workers in the small case: one task for each worker in both
ROUNDS = 5
BODY = b"x" * 100


def rows() -> Iterator[tuple[str, str, str, str]]:
    """The cost with 100 000 waiting requests, 1 000 idle workers and 10 000 clients, and with 10 of each."""
    cost = {scale: float("inf") for scale in (SMALL, LARGE)}
    for _ in range(ROUNDS):
        for scale in cost:
            cost[scale] = min(cost[scale], _cost_us(*scale))
    name = "dispatch with 100 000 waiting, 1 000 idle workers, 10 000 clients"
    ratio = f"{cost[LARGE] / cost[SMALL]:.2f}"
    yield name, f"{cost[LARGE]:.2f} µs/request", f"with 10 of each: {cost[SMALL]:.2f} µs", ratio


def _cost_us(waiting: int, workers: int, clients: int) -> float:
    """Microseconds for a request and its answer through decode, two steps and encode, in batches of 10.

    The waiting requests are for a service without a worker, so that they wait; the idle workers serve another.
    """
    core = BrokerCore()
    now = time.monotonic()
    for number in range(clients):
        core.step([e.ClientSaid(b"c%d" % number, [m.ClientHello(f"c{number}", "b")])], now)
    for number in range(workers):
        core.step([e.WorkerSaid(b"i%d" % number, [m.WorkerHello(f"i{number}", "b", ["s"], 1, 100)])], now)
    for number in range(waiting):
        request = m.Request(number, "nobody", BODY, 60.0)
        core.step([e.ClientSaid(b"c%d" % (number % clients), [request])], now)
    gc.collect()
    gc.freeze()
    spent = 0.0
    for batch in range(REQUESTS // BATCH):
        client = b"c%d" % (batch % clients)
        first = 1_000_000 + batch * BATCH
        ((asked, _),) = native.encode([m.Request(first + n, "s", BODY, 60.0) for n in range(BATCH)])
        began_at = time.perf_counter()
        sent = _turn(core, [e.ClientSaid(client, native.from_client(asked))])
        spent += time.perf_counter() - began_at
        answers = []
        for peer, frames in sent:
            tasks = [task for task in native.to_worker(frames) if isinstance(task, m.Task)]
            ((said, _),) = native.encode([m.Answer(task.id, m.Status.OK, BODY) for task in tasks])
            answers.append((peer, said))
        began_at = time.perf_counter()
        _turn(core, [e.WorkerSaid(peer, native.from_worker(said)) for peer, said in answers])
        spent += time.perf_counter() - began_at
    gc.unfreeze()
    return spent / REQUESTS * 1e6


def _turn(core: BrokerCore, facts: list[e.Event]) -> list[tuple[bytes, list[bytes]]]:
    orders = core.step(facts, time.monotonic())
    sends = [order for order in orders if isinstance(order, e.SendToWorker | e.SendToClient)]
    return [(order.peer, frames) for order in sends for frames, _ in native.encode(order.messages)]


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
