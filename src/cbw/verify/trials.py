"""What ``cbw verify --compose`` does to a deployment: load, harm to its workers, restarts of its broker and its logger.

It judges nothing; the records that it leaves are judged. The requests are those of clients of its own, on this host, and
the workers are the deployment's demonstration workers, which say what they begin and who they are.
"""

from __future__ import annotations

import os
import tarfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import msgspec
from docker.errors import DockerException
from docker.models.containers import Container
from requests.exceptions import RequestException

from cbw.client import Client
from cbw.core.events import Record
from cbw.errors import CbwError, NotReady, UsageError
from cbw.trace import read
from cbw.verify import compose, evidence
from cbw.verify.caller import Caller
from cbw.verify.compose import Deployment
from cbw.verify.notebook import Notebook, wait
from cbw.verify.printed import Printed
from cbw.verify.restart import CompleteLog

CLIENTS = 3
LOAD = 10
"""Requests for each worker under load: so most of them wait, and every worker has to take its next one many times."""
PATIENCE_S = 15.0
"""For a container to be at work again, and for the log to hold what was recorded, also on a busy machine."""
MEET_S = 30.0
"""For the broker and every worker to answer at all."""
PRINT_S = 3.0
"""For what has been printed to be here."""
WORK_S_MIN = 0.2
"""A worker must take so long that Docker can hurt it meanwhile."""
TRIES = 5
RETRY_S = 0.5

Harm = Callable[[Container], None]


class _Hurt(NamedTuple):
    """A worker that was hurt, and what it was doing."""

    worker: str
    request: str
    future: Future[str]


