"""``cbw bench``: a broker, workers and clients as processes of this machine, at full speed, and what they cost.

A client process warms up, says that it is ready, waits for the word, sends for a while through the public
:class:`~cbw.client.Client`, and prints what it measured. CPU time is read from ``/proc`` around that while.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from cbw.client import Client
from cbw.errors import CbwError, NotReady
from cbw.local import Options, Role, Scale, System, start_process

WARM_UP_S = 1.0
REACH_S = 3.0
ANSWER_S = 10.0
"""Nobody answers any more if an answer takes so long: the workers do nothing, and at most a window is before it."""
SAMPLE_EVERY = 16
"""Latency is measured of every 16th request: reading the clock twice for each would cost a tenth of the throughput."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure. ``broker`` is ``(host, client port, worker port)`` of one that runs already.

    ``logged``: a logger runs too, and gets the whole trace of the ``broker`` or of ``all`` roles. ``status_port``:
    where the broker serves its status pages; 0: nowhere.
    """

    clients: int = 1
    workers: int = 1
    window: int = 256
    body_bytes: int = 100
    seconds: float = 5.0
    broker: tuple[str, int, int] | None = None
    logged: Literal["", "broker", "all"] = ""
    status_port: int = 0


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


def echo(body: bytes) -> bytes:
    """The handler of the workers: no work at all."""
    return body


def measure(load: Load) -> Measured:
    """Start everything, send, and measure. Every process is ended before it returns.

    Raises:
        NotReady: a client does not get an answer.
        CannotBind: no port is free.
    """
    scale = Scale(cli=0, wor=0, log=int(load.logged != ""))
    with tempfile.TemporaryDirectory(prefix="cbw-bench-") as folder:
        log_file = f"{folder}/logs"
        options = Options(
            scale=scale, client_port=0, worker_port=0, log_port=0, log_file=log_file, status_port=load.status_port
        )
        with System(options, lambda _role, _line: None) as system:
            if load.broker is None:
                host, (client_port, worker_port) = options.host, system.start()
            else:
                host, client_port, worker_port = load.broker
                for port in (client_port, worker_port):
                    _reach(host, port)
            return _measure(load, system, host, client_port, worker_port)


def _measure(load: Load, system: System, host: str, client_port: int, worker_port: int) -> Measured:
    service = f"bench-{os.urandom(4).hex()}"
    workers: list[Role] = []
    clients: list[subprocess.Popen[str]] = []
    environment = {"CBW_STATUS_PORT": "0", **(system.log_environment(1) if load.logged == "all" else {})}
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
        return _run(load, system, workers, clients)
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


def _run(load: Load, system: System, workers: Sequence[Role], clients: Sequence[subprocess.Popen[str]]) -> Measured:
    for client in clients:
        _said(client)
    pids = {
        "logger": [role.process.pid for role in system.loggers if role.process is not None],
        "broker": [system.broker.process.pid]
        if system.broker is not None and system.broker.process is not None
        else [],
        "worker": [role.process.pid for role in workers if role.process is not None],
        "client": [client.pid for client in clients],
    }
    before = {role: sum(map(_cpu_s, those)) for role, those in pids.items()}
    for client in clients:
        assert client.stdin is not None
        client.stdin.write("go\n")
        client.stdin.flush()
    results = [msgspec.json.decode(_said(client), type=_Sent) for client in clients]
    after = {role: sum(map(_cpu_s, those)) for role, those in pids.items()}
    requests = sum(result.requests for result in results)
    latencies = sorted(latency for result in results for latency in result.latencies)
    return Measured(
        requests,
        sum(result.requests / result.seconds for result in results),
        latencies[len(latencies) // 2],
        latencies[int(0.99 * len(latencies))],
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


def _cpu_s(pid: int) -> float:
    """User and system time of a process (proc(5): fields 14 and 15 of ``stat``)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


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
