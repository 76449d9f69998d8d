"""Workers that beat (Majordomo, Paranoid Pirate) and die, freeze, are slow or lose their broker: requests are answered by others.

All share a broker that notices silence after 1.5 s; so these tests are about seconds, not about minutes.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import pytest
import zmq

from tests.ports import free_port

from .conftest import HOST, IMPATIENT, Broker, Start, StartBroker, listening
from .program import PATIENCE_S, Program

WORK_MS = 2
HANGS_MS = 60_000
KINDS: dict[str, tuple[object, ...]] = {
    "py-01": ("mdp_worker.py", "0.1"),
    "js-02": ("mdp_worker.js", "0.2"),
    "majortomo": ("majortomo_worker.py",),
    "py-ppp": ("ppp_worker.py",),
    "js-ppp": ("ppp_worker.js",),
}
"""The Python programs and ``majortomo`` are silent while they work; those in Node beat on."""
kinds = pytest.mark.parametrize("kind", KINDS)

_numbers = itertools.count(1)


class Service:
    """A service of its own for each test; pirates serve only the nameless one."""

    def __init__(self, kind: str, broker: Broker, start: Start, asking: zmq.Socket[bytes]) -> None:
        self.kind = kind
        self.name = "" if kind.endswith("ppp") else f"{kind}-{next(_numbers)}"
        self.broker = broker
        self._start = start
        self._asking = asking

    def worker(self, name: str, *times_ms: float, kind: str = "", **environment: object) -> Program:
        """Start a worker of this kind, or of another."""
        kind = kind or self.kind
        service = [] if kind.endswith("ppp") else [self.name]
        program = self._start(*KINDS[kind], *service, name, HOST, self.broker.back, *times_ms, **environment)
        program.wait_for("ready")
        return program

    def ask(self, body: str) -> None:
        self._asking.send_multipart([b"", b"MDPC01", self.name.encode(), body.encode()])

    def reply(self, *, within_s: float = PATIENCE_S) -> str | None:
        if not self._asking.poll(int(within_s * 1000)):
            return None
        return self._asking.recv_multipart()[-1].decode()


ServiceOf = Callable[..., Service]


@pytest.fixture
def service_of(shared_broker: Broker, start: Start) -> Iterator[ServiceOf]:
    """``service_of("py-01")``: a new service for workers of that kind; at the shared broker, or at another one."""
    with zmq.Context() as context:
        sockets = []

        def make(kind: str, broker: Broker = shared_broker) -> Service:
            socket = context.socket(zmq.DEALER)
            socket.linger = 0
            socket.connect(f"tcp://{HOST}:{broker.front}")
            sockets.append(socket)
            return Service(kind, broker, start, socket)

        yield make
        for socket in sockets:
            socket.close()


@kinds
def test_killed_in_the_middle_of_a_request(kind: str, service_of: ServiceOf) -> None:
    """It is the lost connection that is noticed, at once."""
    service = service_of(kind)
    bad = service.worker("BAD", HANGS_MS)
    service.ask("one")
    bad.wait_for("task one")
    service.worker("GOOD", WORK_MS)
    bad.kill()
    assert service.reply() == "one GOOD"


@kinds
def test_frozen_in_the_middle_of_a_request(kind: str, service_of: ServiceOf) -> None:
    """Its silence is noticed. When it thaws, its late answer goes to nobody, and it is used again."""
    service = service_of(kind)
    frozen = service.worker("FROZEN", 1000, BEAT_MS=100)
    time.sleep(0.5)  # some beats, so that the broker knows its rate
    service.ask("one")
    frozen.wait_for("task one")
    frozen.freeze()
    good = service.worker("GOOD", WORK_MS)
    assert service.reply() == "one GOOD"
    fenced = len(service.broker.program.said_anywhere("fenced"))
    good.kill()
    frozen.thaw()
    frozen.wait_for("answer one")
    has_hung_up = "silence" in frozen.lines[: frozen.lines.index("answer one")]  # before it could send its answer
    if kind != "js-02" and not has_hung_up:  # js-02 reads the DISCONNECT first, and does not send its answer any more
        service.broker.program.wait_for("fenced", fenced + 1, is_anywhere=True)
    frozen.wait_for("ready", 2)
    service.ask("two")
    assert service.reply() == "two FROZEN"
    assert service.reply(within_s=0.1) is None


def test_those_that_beat_seldom_or_are_silent_at_work_are_not_taken_for_lost(
    service_of: ServiceOf, start_broker: StartBroker
) -> None:
    """One beats every 0.7 s, so 1.5 s of silence are nothing; and the first task of each takes longer than that.

    Nor do they take the broker for lost. ``majortomo`` would after 2 s, as it sends no beat after a long task: so the broker
    beats by itself.
    """
    broker = start_broker(*IMPATIENT)
    services = [service_of(kind, broker) for kind in ("py-01", "majortomo", "py-ppp")]
    for service in services:
        service.ask("one")  # before there is a worker, so that none has beaten when it gets its first task
    workers = [
        service.worker("W1", WORK_MS, 1, 2500, BEAT_MS=500 if service.kind == "majortomo" else 700)
        for service in services
    ]
    for service in services:
        assert service.reply() == "one W1"
    time.sleep(1.0)
    for service in services:
        service.ask("two")
        assert service.reply() == "two W1"
    for worker in workers:
        assert worker.lines.count("ready") == 1, "it has not had to register again"
    assert not broker.program.said_anywhere("worker lost")


def test_a_worker_that_beats_at_work_may_take_its_time(service_of: ServiceOf) -> None:
    """Its answer may take longer than any silence would be borne."""
    service = service_of("js-ppp")
    worker = service.worker("W1", 3500)
    service.ask("one")
    assert service.reply() == "one W1"
    assert worker.lines.count("ready") == 1


def test_killed_again_and_again(service_of: ServiceOf) -> None:
    """Each failure is that of a worker of another kind; the client notices nothing."""
    service = service_of("py-ppp")
    service.ask("one")
    service.ask("two")
    first = service.worker("BAD1", WORK_MS, 2, HANGS_MS, kind="js-ppp")
    assert service.reply() == "one BAD1"
    first.wait_for("task two")
    first.kill()
    second = service.worker("BAD2", HANGS_MS)
    second.wait_for("task two")
    second.kill()
    service.worker("GOOD", WORK_MS)
    assert service.reply() == "two GOOD"


def test_all_find_a_broker_that_was_restarted(start: Start) -> None:
    """Majordomo's are told with a DISCONNECT; pirates notice that nobody answers their beats."""
    front, back = free_port(), free_port()
    first = listening(Broker(start("broker", front, back), front, back))
    workers = {
        kind: start(*program, *([] if kind.endswith("ppp") else [kind]), kind, HOST, back, WORK_MS)
        for kind, program in KINDS.items()
    }
    first.program.wait_for("worker ready", len(workers), is_anywhere=True)
    first.program.kill()
    second = listening(Broker(start("broker", front, back), front, back))
    second.program.wait_for("worker ready", len(workers), is_anywhere=True)
    with zmq.Context() as context, context.socket(zmq.REQ) as asking:
        asking.linger = 0
        asking.connect(f"tcp://{HOST}:{front}")
        for service in ("py-01", "js-02", "majortomo", ""):
            asking.send_multipart([b"MDPC01", service.encode(), b"hi"])
            assert asking.poll(int(PATIENCE_S * 1000)), service
            name = asking.recv_multipart()[-1].decode().removeprefix("hi ")
            assert name == service or name.endswith("ppp")