class Trials:
    """Leaves its traces in ``folder``. ``say`` is told how far it is. ``timeout_s`` is for an answer, beyond the time that
    the work itself takes.

    Raises:
        UsageError: ``folder`` holds traces already.
    """

    def __init__(self, folder: str, deployment: Deployment, say: Callable[[str], None], *, timeout_s: float) -> None:
        self._notebook = Notebook(folder)
        self._deployment = deployment
        self._say = say
        self._timeout_s = timeout_s
        self._prefix = f"VERIFY_{os.urandom(3).hex()}_"
        self._began_at = time.time()
        self._workers = deployment.containers(compose.WORKER)
        self._loggers = deployment.containers(compose.LOGGER)
        self._printed = Printed([*self._workers, *deployment.containers(compose.BROKER)], self._began_at)
        self._address = ""
        self._callers: list[Caller] = []
        self._containers: dict[str, Container] = {}  # of the workers, by their ids
        self._work_s = 0.0

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self) -> None:
        """All trials, one after another.

        Raises:
            NotReady: the deployment does not answer, or nothing more can be tried.
        """
        self.meet()
        self.load()
        self.kill()
        self.freeze()
        self.cut_off()
        if self.restart_broker():
            self.restart_logger()
        self.collect()
        self.stop()

    def stop(self) -> None:
        """Close what is open. Safe to call twice."""
        for caller in self._callers:
            caller.close()
        self._printed.close()
        self._notebook.close()

    def traces(self) -> list[str]:
        """The files to judge."""
        return self._notebook.files()

    # --- getting to know it

    def meet(self) -> None:
        """Reach the broker and have every worker answer: owed before any trial.

        Raises:
            NotReady, UsageError: they do not answer, or not as it takes to be verified.
        """
        self._notebook.note(
            "deployed", text=" ".join([compose.BROKER, compose.WORKER, *([compose.LOGGER] if self._loggers else [])])
        )
        self._notebook.note("started")
        self._reach_broker()
        self._meet_workers()

    def _reach_broker(self) -> None:
        """Make clients for the first of the broker's addresses at which it answers."""
        addresses = self._deployment.addresses()
        for address in addresses:
            if self._is_broker_at(address, MEET_S / len(addresses)):
                self._address = address
                for number in range(1, CLIENTS + 1):
                    name = f"{self._prefix}CLI_{number}"
                    self._callers.append(Caller(address, name, "", self._notebook.path(name), self._timeout_s))
                return
        raise NotReady(
            f"the broker does not answer from here at {' or '.join(addresses) or 'any address'}",
            advice='Publish its port (ports: "9998:9998"), and look at docker compose logs bro.',
        )

    def _is_broker_at(self, address: str, patience_s: float) -> bool:
        with Client(address, id=f"{self._prefix}PROBE", timeout=MEET_S) as probe:
            probe.submit("is anybody there?")  # a client looks for its broker when it has something to ask
            return wait(patience_s, lambda: probe.has_met_broker)

    def _meet_workers(self) -> None:
        """Have every worker answer, and learn which container is which worker."""
        deadline = time.monotonic() + MEET_S
        while len(self._containers) < len(self._workers):
            asked = self._ask(len(self._workers))
            is_answered, ended_at = any(_await(asked)), time.time()
            has_begun = is_answered and wait(PRINT_S, self._is_any_begun, asked)
            if (is_answered and not has_begun) or time.monotonic() > deadline:
                raise self._not_met(asked)
            for name, line in [begun for request in asked for begun in self._begun(request)]:
                self._containers[name] = next(one for one in self._workers if one.id == line.container)
                self._work_s = ended_at - line.at
        if self._work_s < WORK_S_MIN:
            raise NotReady(
                f"the workers answer within {self._work_s:.3f} s: too soon to be hurt in the middle of it",
                advice="Set CBW_WORKER_WORK_TIME_S=1 for the verification.",
            )
        self._callers[0].check_patience()

    def _not_met(self, asked: dict[str, Future[str]]) -> CbwError:
        if any(_await(asked)) and not self._is_any_begun(asked):
            return UsageError(
                f"the workers of service {compose.WORKER} do not print what they begin",
                advice="cbw verify --compose needs the demonstration worker, `cbw worker` without --handler.",
            )
        known = [container.id for container in self._containers.values()]
        missing = [container for container in self._workers if container.id not in known]
        said = "; ".join(f"{one.name}: {self._printed.last_of(one) or 'it said nothing'}" for one in missing)
        return NotReady(f"{len(missing)} of {len(self._workers)} workers do not answer ({said})")

    # --- load, and harm to workers

    def load(self) -> None:
        """Many requests at once, each client its own."""
        count = LOAD * len(self._workers)
        self._say(f"{CLIENTS} clients send {count} requests to {len(self._workers)} workers")
        _await(self._ask(count))

    def kill(self) -> None:
        """``docker kill`` a worker in the middle of a request, and start it again."""
        hurt = self._hurt("killed", lambda victim: victim.kill(), lambda victim: victim.start())
        if hurt is not None:
            hurt.future.result()
            self._containers[hurt.worker].start()
            self._await_use(hurt.worker)

    def freeze(self) -> None:
        """``docker pause`` a worker in the middle of a request, and wake it while another works on that."""
        for _ in range(TRIES):
            hurt = self._hurt("frozen", lambda victim: victim.pause(), lambda victim: victim.unpause())
            if hurt is None or self._wake(hurt):
                return
            self._say(f"another had answered {hurt.request} before {hurt.worker} was awake")

    def _wake(self, hurt: _Hurt) -> bool:
        """Wake a frozen worker; False: its heir was faster than Docker.

        While the heir works, a late answer is not only unwanted: a broker without a fence would deliver it.
        """
        wait(self._timeout_s, lambda: hurt.future.done() or len(self._begun(hurt.request)) > 1)
        self._say(f"waking {hurt.worker}")
        self._notebook.note("thawed", worker=hurt.worker, request=hurt.request)
        self._containers[hurt.worker].unpause()
        was_answered = hurt.future.done()
        answered_by = hurt.future.result()
        self._await_use(hurt.worker)
        return not was_answered or answered_by in ("", hurt.worker)

    def cut_off(self) -> None:
        """``docker network disconnect`` a worker in the middle of a request, and connect it again."""
        deployment = self._deployment
        networks = {worker: deployment.common_networks(worker) for worker in self._workers}
        if not networks[self._workers[0]]:
            self._say("the workers are on no network that could be cut")
            return

        def reconnect(victim: Container) -> None:
            deployment.reconnect(victim, networks[victim])

        hurt = self._hurt("cut_off", lambda victim: deployment.cut_off(victim, networks[victim]), reconnect)
        if hurt is not None:
            hurt.future.result()
            self._say(f"connecting {hurt.worker} again")
            self._notebook.note("reconnected", worker=hurt.worker, request=hurt.request)
            reconnect(self._containers[hurt.worker])
            self._await_use(hurt.worker)

    def _hurt(self, event: str, harm: Harm, heal: Harm) -> _Hurt | None:
        """One worker, hurt in the middle of a request that it has begun; None if nobody begins it.

        Raises:
            NotReady: the answer was there first, every time.
        """
        for _ in range(TRIES):
            ((request, future),) = self._ask(1).items()
            if not wait(PATIENCE_S, self._begun, request):
                self._say(f"no worker begins {request}")
                return None
            worker = self._begun(request)[0][0]
            victim = self._containers[worker]
            self._say(f"{worker} is {event.replace('_', ' ')} while it works on {request}")
            at = time.monotonic()  # before the harm: its effects may be recorded before the next line
            harm(victim)
            if not future.done():
                self._notebook.note(event, at, worker=worker, request=request)
                return _Hurt(worker, request, future)
            heal(victim)
            self._await_use(worker)
        raise NotReady(
            f"{TRIES} times a worker had answered before Docker had hurt it",
            advice="Give the workers more time for a request: CBW_WORKER_WORK_TIME_S=3.",
        )

    def _await_use(self, worker: str) -> None:
        """Ask until ``worker`` has begun something again; if it never does, the records show it."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            asked = self._ask(len(self._workers))
            _await(asked)
            if any(name == worker for request in asked for name, _ in self._begun(request)):
                return

    # --- restarts

    def restart_broker(self) -> bool:
        """``docker restart`` the broker under load, then ``docker kill`` and start it. False: it answers no more.

        Raises:
            NotReady: it comes back where the clients do not find it.
        """
        (broker,) = self._deployment.containers(compose.BROKER)
        for how, restart in RESTARTS.items():
            asked = self._ask_and_begin()
            self._say(f"the broker is {how} while {len(asked)} requests are open")
            self._notebook.note(f"broker_{how}")
            restart(broker)
            self._notebook.note("broker_back")
            if self._address not in (addresses := self._deployment.addresses()):
                raise NotReady(
                    f"the broker came back at {' or '.join(addresses) or 'no address'}, it was at {self._address}",
                    advice='Publish its port under a fixed number: ports: "9998:9998".',
                )
            if not any(_await(asked)):
                self._say("the broker answers no more")
                return False
            for worker in self._containers:
                self._await_use(worker)
        return True

    def restart_logger(self) -> None:
        """The same to a logger, if there is one."""
        for how, restart in RESTARTS.items() if self._loggers else ():
            logger = self._loggers[0]
            asked = self._ask_and_begin()
            self._say(f"the logger is {how} while {len(asked)} requests are open")
            self._notebook.note(f"logger_{how}")
            restart(logger)
            if wait(PATIENCE_S, self._has_grown, logger, self._deployment.log_size(logger)):
                self._notebook.note("logger_writes")
            _await(asked)

    def _has_grown(self, logger: Container, size: int) -> bool:
        return self._deployment.log_size(logger) != size

    def _ask_and_begin(self) -> dict[str, Future[str]]:
        """Two requests for each worker; the first is begun, none is answered yet."""
        asked = self._ask(2 * len(self._workers), more_s=PATIENCE_S)
        wait(PATIENCE_S, self._is_any_begun, asked)
        return asked

    # --- what is left behind

    def collect(self) -> None:
        """The records that the deployment has left, in a trace; those of the log when it is complete, or time is up."""
        self._say("reading what it has left behind")
        called = [record for caller in self._callers for record in read(self._notebook.path(caller.id))]
        notes = list(read(self._notebook.path("verify")))
        deadline = time.monotonic() + PATIENCE_S
        while True:
            logged = self._logged()
            records = evidence.deployed(self._printed.lines, logged, called, prefix=self._prefix)
            log = CompleteLog()
            for record in (*notes, *called, *records):
                log.see(record)
            if not self._loggers or log.verdict().passed or time.monotonic() > deadline:
                break
            time.sleep(RETRY_S)
        Path(self._notebook.path("deployment")).write_bytes(msgspec.json.Encoder().encode_lines(records))

    def _logged(self) -> list[Record]:
        """Several loggers share one file, so any of them will do."""
        try:
            files = [file for one in self._loggers[:1] for file in self._deployment.log_files(one, self._began_at)]
        except (tarfile.TarError, DockerException, RequestException):  # it grew while it was read
            return []
        return [record for file in files for record in evidence.logged_in(file, self._began_at)]

    # --- requests

    def _ask(self, count: int, *, more_s: float = 0.0) -> dict[str, Future[str]]:
        """Requests at once, the clients taking turns: who has answered each."""
        asked = {}
        rounds = -(-count // max(1, len(self._workers)))
        for number in range(count):
            caller = self._callers[number % CLIENTS]
            future = caller.submit(timeout_s=self._timeout_s + rounds * self._work_s + more_s)
            asked[caller.last_request] = future
        return asked

    def _begun(self, request: str) -> list[tuple[str, evidence.Line]]:
        return evidence.begun_in(self._printed.lines, request)

    def _is_any_begun(self, asked: Iterable[str]) -> bool:
        return any(self._begun(request) for request in asked)


def _await(asked: dict[str, Future[str]]) -> list[str]:
    """Until all have ended, one way or another: who has answered each, or nothing."""
    return [future.result() for future in asked.values()]


def _restart(container: Container) -> None:
    container.restart(timeout=compose.STOP_S)


def _kill_and_start(container: Container) -> None:
    container.kill()
    container.start()


RESTARTS = {"restarted": _restart, "killed": _kill_and_start}
"""How a broker or a logger is brought down and up again."""
