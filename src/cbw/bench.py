"""``cbw bench``: a broker, workers and clients as processes of this machine, at full speed, and what they cost.

A client process warms up, says that it is ready, waits for the word, sends for a while through the public
:class:`~cbw.client.sync_client.Client`, and prints what it measured. CPU time is read from ``/proc`` around that while.

The benchmarks of the repository are built on :func:`measure`, :func:`started` and what this module knows about processes.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from cbw.client.sync_client import Client
from cbw.core.histogram import Histogram, exactly
from cbw.errors import CbwError, NotReady
from cbw.local import LocalSystem, Options, Role, Scale, start_process

WARM_UP_S = 1.0
"""Time before the measurement, in which connections are made and caches fill."""
REACH_S = 3.0
"""Longest time to reach the broker: one that runs answers in milliseconds."""
ANSWER_S = 10.0
"""Nobody answers any more if an answer takes so long: the workers do nothing, and at most a window is before it."""
SAMPLE_EVERY = 16
"""Latency is measured of every 16th request: reading the clock twice for each would cost a tenth of the throughput."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure. ``broker`` is ``(host, client port, worker port)`` of one that runs already.

    ``logged``: a logger runs too, and gets the whole trace of the ``broker`` or of ``all`` roles. ``status_port``:
    where the broker serves its status pages; 0: nowhere. ``journal``: the folder of the broker's journal; empty: it has none.
    """

    clients: int = 1
    workers: int = 1
    window: int = 256
    body_bytes: int = 100
    seconds: float = 5.0
    broker: tuple[str, int, int] | None = None
    logged: Literal["", "broker", "all"] = ""
    status_port: int = 0
    journal: str = ""


class Measured(msgspec.Struct):
    """What was measured. Latencies in seconds, ``cpu_us`` by role: microseconds of CPU for one request.

    ``cpu_us`` has no broker if the broker was running already.
    """

    requests: int
    requests_per_s: float
    p50_s: float
    p99_s: float
    cpu_us: dict[str, float]


class _Sent(msgspec.Struct):
    """What a client process prints at the end."""

    requests: int
    seconds: float
    latencies: list[float]


class StartedSystem:
    """A system that prints nothing and has free ports; its roles are in ``processes``."""

    def __init__(self, processes: LocalSystem) -> None:
        self.processes = processes
        self.host = processes.options.host
        self.client_port, self.worker_port = processes.start()

    @property
    def broker_pid(self) -> int:
        """The process of the broker."""
        (pid,) = self.pids()["broker"]
        return pid

    @property
    def log_port(self) -> int:
        """The text port of its logger."""
        return int(self.processes.log_environment(1)["LOGGER_PORT"])

    def pids(self) -> dict[str, list[int]]:
        """The processes of its loggers and of its broker, by role."""
        broker = [self.processes.broker] if self.processes.broker is not None else []
        roles = {"logger": self.processes.loggers, "broker": broker}
        return {name: _pids_of(those) for name, those in roles.items()}

    def restart_logger(self) -> None:
        """Kill its logger in the middle of whatever it does, and start it again on the same ports."""
        (logger,) = self.processes.loggers
        assert logger.process is not None
        logger.process.kill()
        logger.process.wait()
        logger.start()


@contextlib.contextmanager
def started(
    *,
    workers: int = 0,
    handlers: tuple[str, ...] = (),
    loggers: int = 0,
    log_file: str | None = None,
    status_port: int = 0,
    journal: str = "",
) -> Iterator[StartedSystem]:
    """A broker, workers with these handlers, and loggers, as long as the context lasts.

    Without ``log_file`` the loggers write where nobody will read it.

    Raises:
        CannotBind: no port is free.
        NotReady: the broker or a logger does not start.
    """
    with tempfile.TemporaryDirectory(prefix="cbw-bench-") as folder:
        options = Options(
            scale=Scale(cli=0, wor=workers, log=loggers),
            client_port=0,
            worker_port=0,
            log_port=0,
            log_file=log_file or f"{folder}/logs",
            handlers=handlers,
            status_port=status_port,
            journal=journal or None,
        )
        with LocalSystem(options, lambda _role, _line: None) as processes:
            yield StartedSystem(processes)


def echo(body: bytes) -> bytes:
    """The handler of the workers: no work at all."""
    return body


def measure(load: Load) -> Measured:
    """Start everything, send, and measure. Every process is ended before it returns.

    Raises:
        NotReady: a client does not get an answer.
        CannotBind: no port is free.
    """
    if load.broker is not None:
        host, *ports = load.broker
        for port in ports:
            _reach(host, port)
        return _measure(load, *load.broker, environment={}, pids={})
    with started(loggers=int(load.logged != ""), status_port=load.status_port, journal=load.journal) as system:
        environment = system.processes.log_environment(1) if load.logged == "all" else {}
        place = (system.host, system.client_port, system.worker_port)
        return _measure(load, *place, environment=environment, pids=system.pids())


def _measure(
    load: Load,
    host: str,
    client_port: int,
    worker_port: int,
    *,
    environment: Mapping[str, str],
    pids: Mapping[str, list[int]],
) -> Measured:
    """Start workers and clients, with ``environment``, and measure; ``pids`` are those of the other roles."""
    service = f"bench-{os.urandom(4).hex()}"
    workers: list[Role] = []
    clients: list[subprocess.Popen[str]] = []
    environment = {"CBW_STATUS_PORT": "0", **environment}
    try:
        for number in range(load.workers):
            command = [sys.executable, "-m", "cbw", "worker", f"{service}-{number}", host, str(worker_port)]
            command += ["--handler", f"{service}=cbw.bench:echo"]
            workers.append(Role(f"wor_{number}", command, lambda *_: None, environment))
            workers[-1].start()
        command = [sys.executable, "-m", "cbw.bench", f"{host}:{client_port}", service]
        command += [str(load.window), str(load.body_bytes), str(load.seconds)]
        for _ in range(load.clients):
            clients.append(start_process(command, environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return _run(clients, {**pids, "worker": _pids_of(workers), "client": [client.pid for client in clients]})
    finally:
        for client in clients:
            client.kill()
            client.wait()
            for pipe in (client.stdin, client.stdout):
                if pipe is not None:
                    pipe.close()
        for role in workers:
            if role.process is not None:
                role.process.kill()
                role.process.wait()


def _reach(host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), REACH_S).close()
    except OSError as error:
        text = f"{host}:{port} cannot be reached: {error.strerror or error}"
        raise NotReady(text, advice=f"Is a broker running there? cbw doctor {host} finds out.") from None


def _run(clients: Sequence[subprocess.Popen[str]], pids: Mapping[str, list[int]]) -> Measured:
    """Let the clients send as soon as all are ready; what they measured, and what all roles cost."""
    for client in clients:
        _said(client)
    before = {role: sum(map(cpu_s, those)) for role, those in pids.items()}
    for client in clients:
        assert client.stdin is not None
        client.stdin.write("go\n")
        client.stdin.flush()
    results = [msgspec.json.decode(_said(client), type=_Sent) for client in clients]
    after = {role: sum(map(cpu_s, those)) for role, those in pids.items()}
    requests = sum(result.requests for result in results)
    latencies = Histogram(exactly)
    for latency in (latency for result in results for latency in result.latencies):
        latencies.add(latency)
    return Measured(
        requests,
        sum(result.requests / result.seconds for result in results),
        latencies.quantile(0.5) or 0.0,
        latencies.quantile(0.99) or 0.0,
        {role: (after[role] - before[role]) / requests * 1e6 for role, those in pids.items() if those},
    )


def _said(client: subprocess.Popen[str]) -> str:
    """The next line of a client: that it is ready, or what it has measured."""
    assert client.stdout is not None
    line = client.stdout.readline()
    if not line:
        raise NotReady(
            "a client of the benchmark got no answer", advice="Is the broker there, and are its ports reachable?"
        )
    return line


# --- processes, by what Linux says of them


def _pids_of(roles: Sequence[Role]) -> list[int]:
    return [role.process.pid for role in roles if role.process is not None]


def cpu_s(pid: int) -> float:
    """User and system time of a process (proc(5): fields 14 and 15 of ``stat``)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_bytes(pid: int) -> int:
    """The memory of a process that is in RAM (proc(5): ``VmRSS`` of ``status``)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has ended")


# --- in a client process


def _client(broker: str, service: str, window: int, body_bytes: int, seconds: float) -> None:
    body = b"x" * body_bytes
    with Client(broker, timeout=ANSWER_S) as client:
        try:
            _send(client, service, window, body, WARM_UP_S)
            print("ready", flush=True)
            sys.stdin.readline()
            sent = _send(client, service, window, body, seconds)
        except CbwError as error:
            sys.exit(f"{error}")
        print(msgspec.json.encode(sent).decode(), flush=True)
        sys.stdin.readline()  # until our parent has read our CPU time


def _send(client: Client, service: str, window: int, body: bytes, seconds: float) -> _Sent:
    return (
        _send_one_by_one(client, service, body, seconds)
        if window == 1
        else _map(client, service, window, body, seconds)
    )


def _send_one_by_one(client: Client, service: str, body: bytes, seconds: float) -> _Sent:
    clock = time.perf_counter
    latencies: list[float] = []
    began_at = now = clock()
    while now - began_at < seconds:
        client.call(body, service)
        before, now = now, clock()
        latencies.append(now - before)
    return _Sent(len(latencies), now - began_at, latencies)


def _map(client: Client, service: str, window: int, body: bytes, seconds: float) -> _Sent:
    clock = time.perf_counter
    sent_at: dict[int, float] = {}
    began_at = clock()
    end_at = began_at + seconds

    def bodies() -> Iterator[bytes]:
        position = 0
        while True:
            if position % SAMPLE_EVERY == 0:
                now = clock()
                if now >= end_at:
                    return
                sent_at[position] = now
            yield body
            position += 1

    latencies: list[float] = []
    requests = 0
    for position, _ in client.map(bodies(), service, window=window, is_ordered=False):
        requests += 1
        if position % SAMPLE_EVERY == 0:
            latencies.append(clock() - sent_at.pop(position))
    return _Sent(requests, clock() - began_at, latencies)


if __name__ == "__main__":
    _client(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
