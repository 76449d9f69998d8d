"""The lab's REQ workers on the simulated network."""

from __future__ import annotations

import math

from cbw.core import messages

from .broker import SimBroker
from .network import Network
from .parcels import Parcel, PlainAnswer, PlainReady, PlainTask
from .peer import Peer
from .plan import PlainWorkerPlan
from .way import Way
from .workers import HANG_S, Run, read_body, write_answer
from .world import World


class PlainWorker(Peer):
    """A REQ program of the lab: registers, then one task, one answer, for ever. It never looks whether anybody lives.

    The REQ socket: what arrives while the program works is thrown away when it sends; it sends when there is a
    connection, and waits for that.
    """

    def __init__(self, world: World, network: Network, plan: PlainWorkerPlan, way: Way) -> None:
        super().__init__(world, plan.name, network, way)
        self.plan = plan
        self.services = [""]
        self.begun_count = 0
        self.is_orphan = False
        """The broker cannot know that it is there: restarted, or connected anew without an identity."""
        self.idle_since: float | None = None
        self.is_wanted = True  # restarted when it ends
        self._awaited_until = 0.0
        self._to_send: Parcel | None = None
        self._run: Run | None = None
        self._connected_once = False

    def start(self) -> None:
        if self.is_alive or not self.is_wanted:
            return
        self.boot += 1
        self.who = f"{self.name}.{self.boot}"
        self._to_send = PlainReady(self.name)
        self._run = None
        self.is_orphan = False
        self._connected_once = False
        self.idle_since = None
        self.world.say(self.who, "started")
        self.link.open(None if self.plan.is_anonymous else self.name.encode())
        self.start_turns()

    def crash(self, *, is_silent: bool = False) -> None:
        if self.is_alive:
            self.world.say(self.who, "crashed" + " silently" * is_silent)
            if self._run is not None:
                self.checker.programs.died(self._run.task.id)
            self.link.close(is_orderly=False, is_silent=is_silent)
            self.end_turns()
            self.idle_since = None
            self._run = None
            self.world.after(self.plan.restart_s, self.start)

    def awaited(self, until: float) -> None:
        """The broker waits for its answer, which may be lost."""
        self._awaited_until = until
        self.disturbed(until)

    def thaw(self) -> None:
        super().thaw()
        self.disturbed(self._awaited_until)

    def broker_died(self, *, is_known: bool) -> None:
        """The next one will not know of it, unless its registration is still to come, or it ``is_known`` from a journal."""
        if self.is_alive and not is_known and not isinstance(self._to_send, PlainReady):
            self.is_orphan = True

    @property
    def wake_at(self) -> float:
        return math.inf

    def turn(self) -> None:
        for is_connected in self.link.watch():
            self.world.say(self.who, "connected" if is_connected else "disconnected")
            if not is_connected:
                self.idle_since = None
            elif self._connected_once and (self.plan.is_anonymous or self._is_stranger):
                self.is_orphan = True
            self._connected_once = True
        if self._to_send is not None and self.link.connection is not None:
            self._eat()
            self.link.send(self._to_send)
            self.world.say(self.who, "ready" if isinstance(self._to_send, PlainReady) else "answers")
            self._to_send = None
        if self._to_send is None and self._run is None:
            parcel = self.link.receive()
            if parcel is not None:
                assert isinstance(parcel, PlainTask)
                self._begin(parcel)
            elif self.link.connection is not None and self.idle_since is None:
                self.idle_since = self.world.now

    @property
    def _is_stranger(self) -> bool:
        """Whether it is connected to one of several brokers, which does not know it: it had registered with another one."""
        connection = self.link.connection
        if connection is None or not self.link.way.has_others or isinstance(self._to_send, PlainReady):
            return False
        broker, identity = connection.router.process, self.name.encode()
        assert isinstance(broker, SimBroker)
        return identity not in broker.checker.durability.written.workers and identity not in broker.core.workers.by_peer

    def _eat(self) -> None:
        while (parcel := self.link.receive()) is not None:
            self.world.say(self.who, "throws a task away")
            self.network.on_lost(parcel, "thrown away by a REQ socket")

    def _begin(self, parcel: PlainTask) -> None:
        token, work_s, kind = read_body(parcel.body)
        self.idle_since = None
        self.begun_count += 1
        self.checker.begun(parcel.task, token)
        self.world.say(self.who, f"begins {parcel.task} {token} {kind}")
        task = messages.Task(parcel.task, "", parcel.client, None, 1)
        run = self._run = Run(task, token, kind, self.world.now)
        self.world.after(HANG_S if kind == "hang" else work_s * self.plan.speed, self._finish, run)

    def _finish(self, run: Run) -> None:
        if self._run is not run:
            return
        if self.is_frozen:
            self.world.at(self.frozen_until + 0.001, self._finish, run)
            return
        if run.kind == "die":
            self.crash()
            return
        self._run = None
        self.checker.ran(run.task.id)
        self._to_send = PlainAnswer(run.task.body, write_answer(run.token, self.who, run.task.id))
        self.wake()
