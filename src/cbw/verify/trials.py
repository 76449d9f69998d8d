"""What ``cbw verify`` does to a deployment: load, harm to its workers and its brokers, restarts of its logger.

It judges nothing; the records that it leaves are judged. The requests are sent by clients of the verification, on this host;
the workers are the deployment's demonstration workers, which print what they begin and answer with their id.
"""

from __future__ import annotations

import os
import tarfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec
from docker.errors import DockerException
from docker.models.containers import Container
from requests.exceptions import RequestException

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.errors import CbwError, NotReady, UsageError
from cbw.observe.trace import read
from cbw.verify import evidence
from cbw.verify.answering import MEET_S, answering_of
from cbw.verify.broker_trials import BrokerTrials, Harm, Requester, killed_and_restored, restarted
from cbw.verify.caller import CALLERS, Caller, is_broker_at
from cbw.verify.deployment import BROKER_SERVICE, LOGGER_SERVICE, WORKER_SERVICE, Deployment
from cbw.verify.engine import freeze, log_files, log_size
from cbw.verify.idle import is_nobody_idle
from cbw.verify.load import send_load
from cbw.verify.notebook import Notebook, wait
from cbw.verify.printed import Printed
from cbw.verify.restart import CompleteLog

LOAD = 10
"""Requests for each worker under load: most of them wait, and every worker has to take its next one many times."""
SETTLE_S = 15.0
"""Time for a container to be at work again, and for the log to hold what was recorded, even on a busy machine."""
PRINT_S = 3.0
"""Time for a line that a container has printed to arrive here, through Docker."""
WORK_S_MIN = 0.2
"""Shortest work of a worker that can be hurt in the middle of it: a ``docker kill`` takes about 0.1 s."""
MEASURE_ROUNDS = 3
"""Further rounds of requests if the work looks too short in the first."""
HARM_TRIES = 5
"""Attempts to hurt a worker before it has answered: on a busy machine Docker may be too late now and then."""
IN_FLIGHT_S = 0.3
"""Time for an answer to arrive here that a worker had sent before it was hurt."""
LOG_POLL_S = 0.5
"""Interval between two readings of the log while it is incomplete: each copies the log's files out of a container."""


class _Hurt(NamedTuple):
    """A worker that was hurt, and what it was doing."""

    worker: str
    request: str
    future: Future[str]


