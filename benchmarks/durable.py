"""A broker with a journal: throughput and latency against the same without, its restart, and RabbitMQ's durable queues."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import rabbitmq
from benchmarks.figure import Row, in_turns, median, print_rows
from cbw.bench import Load, measure, resident_bytes, started
from cbw.broker import recover
from cbw.client.sync_client import Client
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.events import AppendToJournal, ClientSaid
from cbw.core.broker.replay import Replay
from cbw.core.messages import ClientHello, Request
from cbw.wire import native
from cbw.wire.journal import encode_batch

ROUNDS = 3
SECONDS = 4.0
WINDOW = 256
WAITING = 100_000
"""Requests in the journal of the broker that is killed."""
WAITING_MANY = 1_000_000
"""Requests that are replayed."""
DISK_REST_S = 0.0003
"""What a lone call takes without a journal is half before the answer is stored, and half after it."""
RESTART_LIMIT_S = 2.0
REPLAY_LIMIT = 300_000
FIGURES = (
    f"with a journal: throughput, 1 client, 1 worker, window {WINDOW}",
    f"with a journal: the same against RabbitMQ, {WINDOW} in flight",
    "with a journal: one request at a time, p50",
    f"broker SIGKILLed to the first answer of its successor, {WAITING:,} requests in the journal",
    f"replay of {WAITING_MANY:,} waiting requests",
)


def rows() -> Iterator[Row]:
    """Loads with and without a journal, in turns; then restarts."""
    with tempfile.TemporaryDirectory(prefix="cbw-durable-") as folder:
        yield from _throughput(folder)
        yield _lone(folder)
        yield _restart(folder)
    yield _replay()


def _throughput(folder: str) -> Iterator[Row]:
    memory = Load(window=WINDOW, seconds=SECONDS)
    durable = Load(window=WINDOW, seconds=SECONDS, journal=f"{folder}/throughput")
    measures = {"memory": lambda: measure(memory).requests_per_s, "durable": lambda: measure(durable).requests_per_s}
    if rabbitmq.is_there():
        measures["rabbitmq"] = rabbitmq.requests_per_s
    best = {name: max(rates) for name, rates in in_turns(ROUNDS, measures).items()}
    durable_rate, peer = best["durable"], best.get("rabbitmq", 0.0)
    said = f"without: {best['memory']:,.0f}/s"
    yield Row(FIGURES[0], f"{durable_rate:,.0f} requests/s", said, f"{durable_rate / best['memory']:.2f}")
    said = f"durable queues, confirms, replies: {peer:,.0f}/s" if peer else "rabbitmq-server is not installed"
    yield Row(FIGURES[1], f"{durable_rate:,.0f} requests/s", said, f"{durable_rate / peer:.1f}" if peer else "-")


def _lone(folder: str) -> Row:
    memory = Load(window=1, seconds=SECONDS)
    durable = Load(window=1, seconds=SECONDS, journal=f"{folder}/lone")
    p50_s = in_turns(
        ROUNDS,
        {
            "memory": lambda: measure(memory).p50_s,
            "durable": lambda: measure(durable).p50_s,
            "fdatasync": lambda: _fdatasync_s(folder),
        },
    )
    ours, limit_s = median(p50_s["durable"]), 1.2 * (median(p50_s["memory"]) + 2 * median(p50_s["fdatasync"]))
    said = f"1.2 x (without + 2 x fdatasync): {limit_s * 1e6:.0f} µs"
    return Row(FIGURES[2], f"{ours * 1e6:.0f} µs", said, f"{ours / limit_s:.2f}")


def _fdatasync_s(folder: str) -> float:
    """The median time to append 4 kB to a file and to sync it, of a disk that has nothing else to do for :data:`DISK_REST_S`.

    So it has between two syncs of a lone call. A disk that is busy all the time answers faster: neither it nor the processor
    that waits for it has gone to sleep.
    """
    times = []
    descriptor = os.open(f"{folder}/bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(300):
            began_at = time.perf_counter()
            os.write(descriptor, b"x" * 4096)
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - began_at)
            time.sleep(DISK_REST_S)
    finally:
        os.close(descriptor)
    return median(times)


class Restart(NamedTuple):
    """What it took to begin again: seconds from the kill to the first answer, bytes of memory before and after."""

    seconds: float
    before_bytes: int
    after_bytes: int


def restart(journal: Path, waiting: int) -> Restart:
    """Kill a broker with so many ``waiting`` requests of 100 bytes in its ``journal``, and start it again."""
    with (
        started(workers=1, handlers=("cbw.bench:echo",), journal=str(journal)) as system,
        Client(f"127.0.0.1:{system.client_port}", timeout=None) as client,
    ):
        broker = system.processes.broker
        assert broker is not None and broker.process is not None
        (worker,) = system.processes.workers
        assert worker.process is not None
        client.call("is it there?")
        worker.process.send_signal(signal.SIGSTOP)
        futures = [client.submit(b"x" * 100) for _ in range(waiting)]
        while not _is_settled(journal):
            time.sleep(0.2)
        before = resident_bytes(broker.process.pid)
        killed_at = time.perf_counter()
        broker.process.kill()
        broker.process.wait()
        worker.process.send_signal(signal.SIGCONT)
        broker.start()
        while not any(future.done() for future in futures[:WINDOW]):
            time.sleep(0.001)
        seconds = time.perf_counter() - killed_at
        return Restart(seconds, before, resident_bytes(broker.process.pid))


def _restart(folder: str) -> Row:
    seconds = restart(Path(f"{folder}/restart"), WAITING).seconds
    return Row(FIGURES[3], f"{seconds:.2f} s", f"limit {RESTART_LIMIT_S:g} s", f"{seconds / RESTART_LIMIT_S:.2f}")


def _is_settled(journal: Path) -> bool:
    """Whether nothing was written to the journal for a while."""
    before = [path.stat().st_mtime for path in journal.iterdir()]
    time.sleep(1.0)
    return before == [path.stat().st_mtime for path in journal.iterdir()]


def _replay() -> Row:
    """Through the core and the codec, without a disk: from the bytes of the batches to a broker that could hand out."""
    batches = list(_batches())
    began_at = time.perf_counter()
    core = BrokerCore(has_journal=True)
    recover(core, enumerate(batches, 1), len(batches), now=1.0)
    seconds = time.perf_counter() - began_at
    assert core.requests.count == WAITING_MANY
    rate = WAITING_MANY / seconds
    return Row(FIGURES[4], f"{rate:,.0f}/s", f"at least {REPLAY_LIMIT:,}/s", f"{rate / REPLAY_LIMIT:.2f}")


def _batches() -> Iterator[bytes]:
    """The journal of a broker with so many waiting requests."""
    core = BrokerCore(has_journal=True)
    core.use_journal(Replay(), 0.0)
    peer, now = b"\0abcd", 0.0
    for first in range(0, WAITING_MANY, WINDOW):
        numbers = range(first, min(first + WINDOW, WAITING_MANY))
        said = [ClientHello("C1", "b"), *(Request(number, "", b"x" * 100) for number in numbers)]
        now += 0.0001  # nothing is stored meanwhile, and that must not look like a stall
        for order in core.step([ClientSaid(peer, said[first > 0 :], native.CLIENT)], now):
            if isinstance(order, AppendToJournal):
                yield encode_batch(order.batch)


if __name__ == "__main__":
    print_rows(rows())
