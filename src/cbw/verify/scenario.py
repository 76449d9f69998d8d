"""What ``cbw verify`` does to a system: load, a kill, a freeze. It judges nothing; the traces that it leaves are judged."""

from __future__ import annotations

import contextlib
import heapq
import os
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path

import msgspec

from cbw.client.sync_client import Client
from cbw.core import catalogue
from cbw.core.record import Record
from cbw.errors import CbwError, Expired, NotReady
from cbw.local import LocalSystem, Options, Role, Scale
from cbw.transport.listening import what_listens
from cbw.verify.caller import CALLERS, Caller
from cbw.verify.handler import TRACE_VARIABLE, WORKER_VARIABLE
from cbw.verify.idle import is_nobody_idle
from cbw.verify.load import send_load
from cbw.verify.notebook import WAIT_POLL_S, Notebook, wait
from cbw.verify.traces import ordered

LOAD_REQUESTS = 60
"""Requests that each client sends at once: many times as many as there are workers, so that most of them wait, and so many in
all that one slow moment is less than one of a hundred."""
LOAD_WORKERS = 4
"""Workers of the scenario: one to be killed, one to be frozen, and two more, so that there is a choice of replacements."""
WORK_S = (0.005, 0.02, 0.04)
"""How long the requests of each client take: different times, so that replies overtake each other."""
VICTIM_WORK_S = 1.0
"""How long a request takes whose worker is hurt: long enough to hurt it meanwhile, and for a frozen worker's late answer to
arrive while the replacement still works."""
OPEN_REQUESTS = 4
"""Requests of each client that are open when the broker is brought down: the workers have begun some of them."""
OPEN_WORK_S = 0.3
"""How long each of them takes: longer than it takes to bring the broker down."""
ANSWER_TIMEOUT_S = 10.0
"""Time for an answer, also for the first: a frozen worker is given up after 3 beats of 1 s, its replacement works for 1 s."""
BEGIN_S = 10.0
"""Time for a free worker to begin a request, even on a busy machine."""
USED_AGAIN_S = 5.0
"""Time for a worker to be used again after it woke: it says hello at once, or after a new connection."""
FREEZE_TRIES = 3
"""Attempts to freeze a worker and wake it before its replacement has answered: on a busy machine one may come too late."""


class Target(msgspec.Struct):
    """A broker to be verified. ``traces`` are files with its own records, if there are any: they are judged too."""

    host: str
    client_port: int
    worker_port: int
    traces: tuple[str, ...] = ()

    @property
    def client_address(self) -> str:
        """Where clients connect."""
        return f"[{self.host}]:{self.client_port}" if ":" in self.host else f"{self.host}:{self.client_port}"


