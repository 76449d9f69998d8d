"""``python -m benchmarks.strangers``: how much longer requests take while strangers are busy at the broker's ports.

Two brokers run, each with a worker; clients ask the first. The strangers attack the second one and then the first, in turns, so
that what they take from the machine themselves is in both figures. The ratio is what they cost the peers of the broker that
they attack. Each kind of attack is measured alone.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import socket
import threading
import time
from collections.abc import Callable
from random import Random

from tests.attack.moves import attack
from tests.attack.peer import greeting, message, ready
from tests.live.program import Program
from tests.ports import free_port

import cbw

HOST = "127.0.0.1"
SERVICE = "live"
"""For which no stranger of ``tests/attack`` registers: a worker that takes requests is no matter of time."""
PAUSE_S = 0.002
"""Between two requests of a client, so that their times are not those of full load."""
SILENT = 2000
THREADS = 8


class Target:
    """A broker with a worker, and the ports that strangers reach."""

    def __init__(self) -> None:
        self.status_port = free_port()
        self.broker = Program("broker", 0, 0, "--listen", HOST, "--status-port", self.status_port)
        words = self.broker.wait_for("serves clients on port").replace(",", "").split(" ")
        self.client_port, self.worker_port = (int(words[at + 1]) for at, word in enumerate(words) if word == "port")
        self.worker = Program("worker", "W1", HOST, self.worker_port, "--handler", f"{SERVICE}=handlers:echo")
        self.worker.wait_for("works for")

    def end(self) -> None:
        """Kill both."""
        self.worker.kill()
        self.broker.kill()


# --- what strangers do until their process is ended


def say_anything(target: tuple[int, int, int]) -> None:
    """Connections with wrong greetings, handshakes, commands, frames and messages, as fast as it goes."""
    random = Random(target[0])
    while True:
        attack(random, random.choice(target[:2]))


def flood_pages(target: tuple[int, int, int]) -> None:
    """Requests to the status port, as fast as it goes."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection((HOST, target[2]), 1.0) as peer:
            peer.sendall(b"GET /status.json HTTP/1.0\r\n\r\n")
            while peer.recv(65536):
                pass


def stay_silent(target: tuple[int, int, int]) -> None:
    """Many connections that say nothing."""
    held = []
    for number in range(SILENT // THREADS):
        with contextlib.suppress(OSError):
            held.append(socket.create_connection((HOST, target[number % 3]), 1.0))
    threading.Event().wait()


def dribble(target: tuple[int, int, int]) -> None:
    """Connections that send a byte now and then, of ZMTP and of HTTP."""
    said = greeting() + ready() + message(b"CBW1", b"x" * 200)
    peers: list[tuple[socket.socket, bytes]] = []
    for number in range(30):
        with contextlib.suppress(OSError):
            is_page = number % 3 == 2
            words = b"GET /status.json HTTP/1.0\r\nX: " + b"x" * 300 if is_page else said
            peers.append((socket.create_connection((HOST, target[number % 3]), 1.0), words))
    for at in range(300):
        for peer, words in peers:
            with contextlib.suppress(OSError):
                peer.send(words[at : at + 1])
        time.sleep(0.01)
    threading.Event().wait()


KINDS: dict[str, Callable[[tuple[int, int, int]], None]] = {
    "say_anything": say_anything,
    "flood_pages": flood_pages,
    "stay_silent": stay_silent,
    "dribble": dribble,
}


def strangers(kind: str, target: tuple[int, int, int]) -> None:
    """The body of their process."""
    for _ in range(THREADS):
        threading.Thread(target=KINDS[kind], args=(target,), daemon=True).start()
    threading.Event().wait()


# --- what others see of it


def times_of(target: Target, seconds: float) -> list[float]:
    """How long the requests of two clients took."""
    times_s: list[float] = []

    def ask() -> None:
        until = time.monotonic() + seconds
        with cbw.Client(f"{HOST}:{target.client_port}", timeout=30.0) as client:
            while (began_at := time.monotonic()) < until:
                client.call(b"x", service=SERVICE)
                times_s.append(time.monotonic() - began_at)
                time.sleep(PAUSE_S)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times_s


def quantile_ms(times_s: list[float], share: float) -> float:
    """Of these times."""
    return sorted(times_s)[int((len(times_s) - 1) * share)] * 1000


def measure(kind: str, asked: Target, other: Target, seconds: float, rounds: int) -> str:
    """One row of the table."""
    found: dict[str, list[float]] = {"other": [], "asked": []}
    for _ in range(rounds):
        for name, target in (("other", other), ("asked", asked)):
            ports = (target.client_port, target.worker_port, target.status_port)
            process = multiprocessing.get_context("spawn").Process(target=strangers, args=(kind, ports), daemon=True)
            process.start()
            time.sleep(1.0)
            found[name] += times_of(asked, seconds)
            process.kill()
            process.join()
    row = f"{kind:<14}"
    for share in (0.5, 0.99):
        before, beside = (quantile_ms(found[name], share) for name in ("other", "asked"))
        row += f"{before:>9.2f}{beside:>9.2f}{beside / before:>7.2f}"
    return row + f"{len(found['asked']):>9}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strangers", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="for each kind of attack")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this kind; may be repeated")
    options = parser.parse_args()
    asked, other = Target(), Target()
    print(
        f"{'ms':<14}{'p50: other':>9}{'asked':>8}{'ratio':>7}{'p99: other':>11}{'asked':>7}{'ratio':>7}{'requests':>9}"
    )
    try:
        for kind in options.kind or KINDS:
            print(measure(kind, asked, other, options.seconds, options.rounds), flush=True)
    finally:
        asked.end()
        other.end()


if __name__ == "__main__":
    main()
