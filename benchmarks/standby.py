"""The journal on three NATS servers: what it leaves of the speed, and how soon a standby answers in place of a killed owner."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.nats_server import HOST, NatsCluster, free_ports

from benchmarks.figure import Row, in_turns, median, milliseconds, print_rows
from cbw.bench import Load, measure
from cbw.client.sync_client import Client

ROUNDS = 3
SECONDS = 4.0
WINDOW = 256
TRIALS = 10
LIMIT_S = 4.0
RATE_MIN = 40_000
FIGURES = (
    f"journal on three NATS servers: throughput, 1 client, 1 worker, window {WINDOW}",
    "journal on three NATS servers: one request at a time, p50",
    "owner SIGKILLed to the first answer from its standby, p50",
)


def rows() -> Iterator[Row]:
    """Loads with the journal on NATS and in a file, in turns; then owners are killed."""
    with tempfile.TemporaryDirectory(prefix="cbw-standby-") as folder, NatsCluster(Path(folder)) as cluster:
        place = f"nats://{cluster.addresses}"
        journals = {"nats": f"{place}/load", "file": f"{folder}/journal"}
        rates = in_turns(ROUNDS, {name: _rate(journal) for name, journal in journals.items()})
        best = {name: max(found) for name, found in rates.items()}
        said = f"at least {RATE_MIN:,}/s; in a file: {best['file']:,.0f}/s"
        yield Row(FIGURES[0], f"{best['nats']:,.0f} requests/s", said, f"{best['nats'] / RATE_MIN:.2f}")
        p50_s = in_turns(ROUNDS, {name: _p50(journal) for name, journal in journals.items()})
        ours, theirs = median(p50_s["nats"]), median(p50_s["file"])
        yield Row(FIGURES[1], f"{ours * 1e6:.0f} µs", f"in a file: {theirs * 1e6:.0f} µs", f"{ours / theirs:.2f}")
        times = list(_takeovers(f"{place}/takeover"))
        yield Row(FIGURES[2], milliseconds(times), f"limit {LIMIT_S:g} s", f"{median(times) / LIMIT_S:.2f}")


def _rate(journal: str) -> Callable[[], float]:
    return lambda: measure(Load(window=WINDOW, seconds=SECONDS, journal=journal)).requests_per_s


def _p50(journal: str) -> Callable[[], float]:
    return lambda: measure(Load(window=1, seconds=SECONDS, journal=journal)).p50_s


def _takeovers(journal: str) -> Iterator[float]:
    front, back = free_ports(2)
    cbw = [sys.executable, "-m", "cbw"]

    def broker() -> subprocess.Popen[str]:
        command = [*cbw, "broker", str(front), str(back), "--journal", journal, "--status-port", "0"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    with ExitStack() as stack:
        owner = broker()
        _wait_for(owner, "serves clients")
        command = [*cbw, "worker", "W", HOST, str(back), "--handler", "cbw.bench:echo", "--status-port", "0"]
        worker = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        stack.callback(worker.wait)
        stack.callback(worker.kill)
        client = stack.enter_context(Client(f"{HOST}:{front}", timeout=60.0))
        for _ in range(TRIALS):
            standby = broker()
            _wait_for(standby, "stands by")
            client.call(b"before")
            killed_at = time.perf_counter()
            owner.send_signal(signal.SIGKILL)
            client.call(b"after")
            yield time.perf_counter() - killed_at
            owner.wait()
            owner = standby
        owner.terminate()
        owner.wait()


def _wait_for(program: subprocess.Popen[str], words: str) -> None:
    assert program.stdout is not None
    for line in program.stdout:
        if words in line:
            return
    raise SystemExit(f"a broker ended before it said {words!r}")


if __name__ == "__main__":
    print_rows(rows())
