"""``python -m tests.attack --minutes 10``: a live system beside which strangers say whatever ZMTP allows or forbids.

A broker, a worker and a logger, and clients that ask one request after another: of the library, and a Majordomo REQ program.
First they are alone; then attackers connect to all ports. At the end no role has ended, every request has its own answer, and
the clients' times with and without the attack are printed. Exit code 1: that was not so.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import zmq

import cbw
from tests.live.program import Program, environment

TOP = Path(__file__).parents[2]
HOST = "127.0.0.1"
SERVICE = "live"
QUIET_SHARE = 0.2
QUIET_S_MAX = 20.0
"""Longest time in seconds for which the clients are alone at first."""
PAUSE_S = 0.002
"""Between two requests of a client, so that their times are not those of full load."""
ANSWER_S = 20.0
"""Later than this is never."""
STARTED_S = 30.0


@dataclass
class Asker:
    """What became of one client's requests."""

    name: str
    times_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def run(self, ask: Callable[[bytes], bytes], is_over: threading.Event) -> None:
        """Ask until ``is_over``."""
        number = 0
        while not is_over.is_set():
            number += 1
            body = f"{self.name}-{number}".encode()
            began_at = time.monotonic()
            try:
                answer = ask(body)
            except Exception as error:  # whatever it is, the request has no answer
                self.faults.append(f"{body.decode()}: {type(error).__name__}: {error}")
                if len(self.faults) > 20:
                    return
                continue
            self.times_s.append(time.monotonic() - began_at)
            if answer != body:
                self.faults.append(f"{body.decode()} got {answer[:100]!r}")
            is_over.wait(PAUSE_S)


class Attacked:
    """The roles that are attacked."""

    def __init__(self, folder: Path) -> None:
        self.roles: list[Program] = []
        logger = self._start("logger", 0, folder / "log", "--listen", HOST)
        ports = logger.wait_for("records on port", within_s=STARTED_S)
        self.text_port = int(ports.split("text on port ")[1].split(",")[0])
        broker = self._start("broker", 0, 0, "--listen", HOST)
        words = broker.wait_for("serves clients on port", within_s=STARTED_S).replace(",", "").split(" ")
        self.client_port, self.worker_port = (int(words[at + 1]) for at, word in enumerate(words) if word == "port")
        handler = ["--handler", f"{SERVICE}=handlers:echo", "--concurrency", 2]
        worker = self._start("worker", "W1", HOST, self.worker_port, *handler)
        worker.wait_for("works for", within_s=STARTED_S)

    def _start(self, *arguments: object) -> Program:
        self.roles.append(Program(*arguments))
        return self.roles[-1]

    @property
    def ports(self) -> list[int]:
        """Those that strangers reach."""
        return [self.client_port, self.worker_port, self.text_port, self.text_port + 1]

    def faults(self) -> list[str]:
        """What is wrong with the roles."""
        ended = [f"ended: {role}" for role in self.roles if not role.is_running]
        return ended + [f"a traceback: {role}" for role in self.roles if role.count("Traceback")]

    def memory_mb(self) -> dict[str, int]:
        """What each role has in memory."""
        found = {}
        for role in self.roles:
            if role.is_running:
                pages = int(Path(f"/proc/{role.pid}/statm").read_text().split()[1])
                found[role.arguments[0]] = pages * os.sysconf("SC_PAGE_SIZE") >> 20
        return found

    def end(self) -> None:
        """Kill what runs."""
        for role in self.roles:
            role.kill()


def native(port: int, asker: Asker, is_over: threading.Event) -> None:
    """A client of the library."""
    with cbw.Client(f"{HOST}:{port}", id=asker.name, timeout=ANSWER_S) as client:
        asker.run(lambda body: client.call(body, service=SERVICE), is_over)


def majordomo(port: int, asker: Asker, is_over: threading.Event) -> None:
    """A REQ program of the ZeroMQ guide."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.rcvtimeo = int(ANSWER_S * 1000)
        socket.connect(f"tcp://{HOST}:{port}")

        def ask(body: bytes) -> bytes:
            socket.send_multipart([b"MDPC01", SERVICE.encode(), body])
            return socket.recv_multipart()[-1]

        asker.run(ask, is_over)


def measure(system: Attacked, seconds: float) -> list[Asker]:
    """Let the clients ask for so long."""
    is_over = threading.Event()
    askers = [Asker("NATIVE1"), Asker("NATIVE2"), Asker("GUIDE")]
    programs = (native, native, majordomo)
    threads = [
        threading.Thread(target=program, args=(system.client_port, asker, is_over))
        for program, asker in zip(programs, askers, strict=True)
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + seconds
    while time.monotonic() < until and not system.faults():
        time.sleep(min(0.2, seconds))
    is_over.set()
    for thread in threads:
        thread.join()
    return askers


def quantiles_ms(askers: list[Asker]) -> dict[str, float]:
    """How long all of their requests took."""
    times_s = sorted(time_s for asker in askers for time_s in asker.times_s) or [float("nan")]
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(times_s[int((len(times_s) - 1) * share)] * 1e3, 2) for name, share in shares.items()}


def run(seconds: float, seed: int, folder: Path, attackers: int) -> dict[str, object]:
    """Attack for so long; what was found. ``faults`` is empty if everything went on as it should."""
    system = Attacked(folder)
    strangers: list[subprocess.Popen[str]] = []
    try:
        quiet_s = min(QUIET_S_MAX, seconds * QUIET_SHARE)
        alone = measure(system, quiet_s)
        before_mb = system.memory_mb()
        for number in range(attackers):
            command = [sys.executable, "-m", "tests.attack.attacker", str(seed + number), *map(str, system.ports)]
            strangers.append(subprocess.Popen(command, cwd=TOP, env=environment(), stdout=subprocess.PIPE, text=True))
        beside = measure(system, seconds - quiet_s)
        for stranger in strangers:
            stranger.send_signal(signal.SIGTERM)
        moves = [stranger.communicate()[0].strip() for stranger in strangers]
        faults = system.faults() + [fault for asker in (*alone, *beside) for fault in asker.faults]
        return {
            "seed": seed,
            "moves": moves,
            "requests": sum(len(asker.times_s) for asker in (*alone, *beside)),
            "alone_ms": quantiles_ms(alone),
            "beside_ms": quantiles_ms(beside),
            "memory_before_mb": before_mb,
            "memory_after_mb": system.memory_mb(),
            "faults": faults,
        }
    finally:
        for stranger in strangers:
            stranger.kill()
            stranger.wait()
            if stranger.stdout:
                stranger.stdout.close()
        system.end()


def main() -> int:
    """Run it and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--attackers", type=int, default=1, help="processes, of several connections each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cbw-attack-") as folder:
        found = run(options.minutes * 60, options.seed, Path(folder), options.attackers)
    for name, value in found.items():
        print(f"{name:<20}{value if name == 'faults' else json.dumps(value)}")
    return 1 if found["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
