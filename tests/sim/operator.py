"""An operator who cancels, purges, drains and pauses at random, and what that may and may not do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from cbw.core import messages
from cbw.core.broker import acts, events
from cbw.core.port import printable
from cbw.core.record import Record

from .account import Accepted
from .drawing import SERVICES
from .peer import Peer
from .plan import Job
from .world import ViolationError, World

if TYPE_CHECKING:
    from .broker import SimBroker

NAME = "OPERATOR"
UNDRAINED_S = 1.0
"""Seconds for which the first request for a worker that is drained no more may be on its way to it."""


class Operator:
    """Asks the broker's own services, and knows what it has asked for: nothing else may end, wait or stand idle for it."""

    def __init__(self, world: World, broker: SimBroker, cancelled: dict[str, None]) -> None:
        self.cancelled = cancelled
        """Requests that may have ended because of it, or of the operator of another broker."""
        self.paused: dict[str, None] = {}
        self.drained: dict[str, str] = {}
        """The boots of the workers that are to get nothing more, by their names."""
        self._world = world
        self._broker = broker
        self._undrained_at: dict[str, float] = {}
        self._number = 0
        self._purged: dict[str, None] = {}  # services, while a purge is carried out
        self._newly_drained: dict[str, None] = {}  # workers, while that is carried out
        self._asked: dict[int, tuple[str, Mapping[str, Any]]] = {}  # by number, until it is answered
        self._paused_then: dict[int, set[str]] = {}  # services, by the number of an act that pauses or resumes some
        self._told: Counter[str] = Counter()  # ends of requests that were told in this turn, by who has asked for them

    def broker_died(self) -> None:
        """The next one knows nothing of what was drained and paused."""
        self.paused.clear()
        self.drained.clear()
        self._asked.clear()
        self._paused_then.clear()
        self._told.clear()

    def act(self, names: list[str]) -> None:
        """Do something, now; ``names`` are those of requests that may be here."""
        world, core = self._world, self._broker.core
        what = world.rng.choice([acts.CANCEL, acts.PURGE, acts.DRAIN, acts.UNDRAIN, acts.PAUSE, acts.RESUME])
        service = world.rng.choice(SERVICES)
        workers = [worker.name for worker in core.workers.by_peer.values()]
        some = world.rng.sample(workers, world.rng.randint(1, len(workers))) if workers else ["nobody"]
        choices: dict[str, dict[str, Any]] = {
            acts.CANCEL: {"requests": world.rng.sample(names, min(len(names), 3)) or ["C0/1"]},
            acts.PURGE: {"service": service, "limit": world.rng.choice([1, 1000])},
            acts.DRAIN: {"workers": some},
            acts.UNDRAIN: {"workers": some},
            acts.PAUSE: {"services": [service]},
            acts.RESUME: {"services": [service]},
        }
        self.ask(what, **choices[what])

    def undo(self) -> None:
        """Let everything go on that was stopped."""
        self._broker.asked.clear()  # a broker that was frozen has not heard it yet
        if self.paused:
            self.ask(acts.RESUME, services=list(SERVICES))
        if self.drained:
            self.ask(acts.UNDRAIN, workers=list(self.drained))

    def ask(self, service: str, /, **fields: Any) -> None:
        """One of the broker's own services."""
        self._number += 1
        self._world.say("operator", f"asks {service} {fields}")
        fact = events.OperatorAsked(self._number, NAME, service, msgspec.json.encode(fields))
        self._asked[self._number] = service, fields
        self._broker.asked.append((fact, fields))
        self._broker.wake()

    def about_to_act(self, asked: events.OperatorAsked, fields: Mapping[str, Any]) -> None:
        """The core is told of it in this turn."""
        workers = {worker.name: worker for worker in self._broker.core.workers.by_peer.values()}
        match asked.service:
            case acts.CANCEL:
                self.cancelled.update(dict.fromkeys(fields["requests"]))
            case acts.PURGE:
                self._purged[fields["service"]] = None
            case acts.DRAIN:
                here = [name for name in fields["workers"] if name in workers]
                self._newly_drained.update(dict.fromkeys(name for name in here if name not in self.drained))
                self.drained.update({name: workers[name].boot for name in here})
            case acts.UNDRAIN:
                for name in fields["workers"]:
                    if self.drained.pop(name, None) is not None:
                        self._undrained_at[name] = self._world.now
            case acts.PAUSE:
                self.paused.update(dict.fromkeys(fields["services"]))
            case acts.RESUME:
                for name in fields["services"]:
                    self.paused.pop(name, None)
        self._paused_then[asked.number] = {*self.paused}

    def answered(self, number: int, answer: messages.Answer) -> None:
        """A worker that is to be drained may have been lost in the same turn: then the broker says that it is missing.

        Raises:
            ViolationError: the broker has done something else than it says.
        """
        service, fields = self._asked.pop(number)
        paused = self._paused_then.pop(number)  # by now more may have been asked, of a broker that had stood still
        told: dict[str, Any] = msgspec.json.decode(answer.body)
        missing = told.get("missing", ())
        for name in missing:
            if name in self._newly_drained:
                self.drained.pop(name, None)
        asked = {*fields.get("requests", ()), *fields.get("workers", ()), *fields.get("services", ())}
        done = {acts.CANCEL: "cancelled", acts.DRAIN: "drained", acts.UNDRAIN: "undrained", acts.RESUME: "resumed"}
        if service in done:
            _need(told[done[service]] == len(asked.difference(missing)), f"{service} {fields} is answered with {told}")
            _need(asked.issuperset(missing), f"{service} {fields} is answered with {told}")
        if service == acts.PURGE:
            is_so = told["is_complete"] or told["purged"] == fields["limit"]
            _need(told["purged"] <= fields["limit"] and is_so, f"{service} {fields} is answered with {told}")
            _need(told["purged"] <= self._told["purge"], f"{told['purged']} are purged, and {self._told} were told")
        if service in (acts.PAUSE, acts.RESUME):
            _need({*told["all_paused"]} == paused, f"{told['all_paused']} are paused, not {sorted(paused)}")

    def has_acted(self) -> None:
        """The turn is over."""
        self._told.clear()
        self._purged.clear()
        self._newly_drained.clear()

    def ended(self, record: Record, accepted: Accepted, job: Job) -> None:
        """A request was cancelled because somebody has asked the broker for it.

        Raises:
            ViolationError: nobody has asked for that.
        """
        is_with_worker = bool(accepted.attempts) and not accepted.attempts[-1].void
        is_fair = record.request in self.cancelled or (job.service in self._purged and not is_with_worker)
        if not is_fair:
            raise ViolationError(f"control: {accepted.token} was cancelled, and nobody has asked for that")
        self.cancelled[record.request] = None
        self._told["purge" if "purge" in record.text else "cancel"] += 1

    def has_drained(self, worker: Peer) -> bool:
        """Whether it may be idle while something waits. One that has not said its name is called like its connection."""
        if not self.drained and not self._undrained_at:
            return False
        connection = worker.link.connection
        names = [worker.name, *([printable(connection.peer)] if connection is not None else [])]
        since = self._world.now - UNDRAINED_S
        return any(name in self.drained or self._undrained_at.get(name, -1.0) > since for name in names)

    def handed_out(self, record: Record) -> None:
        """A worker is given a request.

        Raises:
            ViolationError: it is drained, or the service is paused.
        """
        _need(record.service not in self.paused, f"{record.request} was handed out, and its service is paused")
        boot = self.drained.get(record.worker)
        workers = self._broker.core.workers.by_peer.values()
        # One of the lab has no boot: another program may have its name, and is not drained.
        if boot and any(worker.name == record.worker and worker.boot == boot for worker in workers):
            raise ViolationError(f"control: {record.worker} was given {record.request}, and it is drained")


def _need(is_so: bool, text: str) -> None:
    if not is_so:
        raise ViolationError(f"control: {text}")
