"""What ``cbw verify --broker HOST --dialect lab`` does to a broker of the lab's dialect: that of a student, for instance.

Its clients and its workers are of the verification's own, so a worker can be killed or frozen at the right moment; the broker
is never harmed. It judges nothing; the traces that it leaves are judged.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from cbw.core import catalogue
from cbw.core.port import Frames
from cbw.errors import NotReady
from cbw.observe.trace import Trace
from cbw.transport.listening import what_listens
from cbw.transport.plain_peer import PlainPeer, with_input
from cbw.transport.resolver import place_of
from cbw.transport.sockets import new_context
from cbw.verify.idle import is_nobody_idle
from cbw.verify.lab_peers import LAB_SERVICE, REGISTRATION, LabClient, LabWorker
from cbw.verify.load import send_load
from cbw.verify.notebook import Notebook
from cbw.verify.scenario import BEGIN_S, LOAD_WORKERS, VICTIM_WORK_S, WORK_S, Target, merged

LOAD_CLIENTS = 12
"""Clients that ask at once, three times as many as there are workers: a REQ client has one request only, and most are to wait."""
LOAD_ROUNDS = 10
"""Requests of each of them."""
TURNS = 8
"""Requests that are asked one after another while all workers are free: each has to come up twice."""
TURN_WORK_S = 0.06
"""How long each of them takes: so much longer has one worker been free than the next."""
TURN_S = 0.25
"""Longest wait for something to happen, so that Ctrl-C is noticed."""
STRAY_S = 0.5
"""Time in which an answer arrives that should not: a second one, or a late one."""

UNSEEN = (
    "What the broker decides, and when: it keeps no trace that could be read. That it gave a worker up shows only when another "
    "one begins the request; a free worker is noticed from 200 ms on, as the way to the broker and back looks like idleness.",
    "How the broker notices a dead process or a dead machine: the workers here live in one process, and one is killed by "
    "closing its connection.",
    "What happens when the broker itself dies, or starts again: it is not the verification's to kill.",
    "What the broker prints, and what it sends to a logger.",
    "The broker's memory, and requests that have waited in it for more than some seconds.",
)
"""What this kind of verification cannot see, for the report."""

_STRANGE: tuple[tuple[str, str, Frames], ...] = (
    ("clients", "one frame that is not empty", [b"hello"]),
    ("clients", "one empty frame", [b""]),
    ("clients", "five frames", [b"", b"a", b"b", b"c", b"d"]),
    ("clients", "bytes that are no text", [b"", b"\xff\xfe\x00"]),
    ("workers", "one frame that is not empty", [b"hello"]),
    ("workers", "an answer for a client that is not there", [b"", b"nobody", b"an answer"]),
    ("workers", "seven frames", [b"", b"a", b"b", b"c", b"d", b"e", b"f"]),
)


class LabScenario:
    """Asks the broker at ``target``, hurts workers of its own, and leaves traces in ``folder``. Leaving it (``with``) closes all.

    ``timeout_s`` is the time for an answer; ``sends_bad_frames``: at the end messages are sent that no program of the lab sends.
    ``say`` is called with lines of progress.

    Raises:
        UsageError: ``folder`` holds traces already.
    """

    def __init__(
        self,
        folder: str,
        target: Target,
        say: Callable[[str], None],
        *,
        timeout_s: float,
        sends_bad_frames: bool = False,
    ) -> None:
        self._notebook = Notebook(folder)
        self._traces = {role: Trace(self._notebook.path(role), is_printing=False) for role in ("clients", "workers")}
        self._target = target
        self._say = say
        self._timeout_s = timeout_s
        self._sends_bad_frames = sends_bad_frames
        self._prefix = f"V{os.urandom(2).hex()}_"
        self._context = new_context()
        self._clients: dict[PlainPeer, LabClient] = {}
        self._workers: dict[PlainPeer, LabWorker] = {}
        self._count = {"CLI": 0, "WOR": 0}

    def __enter__(self) -> LabScenario:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self) -> None:
        """The whole scenario. When it is over the traces are complete.

        Raises:
            NotReady: nobody there serves the lab's dialect, or other workers than ours answer.
        """
        self._notebook.note(catalogue.STARTED, service=LAB_SERVICE)
        self._notebook.note(catalogue.LAB_SPOKEN)
        self._meet()
        self._take_turns()
        if self._load():
            self._kill()
            self._freeze()
            if self._sends_bad_frames:
                self._send_bad_frames()
        self._run_for(STRAY_S)
        self.stop()

    def stop(self) -> None:
        """Close what is open. Safe to call twice."""
        for client in self._clients.values():
            client.give_up(time.monotonic(), "the verification was over")
        for peer in (*self._clients, *self._workers):
            peer.close()
        self._clients, self._workers = {}, {}
        self._context.term()
        for trace in self._traces.values():
            trace.close()
        self._notebook.close()

    def traces(self) -> list[str]:
        """The files to judge."""
        return self._notebook.files()

    # --- the parts

    def _meet(self) -> None:
        """Have every worker answer a request.

        Raises:
            NotReady: they do not.
        """
        self._say(f"{LOAD_WORKERS} workers register")
        for _ in range(LOAD_WORKERS):
            self._new_worker()
        peer, client = self._new_client()
        met: dict[str, None] = {}
        own = {worker.id for worker in self._workers.values()}
        until = time.monotonic() + self._timeout_s
        while len(met) < LOAD_WORKERS:
            if not self._answered(peer, client, 0.0) or time.monotonic() > until:
                break
            if client.answered_by not in own:
                raise NotReady(
                    f"a worker that is not the verification's has answered: {client.answered_by!r}",
                    advice="Stop the workers of that broker while it is verified.",
                )
            met[client.answered_by] = None
        if not met:
            raise self._no_broker(client)

    def _no_broker(self, client: LabClient) -> NotReady:
        """Why nobody answers."""
        target = self._target
        odd = next((worker.odd_frames for worker in self._workers.values() if worker.odd_frames), "")
        if odd:
            told = f"it sends {odd} to a worker, where the lab has an empty frame, the client and the message"
        elif client.odd_frames:
            told = f"it sends {client.odd_frames} to a client, where the lab has an empty frame and the reply"
        elif any(worker.request for worker in self._workers.values()):
            told = "it gave a request to a worker, and nobody got the worker's answer"
        else:
            ports = ((target.client_port, "clients"), (target.worker_port, "workers"))
            found = [(port, whose, what_listens(target.host, port)) for port, whose in ports]
            wrong = [one for one in found if one[2].kind != "ROUTER"]
            told = "; ".join(f"at {place_of(target.host, port)}, for {whose}, {one.text}" for port, whose, one in wrong)
            told = (
                told or f"both ports are ROUTER sockets, but no worker got a client's request in {self._timeout_s:g} s"
            )
        return NotReady(
            f"no broker of the lab's dialect serves {target.client_address}: {told}",
            advice="Check --broker and --worker-port; for a broker of cbw leave --dialect out.",
        )

    def _take_turns(self) -> None:
        """One request after another, while all workers are free."""
        self._say(f"a client sends {TURNS} requests, one after another")
        peer, client = self._new_client()
        for _ in range(TURNS):
            if not self._answered(peer, client, TURN_WORK_S):
                return

    def _load(self) -> bool:
        """Send many requests, once more if a worker looks free for too long. False: none is answered any more."""
        return send_load(self._send_all, lambda: is_nobody_idle(merged(self.traces())), self._notebook, self._say)

    def _send_all(self) -> bool:
        """Every client has a request, all the time. False: none is answered any more."""
        self._say(f"{LOAD_CLIENTS} clients send {LOAD_ROUNDS} requests each to {LOAD_WORKERS} workers")
        clients = dict(self._new_client() for _ in range(LOAD_CLIENTS))
        left = dict.fromkeys(clients, LOAD_ROUNDS)
        works = {peer: WORK_S[number % len(WORK_S)] for number, peer in enumerate(clients)}
        is_answered = False
        while any(left.values()) or any(client.request for client in clients.values()):
            now = time.monotonic()
            for peer, client in clients.items():
                if client.request and now - client.asked_at > self._timeout_s:
                    client.give_up(now, f"no answer in {self._timeout_s:g} s")
                    left[peer] = 0
                elif not client.request and left[peer]:
                    left[peer] -= 1
                    peer.send(client.ask(works[peer], now))
            self._turn(TURN_S)
            is_answered = is_answered or any(client.answered_by for client in clients.values())
        return is_answered

    def _kill(self) -> None:
        """Close the connection of a worker in the middle of a request, and start another in its place."""
        hurt = self._hurt(catalogue.KILLED)
        if hurt is None:
            return
        victim, peer, client = hurt
        self._workers.pop(victim)
        victim.close()
        self._await(peer, client)
        self._new_worker()

    def _freeze(self) -> None:
        """Have a worker stand still until another one has its request, and answer then; it must be used again."""
        hurt = self._hurt(catalogue.FROZEN)
        if hurt is None:
            return
        victim, peer, client = hurt
        worker = self._workers[victim]
        request = client.request
        worker.is_frozen = True

        def is_with_another() -> bool:
            return not client.request or any(
                other.request == request for other in self._workers.values() if other is not worker
            )

        self._run_until(is_with_another, self._timeout_s)
        self._say(f"waking {worker.id}")
        self._notebook.note(catalogue.THAWED, worker=worker.id, request=request)
        worker.is_frozen = False
        self._await(peer, client)
        self._run_for(STRAY_S)
        peer, client = self._new_client()
        for _ in range(2 * LOAD_WORKERS):
            if not self._answered(peer, client, 0.0) or client.answered_by == worker.id:
                return

    def _hurt(self, event: catalogue.EventName) -> tuple[PlainPeer, PlainPeer, LabClient] | None:
        """Ask, and note the harm to the worker that begins the request: its connection, the client's, and the client."""
        peer, client = self._new_client()
        peer.send(client.ask(VICTIM_WORK_S, time.monotonic()))
        request = client.request

        def victims() -> Iterator[PlainPeer]:
            return (one for one, worker in self._workers.items() if worker.request == request)

        if not self._run_until(lambda: next(victims(), None), min(BEGIN_S, self._timeout_s)):
            client.give_up(time.monotonic(), "no worker has begun it")
            return None
        victim = next(victims())
        name = self._workers[victim].id
        self._say(f"{name} is {event}, which works on {request}")
        self._notebook.note(event, worker=name, request=request)
        return victim, peer, client

    def _send_bad_frames(self) -> None:
        """Send what no program of the lab sends; after each message a client asks."""
        ports = {"clients": self._target.client_port, "workers": self._target.worker_port}
        for whose, what, frames in _STRANGE:
            self._say(f"a stranger sends {what} to the port for {whose}")
            stranger = self._new_peer(ports[whose], "STRANGER")
            stranger.send(frames)
            self._run_for(STRAY_S)
            self._notebook.note(catalogue.STRANGE_SENT, text=f"{what} to the port for {whose}")
            peer, client = self._new_client()
            is_answered = self._answered(peer, client, 0.0)
            stranger.close()
            if not is_answered:
                return

    # --- requests

    def _answered(self, peer: PlainPeer, client: LabClient, work_s: float) -> bool:
        """Ask, and wait for the answer."""
        peer.send(client.ask(work_s, time.monotonic()))
        return self._await(peer, client)

    def _await(self, peer: PlainPeer, client: LabClient) -> bool:
        """Wait until the client has its answer, or has waited for as long as it does."""
        if not self._run_until(lambda: not client.request, client.asked_at + self._timeout_s - time.monotonic()):
            client.give_up(time.monotonic(), f"no answer in {self._timeout_s:g} s")
            return False
        return True

    def _new_client(self) -> tuple[PlainPeer, LabClient]:
        name = self._next_name("CLI")
        peer = self._new_peer(self._target.client_port, name)
        self._clients[peer] = LabClient(name, lambda record: self._traces["clients"].write([record]))
        return peer, self._clients[peer]

    def _new_worker(self) -> None:
        name = self._next_name("WOR")
        peer = self._new_peer(self._target.worker_port, name)
        self._workers[peer] = LabWorker(name, lambda record: self._traces["workers"].write([record]))
        peer.send(REGISTRATION)

    def _next_name(self, kind: str) -> str:
        self._count[kind] += 1
        return f"{self._prefix}{kind}_{self._count[kind]}"

    def _new_peer(self, port: int, name: str) -> PlainPeer:
        return PlainPeer(self._context, self._target.host, port, name)

    # --- time

    def _run_for(self, seconds: float) -> None:
        self._run_until(lambda: False, seconds)

    def _run_until(self, is_true: Callable[[], object], patience_s: float) -> bool:
        """Let clients and workers do what they do until it is true, for at most ``patience_s``; whether it came true."""
        until = time.monotonic() + patience_s
        while not is_true():
            left = until - time.monotonic()
            if left <= 0:
                return False
            self._turn(min(left, TURN_S))
        return True

    def _turn(self, wait_s: float) -> None:
        """Wait for what comes, and let the workers finish what is due."""
        now = time.monotonic()
        due = [worker.wakes_at - now for worker in self._workers.values() if worker.wakes_at is not None]
        awake = [peer for peer, worker in self._workers.items() if not worker.is_frozen]
        for peer in with_input([*self._clients, *awake], min([wait_s, *due])):
            owner = self._clients.get(peer) or self._workers[peer]
            while (frames := peer.receive()) is not None:
                owner.take(frames, time.monotonic())
        for peer, worker in self._workers.items():
            for answer in worker.work(time.monotonic()):
                peer.send(answer)
