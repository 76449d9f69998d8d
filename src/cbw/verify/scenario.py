"""What ``cbw verify`` does to a system: load, a kill, a freeze. It judges nothing; the trace that it leaves is judged."""

from __future__ import annotations

import heapq
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path

import msgspec

from cbw.client import Client
from cbw.core.events import Record
from cbw.errors import NotReady
from cbw.local import Options, Role, Scale, System
from cbw.trace import Trace, read
from cbw.verify.handler import TRACE, WORKER

CLIENTS = 3
REQUESTS = 40
WORKERS = 4
WORK_S = (0.005, 0.02, 0.04)
"""The clients' requests take different times, so that replies overtake each other."""
VICTIM_WORK_S = 1.0
"""Long enough to be killed in the middle of."""
ANSWER_S = 10.0
"""For an answer: a frozen worker is given up after three beats of 1 s, and then its heir works for 1 s."""
PATIENCE_S = 10.0
"""For what must happen within seconds: three beats, a start of Python."""


class Target(msgspec.Struct):
    """A broker to be verified. With ``trace`` its own records are judged too."""

    host: str
    client_port: int
    worker_port: int
    trace: str | None = None


class Scenario:
    """Starts what it needs, hurts it, and leaves traces in ``folder``. Leaving it (``with``) ends its processes."""

    def __init__(self, folder: str, target: Target | None, say: Callable[[str], None]) -> None:
        self._folder = Path(folder)
        self._say = say
        self._target = target
        self._system: System | None = None
        self._service = f"verify-{os.urandom(4).hex()}"
        self._workers: list[Role] = []
        self._names: dict[str, Role] = {}
        self._clients: list[Client] = []
        self._notes = Trace(self._path("verify"), is_printing=False)
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def __enter__(self) -> Scenario:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        for worker in self._workers:
            if worker.process is not None and worker.is_running:
                worker.process.kill()
                worker.process.wait()
        if self._system is not None:
            self._system.stop()

    def run(self) -> None:
        """The whole scenario.

        Raises:
            NotReady: the system does not come up, or does not go on.
        """
        self._start()
        self._say(f"{CLIENTS} clients send {REQUESTS} requests each to {WORKERS} workers")
        self._load()
        self._say("killing a worker in the middle of a request")
        self._hurt(signal.SIGKILL, "killed")
        self._say("freezing a worker in the middle of a request")
        self._hurt(signal.SIGSTOP, "frozen")

    def traces(self) -> list[str]:
        """The files to judge."""
        target = [self._target.trace] if self._target and self._target.trace else []
        return [str(path) for path in sorted(self._folder.glob("*.jsonl"))] + target

    # --- the parts

    def _start(self) -> None:
        if self._target is None:
            options = Options(scale=Scale(0, 0, 1), client_port=0, worker_port=0, trace=self._path("broker"))
            self._system = System(options, lambda _role, _line: None)
            self._say("starting a broker")
            client_port, worker_port = self._system.start()
            self._target = Target(options.host, client_port, worker_port)
        for number in range(1, WORKERS + 1):
            self._start_worker(f"V_WOR_{number}_{self._service[-4:]}")
        address = f"{self._target.host}:{self._target.client_port}"
        names = [f"V_CLI_{number}_{self._service[-4:]}" for number in range(1, CLIENTS + 1)]
        self._clients = [Client(address, id=name, timeout=ANSWER_S) for name in names]
        trace = [Trace(self._path(name), is_printing=False) for name in names]
        self._traces = dict(zip(names, trace, strict=True))
        # All workers are there when as many requests as there are workers run at the same time.
        deadline = time.monotonic() + PATIENCE_S
        seen: set[str] = set()
        while len(seen) < WORKERS:
            if time.monotonic() > deadline:
                raise NotReady(
                    f"only {len(seen)} of {WORKERS} workers answer",
                    advice=f"Can workers reach {self._target.host}:{self._target.worker_port}? See --worker-port.",
                )
            futures = [self._submit(self._clients[0], 0.05) for _ in range(WORKERS)]
            seen |= {future.result().rpartition(" ")[2] for future in futures}

    def _start_worker(self, name: str) -> None:
        assert self._target is not None
        arguments = [name, self._target.host, str(self._target.worker_port)]
        command = [sys.executable, "-m", "cbw", "worker", *arguments]
        command += ["--handler", f"{self._service}=cbw.verify.handler:serve"]
        environment = {WORKER: name, TRACE: self._path(name)}
        role = Role(f"wor_{name}", command, lambda _role, _line: None, environment)
        role.start()
        self._workers.append(role)
        self._names[name] = role

    def _load(self) -> None:
        threads = [
            threading.Thread(target=self._load_one, args=(client, WORK_S[number % len(WORK_S)]))
            for number, client in enumerate(self._clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _load_one(self, client: Client, work_s: float) -> None:
        for future in [self._submit(client, work_s) for _ in range(REQUESTS)]:
            future.result()

    def _hurt(self, number: signal.Signals, event: str) -> None:
        """Send ``number`` to a worker that has begun a request; wait for the answer; wake it or start another."""
        client = self._clients[0]
        future = self._submit(client, VICTIM_WORK_S)
        request = f"{client.id}/{self._counts[client.id]}"
        name = self._worker_of(request)
        role = self._names[name]
        assert role.process is not None
        now = time.monotonic()  # before the signal: another may have begun it before the next line
        role.process.send_signal(number)
        self._note(event, name, request, now)
        future.result()
        if event == "killed":
            self._start_worker(f"{name}b")
            return
        now = time.monotonic()
        role.process.send_signal(signal.SIGCONT)
        self._note("thawed", name, request, now)
        self._wait(lambda: self._is_done(name, request), f"{name} goes on with {request}")
        self._wait(lambda: self._is_used_again(name), f"{name} is used again", is_owed=False)

    def _worker_of(self, request: str) -> str:
        """Who has begun ``request``, by the workers' own traces."""
        found: list[str] = []

        def look() -> bool:
            found.extend(record.worker for record in self._worker_records("begun") if record.request == request)
            return bool(found)

        self._wait(look, f"a worker begins {request}")
        return found[0]

    def _is_done(self, worker: str, request: str) -> bool:
        return any(record.request == request and record.worker == worker for record in self._worker_records("done"))

    def _is_used_again(self, worker: str) -> bool:
        futures = [self._submit(self._clients[1], 0.02) for _ in range(WORKERS)]
        answers = [future.result() for future in futures]
        return any(answer.endswith(f" {worker}") for answer in answers)

    def _worker_records(self, event: str) -> Iterator[Record]:
        for name in list(self._names):
            if Path(self._path(name)).exists():
                yield from (record for record in read(self._path(name)) if record.event == event)

    def _wait(self, is_true: Callable[[], bool], what: str, *, is_owed: bool = True) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_true():
            if time.monotonic() > deadline:
                if is_owed:
                    raise NotReady(f"waited {PATIENCE_S:g} s in vain until {what}")
                return  # the trace will show it
            time.sleep(0.01)

    # --- requests and notes

    def _submit(self, client: Client, work_s: float) -> Future[str]:
        """The answer or what its error says; when it is there it stands in the trace."""
        with self._lock:
            number = self._counts[client.id] = self._counts.get(client.id, 0) + 1
        request = f"{client.id}/{number}"
        text = f"{request} {work_s}"
        trace = self._traces[client.id]
        trace.write([Record(time.monotonic(), "sent", "client", client.id, request, client.id, text=text)])
        noted: Future[str] = Future()

        def ended(done: Future[bytes]) -> None:
            error = done.exception()
            event, said = ("got", done.result().decode()) if error is None else ("failed", str(error))
            trace.write([Record(time.monotonic(), event, "client", client.id, request, client.id, text=said)])
            noted.set_result(said)

        client.submit(text, self._service).add_done_callback(ended)
        return noted

    def _note(self, event: str, worker: str, request: str, at: float) -> None:
        self._notes.write([Record(at, event, "verify", "verify", request, worker=worker)])

    def _path(self, name: str) -> str:
        return str(self._folder / f"{name}.jsonl")


def merged(paths: Iterable[str]) -> Iterator[Record]:
    """The records of several traces in the order of time; each file must be in order itself."""
    yield from heapq.merge(*(read(path) for path in paths), key=lambda record: record.at)
