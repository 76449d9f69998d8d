"""What ``cbw verify`` does to a system: load, a kill, a freeze. It judges nothing; the trace that it leaves is judged."""

from __future__ import annotations

import contextlib
import heapq
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path

import msgspec

from cbw.core.events import Record
from cbw.errors import CbwError, NotReady
from cbw.local import Options, Role, Scale, System
from cbw.verify.caller import Caller
from cbw.verify.handler import TRACE, WORKER
from cbw.verify.notebook import POLL_S, Notebook, wait
from cbw.verify.traces import ordered

CLIENTS = 3
REQUESTS = 40
WORKERS = 4
WORK_S = (0.005, 0.02, 0.04)
"""The clients' requests take different times, so that replies overtake each other."""
VICTIM_WORK_S = 1.0
"""Long enough to be killed in the middle of; and so long an heir works, in which a frozen worker's late answer arrives."""
TIMEOUT_S = 10.0
"""For an answer, also the first: a frozen worker is given up after three beats of 1 s, and then its heir works for 1 s."""
PATIENCE_S = 10.0
"""For a free worker to begin a request, even on a busy machine."""
USED_AGAIN_S = 5.0
"""For a worker to be used again after it woke: it says hello at once, or after a new connection."""
TRIES = 3


class Target(msgspec.Struct):
    """A broker to be verified. ``traces`` are its own records, if they are at hand: they are judged too."""

    host: str
    client_port: int
    worker_port: int
    traces: tuple[str, ...] = ()

    @property
    def client_address(self) -> str:
        """For clients."""
        return f"[{self.host}]:{self.client_port}" if ":" in self.host else f"{self.host}:{self.client_port}"