class Scenario:
    """Starts what it needs, hurts it, and leaves traces in ``folder``. Leaving it (``with``) ends its processes.

    Without a ``target`` it starts a broker of its own. Its workers serve a private service, so that nobody else's requests
    come to harm. ``say`` is called with lines of progress.

    Raises:
        UsageError: ``folder`` holds traces already.
    """

    def __init__(
        self, folder: str, target: Target | None, say: Callable[[str], None], *, timeout_s: float = ANSWER_TIMEOUT_S
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
        self._own_broker: Role | None = None

    def __enter__(self) -> Scenario:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self) -> None:
        """The whole scenario. When it is over everything has been stopped and the traces are complete.

        Raises:
            NotReady: the system does not come up, or does not go on.
        """
        self._notebook.note(catalogue.STARTED, service=self._service)
        self._start()
        self._load()
        self._hurt()
        if self._own_broker is not None:
            self._bring_down(self._own_broker)
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
            journal = self._system.enter_context(tempfile.TemporaryDirectory(prefix="cbw-verify-"))
            options = Options(
                scale=Scale(cli=0, wor=0, log=0),
                client_port=0,
                worker_port=0,
                trace=self._notebook.path("broker"),
                journal=journal,
            )
            self._say("starting a broker with a journal")
            system = self._system.enter_context(LocalSystem(options, lambda _role, _line: None))
            self._target = Target(options.host, *system.start())
            self._own_broker = system.broker
        else:
            self._reach(self._target)
        self._say(f"starting {LOAD_WORKERS} workers")
        for number in range(1, LOAD_WORKERS + 1):
            self._start_worker(f"{self._prefix}WOR_{number}", self._target)
        for number in range(1, CALLERS + 1):
            name = f"{self._prefix}CLI_{number}"
            address = self._target.client_address
            self._callers.append(Caller(address, name, self._service, self._notebook.path(name), self._timeout_s))
        self._await_workers(self._target)

    def _reach(self, target: Target) -> None:
        """Meet the broker with a client, before anybody else says a word: a broker of the lab may end at the hello of a worker.

        Raises:
            NotReady: no broker that speaks CBW/1 is there.
            CbwError: it does not let us in.
        """
        probe = Client(target.client_address, id=f"{self._prefix}PROBE", timeout=self._timeout_s)
        try:
            asked = probe.submit("is anybody there?", self._service)
            wait(self._timeout_s, lambda: probe.has_met_broker or asked.done())
            if probe.has_met_broker:
                return
            error = asked.exception() if asked.done() else None
        finally:
            probe.close()
        if isinstance(error, CbwError) and not isinstance(error, Expired):
            raise error
        listener = what_listens(target.host, target.client_port)
        lab = " For a broker of the lab, of whatever make, give --dialect lab." if listener.kind == "ROUTER" else ""
        raise NotReady(
            f"no broker serves clients at {target.client_address}: {listener.text}", advice=f"See --broker.{lab}"
        )

    def _start_worker(self, name: str, target: Target) -> None:
        command = [sys.executable, "-m", "cbw", "worker", name, target.host, str(target.worker_port)]
        command += ["--handler", f"{self._service}=cbw.verify.handler:serve", "--concurrency", "1", "--processes", "0"]
        command += ["--trace", self._notebook.path(name)]
        words = self._last_words[name] = deque(maxlen=2)

        def said(_role: str, line: str) -> None:
            words.append(line)
            if f"{name} connected" in line:
                self._connected.add(name)

        environment = {
            "CBW_STATUS_PORT": "0",
            WORKER_VARIABLE: name,
            TRACE_VARIABLE: self._notebook.path(f"{name}.requests"),
        }
        role = self._workers[name] = Role(f"wor_{name}", command, said, environment)
        role.start()

    def _await_workers(self, target: Target) -> None:
        """Wait until every worker has answered, or at least is connected: the checks find out why it is not used.

        Raises:
            NotReady: they do not answer.
            UsageError: the broker needs more time than the requests have.
        """
        caller = self._callers[0]
        deadline = time.monotonic() + self._timeout_s
        seen: dict[str, None] = {}
        futures: list[Future[str]] = []
        while len(seen) < LOAD_WORKERS:
            for name, role in self._workers.items():
                if not role.is_running:
                    said = " ".join(self._last_words[name]).removeprefix("cbw: ")
                    raise NotReady(f"worker {name} ended with exit code {role.exit_code}: {said}")
            caller.check_patience()
            if time.monotonic() > deadline:
                if not caller.has_met_broker:
                    raise NotReady(f"the broker at {target.client_address} has stopped to answer")
                if len(self._connected) == LOAD_WORKERS and seen:
                    break
                raise NotReady(
                    f"only {len(seen)} of {LOAD_WORKERS} workers answer",
                    advice=f"Do workers reach {target.host}:{target.worker_port}? See --worker-port.",
                )
            if all(future.done() for future in futures):
                seen |= {future.result(): None for future in futures if future.result()}
                futures = [caller.submit("0.05") for _ in range(LOAD_WORKERS)]
            time.sleep(WAIT_POLL_S)
        for future in futures:
            future.result()

    def _load(self) -> None:
        """Every client sends all its requests at once. If only they and the workers can tell who was free, again if need be."""
        has_trace = self._own_broker is not None or bool(self._target and self._target.traces)
        send_load(self._send_all, lambda: has_trace or is_nobody_idle(merged(self.traces())), self._notebook, self._say)

    def _send_all(self) -> bool:
        """Have every request of the load answered; how long each takes differs from client to client."""
        self._say(f"{CALLERS} clients send {LOAD_REQUESTS} requests each to {LOAD_WORKERS} workers")

        def load(caller: Caller, work_s: float) -> None:
            with contextlib.suppress(CbwError):  # closed: the scenario was broken off
                for future in [caller.submit(str(work_s)) for _ in range(LOAD_REQUESTS)]:
                    future.result()

        threads = [
            threading.Thread(target=load, args=(caller, WORK_S[number % len(WORK_S)]), daemon=True)
            for number, caller in enumerate(self._callers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return True

    def _hurt(self) -> None:
        """Kill one worker and freeze another, each in the middle of a request."""
        killed, frozen = (caller.submit(str(VICTIM_WORK_S)) for caller in self._callers[:2])
        request = self._callers[0].last_request
        name = self._worker_of(request)
        self._say(f"killing {name}, which works on {request}")
        self._signal(name, signal.SIGKILL, catalogue.KILLED, request)
        for _ in range(FREEZE_TRIES):
            if self._freeze(frozen, self._callers[1].last_request):
                break
            self._say("another worker had answered it by then: once more")
            frozen = self._callers[1].submit(str(VICTIM_WORK_S))
        killed.result()

    def _freeze(self, future: Future[str], request: str) -> bool:
        """Freeze the worker of ``request``, and wake it while its replacement works; False: the replacement was faster.

        While the replacement works, a late answer does not only come too late: a broker without a fence would deliver it.
        """
        name = self._worker_of(request)
        self._say(f"freezing {name}, which works on {request}")
        self._signal(name, signal.SIGSTOP, catalogue.FROZEN, request)
        wait(self._timeout_s, lambda: future.done() or len(self._begun(request)) > 1)
        self._say(f"waking {name}")
        was_answered = future.done()
        self._signal(name, signal.SIGCONT, catalogue.THAWED, request)
        answered_by = future.result()
        wait(USED_AGAIN_S, self._is_used_again, name)
        return not was_answered or answered_by in ("", name)

    def _bring_down(self, broker: Role) -> None:
        """Kill the broker, then stop it, each time with requests open, and start it again with its journal."""
        for how, event, number in (
            ("killing", catalogue.BROKER_KILLED, signal.SIGKILL),
            ("restarting", catalogue.BROKER_RESTARTED, signal.SIGTERM),
        ):
            futures = [caller.submit(str(OPEN_WORK_S)) for caller in self._callers for _ in range(OPEN_REQUESTS)]
            self._worker_of(self._callers[0].last_request)
            self._say(f"{how} the broker while {sum(not future.done() for future in futures)} requests are open")
            self._notebook.note(event)
            assert broker.process is not None
            broker.process.send_signal(number)
            broker.process.wait()
            broker.start()
            self._notebook.note(catalogue.BROKER_BACK)
            for future in futures:
                future.result()

    def _signal(self, worker: str, number: signal.Signals, event: catalogue.EventName, request: str) -> None:
        now = time.monotonic()  # before the signal: its effects may be recorded before the next line
        process = self._workers[worker].process
        assert process is not None
        process.send_signal(number)
        task = next((record.task for record in self._begun(request) if record.worker == worker), 0)
        self._notebook.note(event, now, worker=worker, request=request, task=task)

    def _worker_of(self, request: str) -> str:
        """The worker that has begun ``request``, by the workers' own records."""
        if not wait(BEGIN_S, self._begun, request):
            raise NotReady(f"no worker has begun {request} within {BEGIN_S:g} s")
        return self._begun(request)[-1].worker

    def _begun(self, request: str) -> list[Record]:
        """The records of the workers that have begun ``request``, oldest first."""
        paths = [path for name in self._workers if Path(path := self._notebook.path(f"{name}.requests")).exists()]
        return [record for record in merged(paths) if record.event == catalogue.BEGUN and record.request == request]

    def _is_used_again(self, worker: str) -> bool:
        return worker in [future.result() for future in [self._callers[1].submit("0.02") for _ in range(LOAD_WORKERS)]]


def merged(paths: Iterable[str]) -> Iterator[Record]:
    """The records of several traces or logs in the order of time, read as they are needed.

    Raises:
        UsageError: a file cannot be read, or is no trace.
    """
    yield from heapq.merge(*map(ordered, paths), key=lambda record: record.at)
