"""An owner of a journal on three NATS servers, its standby, two workers, and a client that asks all the time.

Each broker reaches the servers over relays of its own, so that it can be cut off from them while its clients reach it.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from cbw import Client
from tests.nats_server import NatsCluster, NatsServer, free_ports
from tests.relay import Relay

from .conftest import HOST, Log, Start
from .program import PATIENCE_S, Program, wait_until

ELSEWHERE = "127.0.0.2"
"""Where another broker can have the same ports, as on another machine."""
JOURNAL = "faults"
STREAM = f"CBW_{JOURNAL}"
WINDOW = 20
"""Requests that are open at any time."""
MORE = 5 * WINDOW
"""Answers after which a request that was sent just now has certainly been answered."""


class Load:
    """Asks at ``addresses`` until :meth:`end`, with :data:`WINDOW` requests open, each of which must get its own body back."""

    def __init__(self, addresses: str) -> None:
        self.answered = 0
        self.lost: list[str] = []
        self.longest_gap_s = 0.0
        self.twice = 0
        self._client = Client(addresses, timeout=2 * PATIENCE_S)
        self._is_over = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._running = self._pool.submit(self._ask)

    def _ask(self) -> None:
        open_requests: deque[tuple[bytes, Future[bytes]]] = deque()
        number, answered_at = 0, time.monotonic()
        with self._client as client:
            while open_requests or not self._is_over.is_set():
                while len(open_requests) < WINDOW and not self._is_over.is_set():
                    body = b"%d" % number
                    open_requests.append((body, client.submit(body)))
                    number += 1
                body, future = open_requests.popleft()
                if (error := future.exception()) is not None:
                    self.lost.append(f"{body.decode()}: {error!r}")
                    continue
                assert future.result() == body
                now = time.monotonic()
                self.longest_gap_s, answered_at = max(self.longest_gap_s, now - answered_at), now
                self.answered += 1
        self.twice = client.status()["counts"]["answers_unasked"]

    def wait_for_more(self) -> None:
        """Until requests are answered that were sent from now on."""
        before = self.answered
        wait_until(
            lambda: self.answered >= before + MORE or self._running.done(), "it goes on", within_s=2 * PATIENCE_S
        )
        if self._running.done():
            self._running.result()

    def end(self) -> None:
        """Send no more, and wait for the answers."""
        self._is_over.set()
        self._running.result(2 * PATIENCE_S)
        self._pool.shutdown()


class Outcome(NamedTuple):
    """What a fault has done."""

    answered: int
    lost: list[str]
    twice: int
    """Answers that came again."""
    executed_again: int
    stall_s: float
    """The longest time between two answers."""
    takeover_s: float | None
    """From the harm until the standby served; None: it never did."""


class NatsSystem:
    """Runs inside the ``with`` block, in ``folder``; ``start`` starts its programs and ends them. With ``has_disks`` each server
    has a small disk of its own, which only root can make.
    """

    def __init__(self, folder: Path, start: Start, *, has_disks: bool = False) -> None:
        self.folder = folder
        self._start = start
        self._log = Log(folder / "log")
        self._front, self._back = free_ports(2)
        self._disks = [folder / f"n{number}" for number in range(3)] if has_disks else []
        self._stack = ExitStack()
        self._harmed_at = 0.0
        self._takeover_s: float | None = None

    def __enter__(self) -> NatsSystem:
        with ExitStack() as stack:
            for disk in self._disks:
                disk.mkdir()
                subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", disk], check=True)
                stack.callback(subprocess.check_call, ["umount", "--lazy", disk])
            self.cluster = stack.enter_context(NatsCluster(self.folder))
            self.owner_relays, self.standby_relays = (self._relays(stack) for _ in range(2))
            self._stack = stack.pop_all()
        return self

    def _relays(self, stack: ExitStack) -> list[Relay]:
        relays = [Relay(server.port) for server in self.cluster.servers]
        for relay in relays:
            stack.callback(relay.close)
        return relays

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, options: Mapping[str, Mapping[str, Any]]) -> None:
        """Start all roles, the ``owner`` and the ``standby`` with these options, and wait until requests are answered."""
        self.owner = self.broker(HOST, self.owner_relays, **options.get("owner", {}))
        self.owner.wait_for("serves clients")
        self.standby = self.broker(ELSEWHERE, self.standby_relays, **options.get("standby", {}))
        self.standby.wait_for("stands by")
        places = f"{HOST}:{self._back},{ELSEWHERE}:{self._back}"
        for number in range(2):
            self._start(
                "worker", f"W{number}", places, "--handler=handlers:note_done", CBW_TEST_LOG=str(self._log.path)
            )
        self.load = Load(f"{HOST}:{self._front},{ELSEWHERE}:{self._front}")
        self.load.wait_for_more()
        self.load.longest_gap_s = 0.0
        self._harmed_at = time.monotonic()

    def broker(self, listen: str, relays: list[Relay], **options: Any) -> Program:
        """Start one more, which reaches the servers over ``relays``."""
        journal = f"nats://{','.join(relay.address for relay in relays)}/{JOURNAL}"
        return self._start("broker", self._front, self._back, "--listen", listen, "--journal", journal, **options)

    def wait_for_takeover(self, of: Program | None = None) -> None:
        """Until the standby, or another broker, serves."""
        (of or self.standby).wait_for("serves clients")
        self._takeover_s = time.monotonic() - self._harmed_at

    def disk_of(self, server: NatsServer) -> Path:
        """The disk of ``server``."""
        return self._disks[self.cluster.servers.index(server)]

    def leader(self) -> NatsServer:
        """The server that takes the appends."""
        deadline = time.monotonic() + PATIENCE_S
        while (leader := self.cluster.leader_of(STREAM)) is None:
            assert time.monotonic() < deadline, "the servers have no leader"
            time.sleep(0.1)
        return leader

    def outcome(self) -> Outcome:
        """Wait for all answers, and count."""
        self.load.wait_for_more()
        self.load.end()
        executed = self._log.lines
        return Outcome(
            self.load.answered,
            self.load.lost,
            self.load.twice,
            len(executed) - len({*executed}),
            self.load.longest_gap_s,
            self._takeover_s,
        )