class Trials:
    """Verifies ``deployment``, and leaves traces in ``folder``. ``say`` is called with lines of progress.

    ``timeout_s`` is the time for an answer beyond what the work itself takes.

    Raises:
        UsageError: ``folder`` holds traces already.
    """

    def __init__(self, folder: str, deployment: Deployment, say: Callable[[str], None], *, timeout_s: float) -> None:
        self._notebook = Notebook(folder)
        self._deployment = deployment
        self._say = say
        self._timeout_s = timeout_s
        self._prefix = f"VERIFY_{os.urandom(3).hex()}_"
        self._probe = f"{self._prefix}PROBE"
        self._began_at = time.time()
        self._workers = deployment.containers(WORKER_SERVICE)
        self._loggers = deployment.containers(LOGGER_SERVICE)
        self._printed = Printed([*self._workers, *deployment.containers(BROKER_SERVICE)], self._began_at)
        self._addresses: list[str] = []  # of all brokers; those that answer come first
        self._answering = 0  # how many those are
        self._callers: list[Caller] = []
        self._all_callers: list[Caller] = []  # also those of brokers that are gone
        self._alone: list[Caller] = []  # one for each broker that answers, which asks no other; empty: there is but one
        self._containers: dict[str, Container] = {}  # of the workers, by their ids
        self._ended_at: dict[str, float] = {}  # when each request was answered or failed, in seconds since 1970
        self._work_s = 0.0

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self) -> None:
        """Make all trials, one after another.

        Raises:
            NotReady: the deployment does not answer, or does not go on.
        """
        self.meet()
        if self.ask_each_broker():
            self.load()
            self.kill()
            self.freeze()
            self.cut_off()
            if self.hurt_brokers():
                self.restart_logger()
        self.collect()
        self.stop()

    def stop(self) -> None:
        """Close what is open. Safe to call twice."""
        for caller in self._all_callers:
            caller.close()
        self._printed.close()
        self._notebook.close()

    def traces(self) -> list[str]:
        """The files to judge."""
        return self._notebook.files()

    # --- getting to know the deployment

    def meet(self) -> None:
        """Reach the broker and have every worker answer. Must be called before any trial.

        Raises:
            NotReady, UsageError: they do not answer, or do not behave like something that can be verified.
        """
        self._notebook.note(
            catalogue.DEPLOYED,
            count=len(self._deployment.containers(BROKER_SERVICE)),
            text=" ".join([BROKER_SERVICE, WORKER_SERVICE, *([LOGGER_SERVICE] if self._loggers else [])]),
        )
        self._notebook.note(catalogue.STARTED)
        self._reach_brokers()
        self._meet_workers()

    def _reach_brokers(self) -> None:
        """Make clients for all brokers, each at the first of its addresses at which it answers; a standby does not."""
        brokers = self._deployment.containers(BROKER_SERVICE)
        found = [self._deployment.addresses(broker) for broker in brokers]
        tried = [address for addresses in found for address in addresses]
        answering = answering_of([*zip(brokers, found, strict=True)], self._is_broker_at)
        self._addresses = [address for address in answering if address]
        self._answering = len(self._addresses)
        if not self._addresses:
            raise NotReady(
                f"the broker does not answer from here at {' or '.join(tried) or 'any address'}",
                advice='Publish its port (ports: "9998:9998"), and look at docker compose logs bro.',
            )
        # One that has just ended, as another one has its journal, has no address.
        self._addresses += [own[0] for address, own in zip(answering, found, strict=True) if own and not address]
        for caller in self._callers:
            caller.close()
        count = len(self._all_callers)
        self._callers = [self._caller(f"CLI_{count + number}", self._addresses) for number in range(1, CALLERS + 1)]
        if self._answering > 1 and not self._alone:
            for number, address in enumerate(self._addresses[: self._answering], 1):
                self._alone.append(self._caller(f"ONE_{number}", [address]))

    def _caller(self, name: str, addresses: list[str]) -> Caller:
        id = f"{self._prefix}{name}"
        caller = Caller(",".join(addresses), id, "", self._notebook.path(id), self._timeout_s)
        self._all_callers.append(caller)
        return caller

    def _is_broker_at(self, address: str, patience_s: float) -> bool:
        return is_broker_at(address, self._probe, patience_s)

    def _meet_workers(self) -> None:
        """Have every worker answer: find out which container is which worker, and how long they work.

        Each of several brokers is asked, as workers may serve only one of them.
        """
        deadline = time.monotonic() + MEET_S
        times: list[float] = []
        while len(self._containers) < len(self._workers):
            asked = self._ask_each_broker_for_all()
            is_answered = any(_await(asked))
            has_begun = is_answered and wait(PRINT_S, self._is_any_begun, asked)
            if (is_answered and not has_begun) or time.monotonic() > deadline:
                raise self._not_met(asked)
            for name, line in [begun for request in asked for begun in self._begun(request)]:
                self._containers[name] = next(one for one in self._workers if one.id == line.container)
            times += self._work_times(asked)
        self._work_s = self._measured(times)
        self._callers[0].check_patience()

    def _ask_each_broker_for_all(self) -> dict[str, Future[str]]:
        """Send every broker a request for each worker."""
        return self._ask(len(self._workers) * max(1, len(self._alone)), self._alone)

    def _measured(self, times: list[float]) -> float:
        """The time that workers take for a request: the median of ``times``, and of more while that is too short.

        Docker may stamp a line late on a busy machine, so a single time shows nothing.

        Raises:
            NotReady: they take too little to be hurt meanwhile.
        """
        more = MEASURE_ROUNDS
        while not times or median(times) < WORK_S_MIN:
            if not more:
                raise NotReady(
                    f"the workers answer within {median(times or [0.0]):.3f} s, too soon to be hurt in the middle of a request",
                    advice="Set CBW_WORKER_WORK_TIME_S=1 for the verification.",
                )
            more -= 1
            times = times + self._work_times(self._ask_each_broker_for_all())
        return median(times)

    def _work_times(self, asked: dict[str, Future[str]]) -> list[float]:
        """Wait for the requests; for each that was answered, the seconds from the last worker's line to the answer."""
        answered = [request for request, future in asked.items() if future.result()]
        wait(PRINT_S, lambda: all(request in self._ended_at and self._begun(request) for request in answered))
        begun = [(request, line) for request in answered for _, line in self._begun(request)[-1:]]
        return [self._ended_at[request] - line.at for request, line in begun]

    def _not_met(self, asked: dict[str, Future[str]]) -> CbwError:
        if any(_await(asked)) and not self._is_any_begun(asked):
            return UsageError(
                f"the workers of service {WORKER_SERVICE} do not print what they begin",
                advice="cbw verify --compose needs the demonstration worker, `cbw worker` without --handler.",
            )
        known = [container.id for container in self._containers.values()]
        missing = [container for container in self._workers if container.id not in known]
        said = "; ".join(f"{one.name}: {self._printed.last_of(one) or 'it said nothing'}" for one in missing)
        return NotReady(f"{len(missing)} of {len(self._workers)} workers do not answer ({said})")

    # --- load, and harm to workers

    def ask_each_broker(self) -> bool:
        """Send many requests to one of several brokers at a time: all workers are to serve it. False: one does not answer."""
        for caller, address in zip(self._alone, self._addresses, strict=False):
            self._say(f"a client asks only the broker at {address}")
            self._notebook.note(catalogue.BROKER_ASKED, text=address)
            timeout_s = self._timeout_s + LOAD * self._work_s
            asked = [caller.submit(timeout_s=timeout_s) for _ in range(LOAD * len(self._workers))]
            workers = [future.result() for future in asked]
            self._notebook.note(catalogue.BROKER_ASKED)
            if not all(workers):
                self._say("it does not answer all of them")
                return False
        return True

    def load(self) -> None:
        """Send many requests at once, from every client.

        Without a logger Docker's times of the workers' lines are all there is to judge. A late one looks like a free worker,
        so the load is repeated then: a broker that leaves workers free does so each time.
        """
        count = LOAD * len(self._workers)
        asked: dict[str, Future[str]] = {}

        def send() -> bool:
            self._say(f"{CALLERS} clients send {count} requests to {len(self._workers)} workers")
            asked.clear()
            asked.update(self._ask(count))
            _await(asked)
            return True

        send_load(
            send,
            lambda: bool(self._loggers) or self._is_everybody_busy(asked),
            self._notebook,
            self._say,
            doubt="a worker looks free for too long, or Docker was late",
        )

    def _is_everybody_busy(self, asked: Iterable[str]) -> bool:
        """Whether the records show that no worker was free while requests waited, once those of ``asked`` are printed."""
        wait(PRINT_S, lambda: all(map(self._begun, asked)))
        notes, called = self._recorded()
        return is_nobody_idle(sorted([*notes, *called, *self._deployed(called)], key=lambda record: record.at))

    def kill(self) -> None:
        """``docker kill`` a worker in the middle of a request, and start it again."""
        hurt = self._hurt(catalogue.KILLED, lambda victim: victim.kill(), self._restore)
        if hurt is not None:
            hurt.future.result()
            self._restore(self._containers[hurt.worker])
            self._await_use(hurt.worker)

    def _restore(self, killed: Container) -> None:
        """Have a worker in place of one that was killed. If it is another, get to know it."""
        self._deployment.restore(killed)
        if self._deployment.replaces_containers:
            self._containers = {name: one for name, one in self._containers.items() if one.id != killed.id}
            self._workers = self._deployment.containers(WORKER_SERVICE)
            self._printed.follow(self._workers)
            self._meet_workers()

    def freeze(self) -> None:
        """``docker pause`` a worker in the middle of a request, and wake it while another works on the request."""
        for _ in range(HARM_TRIES):
            hurt = self._hurt(catalogue.FROZEN, freeze, lambda victim: victim.unpause())
            if hurt is None or self._wake(hurt):
                return
            self._say(f"another worker had answered {hurt.request} before {hurt.worker} was awake: once more")

    def _wake(self, hurt: _Hurt) -> bool:
        """Wake a frozen worker; False: its replacement was faster than Docker.

        While the replacement works, a late answer does not only come too late: a broker without a fence would deliver it.
        """
        wait(self._timeout_s, lambda: hurt.future.done() or len(self._begun(hurt.request)) > 1)
        self._say(f"waking {hurt.worker}")
        self._notebook.note(catalogue.THAWED, worker=hurt.worker, request=hurt.request)
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

        hurt = self._hurt(catalogue.CUT_OFF, lambda victim: deployment.cut_off(victim, networks[victim]), reconnect)
        if hurt is not None:
            hurt.future.result()
            self._say(f"connecting {hurt.worker} again")
            self._notebook.note(catalogue.RECONNECTED, worker=hurt.worker, request=hurt.request)
            reconnect(self._containers[hurt.worker])
            self._await_use(hurt.worker)

    def _hurt(self, event: catalogue.EventName, harm: Harm, heal: Harm) -> _Hurt | None:
        """Hurt a worker in the middle of a request that it has begun; None if no worker begins the request.

        Raises:
            NotReady: the worker had answered first, every time.
        """
        for _ in range(HARM_TRIES):
            ((request, future),) = self._ask(1).items()
            if not wait(SETTLE_S, self._begun, request):
                self._say(f"no worker begins {request}")
                return None
            worker = self._begun(request)[0][0]
            victim = self._containers[worker]
            self._say(f"{worker} is {event.replace('_', ' ')} while it works on {request}")
            at = time.monotonic()  # before the harm: its effects may be recorded before the next line
            harm(victim)
            if not future.done() and not wait(IN_FLIGHT_S, _is_answered_by, worker, future):
                self._notebook.note(event, at, worker=worker, request=request)
                return _Hurt(worker, request, future)
            heal(victim)
            self._await_use(worker)
        raise NotReady(
            f"{HARM_TRIES} times a worker had answered before Docker had hurt it",
            advice="Give the workers more time for a request: CBW_WORKER_WORK_TIME_S=3.",
        )

    def _await_use(self, worker: str) -> None:
        """Send requests until ``worker`` has begun one again, unless it was replaced; if it never does, the records show it."""
        deadline = time.monotonic() + SETTLE_S
        while worker in self._containers and time.monotonic() < deadline:
            asked = self._ask(len(self._workers))
            _await(asked)
            if any(name == worker for request in asked for name, _ in self._begun(request)):
                return

    # --- restarts

    def hurt_brokers(self) -> bool:
        """Bring brokers down under load. False: nobody answers any more.

        Raises:
            NotReady: the only broker comes back where the clients do not find it.
        """
        requester = Requester(self._ask_and_begin, self._settle, lambda: self._callers[0].broker, self._probe)
        has_standbys = self._answering < len(self._addresses)
        where = (self._deployment, self._notebook, self._say, requester, self._addresses)
        return BrokerTrials(*where, has_standbys=has_standbys).run()

    def _settle(self) -> None:
        if self._deployment.replaces_containers:  # the brokers that came are elsewhere
            self._printed.follow(self._deployment.containers(BROKER_SERVICE))
            self._reach_brokers()
        for worker in self._containers:
            self._await_use(worker)

    def restart_logger(self) -> None:
        """``docker restart`` a logger under load, then ``docker kill`` and start it, if there is one."""
        if not self._loggers:
            return
        for how, event, restart in (
            ("restarted", catalogue.LOGGER_RESTARTED, restarted),
            ("killed", catalogue.LOGGER_KILLED, partial(killed_and_restored, self._deployment)),
        ):
            if restart is restarted and self._deployment.replaces_containers:
                continue
            logger = self._loggers[0]
            asked = self._ask_and_begin()
            self._say(f"the logger is {how} while {len(asked)} requests are open")
            self._notebook.note(event)
            restart(logger)
            self._loggers = self._deployment.containers(LOGGER_SERVICE)
            (logger, *_) = self._loggers
            if wait(SETTLE_S, self._has_grown, logger, log_size(logger)):
                self._notebook.note(catalogue.LOGGER_WRITES)
            _await(asked)

    def _has_grown(self, logger: Container, size: int) -> bool:
        return log_size(logger) != size

    def _ask_and_begin(self) -> dict[str, Future[str]]:
        """Send two requests for each worker, and wait until one is begun: none is answered yet."""
        for _ in range(HARM_TRIES):
            asked = self._ask(2 * len(self._workers), more_s=SETTLE_S)
            wait(SETTLE_S, self._is_any_begun, asked)
            if not all(future.done() for future in asked.values()):
                break
        return asked

    # --- what is left behind

    def collect(self) -> None:
        """Write a trace of the records that the deployment has left. Waits for a complete log, for at most :data:`SETTLE_S`."""
        self._say("reading what the deployment has recorded")
        notes, called = self._recorded()
        deadline = time.monotonic() + SETTLE_S
        while True:
            records = self._deployed(called)
            log = CompleteLog()
            for record in (*notes, *called, *records):
                log.see(record)
            if not self._loggers or log.verdict().passed or time.monotonic() > deadline:
                break
            time.sleep(LOG_POLL_S)
        Path(self._notebook.path("deployment")).write_bytes(msgspec.json.Encoder().encode_lines(records))

    def _recorded(self) -> tuple[list[Record], list[Record]]:
        """What the verification itself and its clients have recorded so far."""
        called = [record for caller in self._all_callers for record in read(self._notebook.path(caller.id))]
        return list(read(self._notebook.path("verify"))), called

    def _deployed(self, called: list[Record]) -> list[Record]:
        """What the deployment's own lines and its log tell so far, together with the clients' records ``called``."""
        return evidence.deployed(self._printed.lines, self._logged(), called, prefix=self._prefix)

    def _logged(self) -> list[Record]:
        """The records of the log. Several loggers share one file, so any of them will do."""
        try:
            files = [file for one in self._loggers[:1] for file in log_files(one, self._began_at)]
        except (tarfile.TarError, DockerException, RequestException):  # it grew while it was read
            return []
        return [record for file in files for record in evidence.logged_in(file, self._began_at)]

    # --- requests

    def _ask(self, count: int, callers: Sequence[Caller] = (), *, more_s: float = 0.0) -> dict[str, Future[str]]:
        """Send requests at once, from ``callers`` in rotation; the futures give the workers that answer.

        Without ``callers`` from all those that may ask any broker.
        """
        asked = {}
        callers = callers or self._callers
        rounds = -(-count // max(1, len(self._workers)))
        for number in range(count):
            caller = callers[number % len(callers)]
            future = caller.submit(timeout_s=self._timeout_s + rounds * self._work_s + more_s)
            asked[caller.last_request] = future
            future.add_done_callback(partial(self._note_end, caller.last_request))
        return asked

    def _note_end(self, request: str, _: Future[str]) -> None:
        self._ended_at[request] = time.time()

    def _begun(self, request: str) -> list[tuple[str, evidence.Line]]:
        return evidence.begun_in(self._printed.lines, request)

    def _is_any_begun(self, asked: Iterable[str]) -> bool:
        return any(self._begun(request) for request in asked)


def _await(asked: dict[str, Future[str]]) -> list[str]:
    """Wait until all have ended: the worker that answered each, or "" for a failure."""
    return [future.result() for future in asked.values()]


def _is_answered_by(worker: str, future: Future[str]) -> bool:
    return future.done() and future.result() == worker