class Scenario:
    """Starts what it needs, hurts it, and leaves traces in ``folder``. Leaving it (``with``) ends its processes.

    Without a ``target`` it starts a broker of its own. Its workers serve a private service, so that nobody else's requests
    come to harm. ``say`` is told how far it is.

    Raises:
        UsageError: ``folder`` holds traces already.
    """

    def __init__(
        self, folder: str, target: Target | None, say: Callable[[str], None], *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._notebook = Notebook(folder)
        self._say = say
        self._target = target
        self._timeout_s = timeout_s
        chance = os.urandom(4).hex()
        self._service = f"verify-{chance}"
        self._prefix = f"V{chance[:4]}_" if target else ""  # ids must be unique at a broker that others use too
        self._system = contextlib.ExitStack()
        self._workers: dict[str, Role] = {}
        self._last_words: dict[str, deque[str]] = {}
        self._connected: set[str] = set()
        self._callers: list[Caller] = []

    def __enter__(self) -> Scenario:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self) -> None:
        """The whole scenario. When it is over everything has been stopped and the traces are complete.

        Raises:
            NotReady: the system does not come up, or does not go on.
        """
        self._notebook.note("started", service=self._service)
        self._start()
        self._say(f"{CLIENTS} clients send {REQUESTS} requests each to {WORKERS} workers")
        self._load()
        self._hurt()
        self._say("stopping")
        self.stop()

    def stop(self) -> None:
        """End every process that was started. Safe to call twice."""
        for caller in self._callers:
            caller.close()
        for worker in self._workers.values():
            if worker.process is not None and worker.is_running:
                worker.process.kill()  # frozen or not
        for worker in self._workers.values():
            if worker.process is not None:
                worker.process.wait()
        self._system.close()
        self._notebook.close()

    def traces(self) -> list[str]:
        """The files to judge."""
        theirs = self._target.traces if self._target else ()
        return [*self._notebook.files(), *theirs]

    # --- the parts

    def _start(self) -> None:
        if self._target is None:
            options = Options(
                scale=Scale(cli=0, wor=0, log=0), client_port=0, worker_port=0, trace=self._notebook.path("broker")
            )
            self._say("starting a broker")
            system = self._system.enter_context(System(options, lambda _role, _line: None))
            self._target = Target(options.host, *system.start())
        self._say(f"starting {WORKERS} workers")
        for number in range(1, WORKERS + 1):
            self._start_worker(f"{self._prefix}WOR_{number}", self._target)
        for number in range(1, CLIENTS + 1):
            name = f"{self._prefix}CLI_{number}"
            address = self._target.client_address
            self._callers.append(Caller(address, name, self._service, self._notebook.path(name), self._timeout_s))
        self._await_workers(self._target)

    def _start_worker(self, name: str, target: Target) -> None:
        command = [sys.executable, "-m", "cbw", "worker", name, target.host, str(target.worker_port)]
        command += ["--handler", f"{self._service}=cbw.verify.handler:serve", "--concurrency", "1", "--processes", "0"]
        command += ["--trace", self._notebook.path(name)]
        words = self._last_words[name] = deque(maxlen=2)

        def said(_role: str, line: str) -> None:
            words.append(line)
            if f"{name} connected" in line:
                self._connected.add(name)

        environment = {"CBW_STATUS_PORT": "0", WORKER: name, TRACE: self._notebook.path(f"{name}.requests")}
        role = self._workers[name] = Role(f"wor_{name}", command, said, environment)
        role.start()

    def _await_workers(self, target: Target) -> None:
        """All workers are there when each of them has answered; or is connected, and not used: the checks will tell.

        Raises:
            NotReady: they do not answer.
            UsageError: the broker needs more time than the requests have.
        """
        caller = self._callers[0]
        deadline = time.monotonic() + self._timeout_s
        seen: dict[str, None] = {}
        futures: list[Future[str]] = []
        while len(seen) < WORKERS:
            for name, role in self._workers.items():
                if not role.is_running:
                    said = " ".join(self._last_words[name]).removeprefix("cbw: ")
                    raise NotReady(f"worker {name} ended with exit code {role.exit_code}: {said}")
            caller.check_patience()
            if time.monotonic() > deadline:
                if not caller.has_met_broker:
                    raise NotReady(f"no broker serves clients at {target.client_address}", advice="See --broker.")
                if len(self._connected) == WORKERS and seen:
                    break
                raise NotReady(
                    f"only {len(seen)} of {WORKERS} workers answer",
                    advice=f"Do workers reach {target.host}:{target.worker_port}? See --worker-port.",
                )
            if all(future.done() for future in futures):
                seen |= {future.result(): None for future in futures if future.result()}
                futures = [caller.submit("0.05") for _ in range(WORKERS)]
            time.sleep(POLL_S)
        for future in futures:
            future.result()

    def _load(self) -> None:
        """Every client sends all its requests at once; how long each takes differs from client to client."""

        def load(caller: Caller, work_s: float) -> None:
            with contextlib.suppress(CbwError):  # closed: the scenario was broken off
                for future in [caller.submit(str(work_s)) for _ in range(REQUESTS)]:
                    future.result()

        threads = [
            threading.Thread(target=load, args=(caller, WORK_S[number % len(WORK_S)]), daemon=True)
            for number, caller in enumerate(self._callers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _hurt(self) -> None:
        """Kill one worker and freeze another, each in the middle of a request."""
        killed, frozen = (caller.submit(str(VICTIM_WORK_S)) for caller in self._callers[:2])
        request = self._callers[0].last_request
        name = self._worker_of(request)
        self._say(f"killing {name}, which works on {request}")
        self._signal(name, signal.SIGKILL, "killed", request)
        for _ in range(TRIES):
            if self._freeze(frozen, self._callers[1].last_request):
                break
            self._say("another had answered that before: once more")
            frozen = self._callers[1].submit(str(VICTIM_WORK_S))
        killed.result()

    def _freeze(self, future: Future[str], request: str) -> bool:
        """Freeze who works on ``request``, and wake it while its heir does; False: the heir was faster.

        While it works, a late answer is not only unwanted: a broker without a fence would deliver it.
        """
        name = self._worker_of(request)
        self._say(f"freezing {name}, which works on {request}")
        self._signal(name, signal.SIGSTOP, "frozen", request)
        wait(self._timeout_s, lambda: future.done() or len(self._begun(request)) > 1)
        self._say(f"waking {name}")
        was_answered = future.done()
        self._signal(name, signal.SIGCONT, "thawed", request)
        answered_by = future.result()
        wait(USED_AGAIN_S, self._is_used_again, name)
        return not was_answered or answered_by in ("", name)

    def _signal(self, worker: str, number: signal.Signals, event: str, request: str) -> None:
        now = time.monotonic()  # before the signal: its effects may be recorded before the next line
        process = self._workers[worker].process
        assert process is not None
        process.send_signal(number)
        task = next((record.task for record in self._begun(request) if record.worker == worker), 0)
        self._notebook.note(event, now, worker=worker, request=request, task=task)

    def _worker_of(self, request: str) -> str:
        """Who works on ``request``, by the workers' own records."""
        if not wait(PATIENCE_S, self._begun, request):
            raise NotReady(f"waited {PATIENCE_S:g} s in vain for a worker to begin {request}")
        return self._begun(request)[-1].worker

    def _begun(self, request: str) -> list[Record]:
        """What the workers have recorded as begun of ``request``, oldest first."""
        paths = [path for name in self._workers if Path(path := self._notebook.path(f"{name}.requests")).exists()]
        return [record for record in merged(paths) if record.event == "begun" and record.request == request]

    def _is_used_again(self, worker: str) -> bool:
        return worker in [future.result() for future in [self._callers[1].submit("0.02") for _ in range(WORKERS)]]


def merged(paths: Iterable[str]) -> Iterator[Record]:
    """The records of several traces or logs in the order of time, read bit by bit.

    Raises:
        UsageError: a file cannot be read, or is no trace.
    """
    yield from heapq.merge(*map(ordered, paths), key=lambda record: record.at)
