"""``python -m tests.chaos --minutes 5``: a system of real processes comes to random harm, and an account is drawn up.

A broker with a journal, workers and clients of the library and of the lab. At random moments one of them is killed (SIGKILL),
frozen (SIGSTOP), or cut off (its TCP connections are reset and refused for a while). At the end everything heals, the clients
wait for what is in flight, and what they and the workers have written down is compared. Exit code 1: a promise was broken.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.interop.proxy import Proxy
from tests.live.program import environment
from tests.ports import free_port

from .account import Account, account_of
from .ledger import Ledger

TOP = Path(__file__).parents[2]
HOST = "127.0.0.1"
PAUSE_S = (0.05, 0.8)
"""Between two harms."""
FREEZE_S = (0.1, 6.0)
"""Up to twice the liveness: a frozen process is taken for lost, or not."""
CUT_S = (0.05, 4.0)
DOWN_S = (0.0, 1.0)
"""Before a killed process is started again."""
HEAL_S = 40.0
"""In which everything that is in flight ends when nothing is harmed any more."""


class Part:
    """A process of the system, which is started again after it was killed."""

    def __init__(self, name: str, command: Sequence[object], ledger: Path, proxy: Proxy | None = None) -> None:
        self.name = name
        self.proxy = proxy
        self._command = [sys.executable, *map(str, command)]
        self._environment = environment(CHAOS_LEDGER=str(ledger), CHAOS_WORKER=name, PYTHONPATH=str(TOP))
        self._output = ledger.with_name(f"{name}.out")
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._output.open("ab") as output:
            return subprocess.Popen(self._command, env=self._environment, cwd=TOP, stdout=output, stderr=output)

    def kill(self) -> None:
        """As a crash does."""
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Start it again, if it does not run."""
        if self.process.poll() is not None:
            self.process = self._start()

    def tracebacks(self) -> int:
        """How many its processes have printed."""
        return self._output.read_text(errors="replace").count("Traceback")


class Chaos:
    """The system, and what is done to it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.ledger = folder / "ledger"
        self._notes = Ledger(str(self.ledger))
        self._client_port, self._worker_port = free_port(), free_port()
        self.proxies = [Proxy(self._client_port), Proxy(self._worker_port)]
        journal = ["--journal", folder / "journal", "--trace", folder / "trace.jsonl"]
        broker = ["-m", "cbw", "broker", self._client_port, self._worker_port, "--listen", HOST, *journal]
        self.broker = Part("BRO", broker, self.ledger)
        self.workers = [self._worker(number) for number in range(3)]
        self.plain_workers = [
            Part(f"P{number}", ["-m", "tests.chaos.worker", f"P{number}", self._worker_port], self.ledger)
            for number in range(2)
        ]
        kinds = ("native", "native", "ticket", "ticket", "req", "dealer")
        self.clients = [self._client(f"{kind.upper()}{number}", kind) for number, kind in enumerate(kinds)]

    def _worker(self, number: int) -> Part:
        proxy = self.proxies[1] if number == 0 else None
        port = proxy.port if proxy else self._worker_port
        handler = ["--handler", "tests.chaos.worker:handle", "--concurrency", number + 1]
        return Part(f"W{number}", ["-m", "cbw", "worker", f"W{number}", HOST, port, *handler], self.ledger, proxy)

    def _client(self, name: str, kind: str) -> Part:
        proxy = self.proxies[0] if name in ("NATIVE0", "TICKET2") else None
        port = proxy.port if proxy else self._client_port
        return Part(name, ["-m", "tests.chaos.client", kind, name, port, self.ledger], self.ledger, proxy)

    @property
    def parts(self) -> list[Part]:
        """All processes."""
        return [self.broker, *self.workers, *self.plain_workers, *self.clients]

    def harm(self) -> None:
        """Do something bad to one of them."""
        choices = [(self.broker, 3), *((part, 2) for part in (*self.workers, *self.plain_workers))]
        choices += [(part, 1) for part in self.clients]
        (victim,) = self.random.choices([part for part, _ in choices], [weight for _, weight in choices])
        kind = self.random.choice(("kill", "kill", "freeze", "cut" if victim.proxy else "kill"))
        role = victim.name.rstrip("0123456789").lower()
        self.counts[f"{kind} {role}"] += 1
        if kind == "kill":
            self._kill(victim)
        elif kind == "freeze":
            self._freeze(victim)
        elif victim.proxy is not None:
            victim.proxy.cut()
            time.sleep(self.random.uniform(*CUT_S))
            self._notes.note("harmed", "-", victim.name)
            victim.proxy.mend()

    def _kill(self, victim: Part) -> None:
        victim.kill()
        if victim in self.clients and not victim.name.startswith("TICKET"):  # the next one fetches what that has left
            for prefix in self._asked_by(victim.name):
                self._notes.note("killed", prefix, victim.name)
        time.sleep(self.random.uniform(*DOWN_S))
        victim.start()

    def _asked_by(self, name: str) -> dict[str, None]:
        """What the requests of all runs of a client so far begin with."""
        lines = self.ledger.read_text().splitlines()
        return {line.split(" ")[2].partition("/")[0]: None for line in lines if f" sent {name}:" in line}

    def _freeze(self, victim: Part) -> None:
        victim.process.send_signal(signal.SIGSTOP)
        time.sleep(self.random.uniform(*FREEZE_S))
        self._notes.note("harmed", "-", victim.name)
        victim.process.send_signal(signal.SIGCONT)

    def settle(self) -> None:
        """No more harm: the clients wait for what is in flight, and end."""
        for part in self.parts:
            part.start()
        for client in self.clients:
            client.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + HEAL_S
        for client in self.clients:
            try:
                client.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.counts["clients that never ended"] += 1
        time.sleep(1.0)

    def end(self) -> None:
        """Kill what runs."""
        for part in self.parts:
            part.process.send_signal(signal.SIGCONT)
            part.kill()
        for proxy in self.proxies:
            proxy.close()


def run(minutes: float, kills: int, seed: int, folder: Path, *, is_telling: bool) -> tuple[Account, Counter[str], int]:
    """A chaos of so many minutes, or until so many processes were killed; its account, its harms, and tracebacks of ours."""
    chaos = Chaos(folder, seed)
    try:
        time.sleep(1.5)
        until = time.monotonic() + minutes * 60
        while time.monotonic() < until and (not kills or _kills(chaos.counts) < kills):
            time.sleep(chaos.random.uniform(*PAUSE_S))
            chaos.harm()
            if is_telling:
                print(f"\r{sum(chaos.counts.values())} harms, {_kills(chaos.counts)} kills", end="", file=sys.stderr)
        chaos.settle()
        return account_of(chaos.ledger), chaos.counts, sum(part.tracebacks() for part in chaos.parts)
    finally:
        chaos.end()


def _kills(counts: Counter[str]) -> int:
    return sum(count for name, count in counts.items() if name.startswith("kill"))


def main() -> int:
    """Run it and print the account."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--kills", type=int, default=0, help="stop after so many kills")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--keep", type=Path, help="leave ledger, traces and output here")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cbw-chaos-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        is_telling = sys.stderr.isatty()
        account, counts, tracebacks = run(options.minutes, options.kills, options.seed, folder, is_telling=is_telling)
        judged = subprocess.run(
            [sys.executable, "-m", "cbw", "verify", "--trace", folder / "trace.jsonl"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    found = {"seed": options.seed, "harms": dict(sorted(counts.items())), "tracebacks": tracebacks, **account._asdict()}
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<24}{value}")
        print(judged.stdout + judged.stderr, end="")
    return 0 if account.is_clean and not tracebacks and judged.returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
