"""The broker's process on the simulated network: the driver that ships, between two simulated ports."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.broker.backlog import SendOrder
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.driver import Driver
from cbw.core.broker.events import Event, Side
from cbw.core.broker.limits import Limits
from cbw.core.broker.replay import Replay
from cbw.core.plain_messages import PlainReply, PlainTask
from cbw.core.port import Frames
from cbw.wire import native

from . import parcels
from .compacted import need_same_compacted
from .disk import Disk, SimJournal
from .network import Connection, Network, Router
from .parcels import Parcel
from .plan import first_task
from .summary import summary
from .world import Process, ViolationError, World

if TYPE_CHECKING:
    from .checker import Checker
    from .standby import StreamPort


class WatchedDriver(Driver):
    """The driver that ships; all that passes between it, the core and the ports is shown to the checker."""

    def __init__(
        self,
        world: World,
        checker: Checker,
        core: BrokerCore,
        clients: Router,
        workers: Router,
        limit: int,
        journal: SimJournal | StreamPort | None,
    ) -> None:
        super().__init__(core, clients, workers, limit, journal)
        self._world = world
        self._checker = checker
        self._plain: list[PlainReply | PlainTask] = []  # what is being sent, one after another
        clients.wrap = workers.wrap = self._wrap
        clients.on_read = self._read

    def watch_with(self, checker: Checker) -> None:
        """Show it to this one from now on."""
        self._checker = checker

    def _decide(self, facts: list[Event]) -> list[Event]:
        for fact in facts:
            self._world.say("fact", _tell(fact))
            self._world.counts[type(fact).__name__] += 1
        self._checker.facts(facts)
        orders = super()._decide(facts)
        for order in orders:
            self._world.say("order", _tell(order))
        self._checker.step(facts, orders)
        return orders

    def _try_to_send(self, side: Side, order: SendOrder, undelivered: list[Event]) -> SendOrder | None:
        self._plain = [message for message in order.messages if isinstance(message, PlainReply | PlainTask)]
        return super()._try_to_send(side, order, undelivered)

    def _take_unsent(self, side: Side, peer: bytes) -> list[messages.Message]:
        unsent = super()._take_unsent(side, peer)
        self._checker.taken_back(peer, unsent)
        return unsent

    def _read(self, parcel: Parcel, connection: Connection) -> None:
        if isinstance(parcel, parcels.PlainRequest):
            self._checker.plain_read(parcel, connection)

    def _wrap(self, connection: Connection, frames: Frames) -> Parcel:
        frames = [bytes(frame) for frame in frames]
        if native.WORKER.recognises(frames):
            if connection.router is not self._clients:
                self._checker.tasks_sent(native.to_worker(frames), connection)
            else:
                self._checker.answers_sent(native.to_client(frames), connection)
            return parcels.Native(frames)
        message = self._plain.pop(0)
        if isinstance(message, PlainTask):
            task = self._checker.plain_task(message, connection)
            return parcels.PlainTask(message.client, frames[-1], task)
        token = self._checker.plain_reply_sent(message)
        return parcels.PlainReply(message.envelope, frames[-1], message.answer.status, token, self._world.now)


class SimBroker(Process):
    """One broker process at a time; :meth:`start` makes another after a crash. ``number`` tells it from other brokers."""

    def __init__(
        self, world: World, network: Network, limits: Limits, turn_messages: int, grace_s: float, number: int = 0
    ) -> None:
        super().__init__(world, f"broker{number or ''}")
        self.number = number
        self.disk_name = f"disk{number or ''}"
        self.network = network
        self.limits = limits
        self.turn_messages = turn_messages
        self.grace_s = grace_s
        self.boot = 0
        self.checker: Checker
        self.core: BrokerCore
        self.driver: WatchedDriver
        self.journal: SimJournal | StreamPort | None = None
        self.is_fenced = False
        """Whether another one has its journal, so that nothing that it says is believed."""
        self.asked: list[tuple[events.OperatorAsked, dict[str, Any]]] = []
        """What an operator asks in the next turn."""
        self.clients: Router
        self.workers: Router

    def start(self) -> None:
        """A new boot, which remembers nothing but what its journal says."""
        self.boot += 1
        disk = self.checker.durability.disk
        self.core = self.new_core(has_journal=disk is not None)
        self.journal = self._open(disk) if isinstance(disk, Disk) else None
        self.serve()

    def new_core(self, *, has_journal: bool) -> BrokerCore:
        """The core of this boot."""
        return BrokerCore(
            f"BRO{self.number or ''}",
            f"bro{self.boot}.{self.number}",
            self.limits,
            first_task=self.first_task,
            is_tracing=True,
            has_journal=has_journal,
        )

    def serve(self) -> None:
        """Open the ports, with core and journal."""
        self.clients = Router(self.network, self, 9998)
        self.workers = Router(self.network, self, 9999)
        self.clients.is_open = self.workers.is_open = True
        self.driver = WatchedDriver(
            self.world, self.checker, self.core, self.clients, self.workers, self.turn_messages, self.journal
        )
        self._stop_by: float | None = None
        self.world.say(self.name, f"boot {self.boot}")
        self.start_turns()

    def watched_by(self, checker: Checker) -> None:
        """From now on another checker judges it."""
        self.checker = checker
        self.driver.watch_with(checker)

    @property
    def is_started(self) -> bool:
        """Whether there is such a process."""
        return self.is_alive

    @property
    def is_believed(self) -> bool:
        """Whether it serves, and no other one has its journal."""
        return self.is_alive and not self.is_fenced

    @property
    def first_task(self) -> int:
        """The number of its first task in this boot."""
        return first_task(self.number, self.boot)

    def _open(self, disk: Disk) -> SimJournal:
        """Read the journal as the broker does, and write it from now on."""
        replay = Replay()
        for position, data in disk.batches.items():
            replay.read(position, data)
        need_same_compacted(replay)
        self.core.use_journal(replay, self.world.now)
        self.checker.recovered()
        return SimJournal(disk, self.wake, self.checker.durability.put)

    def crash(self, *, is_silent: bool = False) -> None:
        """SIGKILL, or the power fails (silent)."""
        self.world.say(self.name, "crashed" + " silently" * is_silent)
        if self.journal is not None:
            self.journal.die(is_silent=is_silent)
        self._die(is_silent=is_silent)

    def start_again(self) -> None:
        """A new boot, unless it runs."""
        if not self.is_alive:
            self.start()

    def client_port(self) -> Router | None:
        """Where clients connect to; None: nobody listens there."""
        return self.clients if self.is_alive else None

    def worker_port(self) -> Router | None:
        """The port for workers."""
        return self.workers if self.is_alive else None

    def stop(self) -> None:
        """SIGTERM."""
        self._stop_by = self.world.now + self.grace_s
        self.disturbed(self.world.now + 1e9)
        self.wake()

    def _die(self, *, is_silent: bool) -> None:
        self.asked.clear()
        self.end_turns()
        self.checker.broker_died()
        self.clients.die(is_silent=is_silent)
        self.workers.die(is_silent=is_silent)

    def _told(self, asked: list[tuple[events.OperatorAsked, dict[str, Any]]]) -> Iterator[events.OperatorAsked]:
        for fact, fields in asked:
            self.checker.operator.about_to_act(fact, fields)
            yield fact

    @property
    def stored_at(self) -> float:
        """What was accepted before then need not wait for the journal."""
        return self.journal.waited_since if self.journal is not None else math.inf

    @property
    def is_disturbed(self) -> bool:
        """Whether it was frozen, or is about to stop."""
        return self.world.now < self.settled_at

    @property
    def wake_at(self) -> float:
        return self.driver.wake_at

    def turn(self) -> None:
        stop_by, self._stop_by = self._stop_by, None
        asked, self.asked = self.asked, []
        operator = self.checker.operator
        self.driver.turn(self.world.now, stop_by, self._told(asked))
        for order in self.driver.operator_answers:
            if order.answer.status is not messages.Status.OK:
                raise ViolationError(f"control: the operator was refused: {bytes(order.answer.body)!r}")
            operator.answered(order.number, order.answer)
        operator.has_acted()
        self.driver.operator_answers.clear()
        if self.driver.is_over:
            self.world.say(self.name, "stopped")
            if self.journal is not None:
                self.journal.close()
            self._die(is_silent=False)
            self.world.after(self.world.between(0.05, 2), self.start_again)
        elif self.workers.has_input or (self.driver.is_reading_clients and self.clients.has_input):
            self.wake()


def _tell(event: Event) -> str:
    name = type(event).__name__
    peer = getattr(event, "peer", b"")
    who = peer.hex() if peer[:1] == b"\0" else peer.decode()
    batch: list[messages.Message] = getattr(event, "messages", [])
    if batch:
        replaced = " (replaced)" * getattr(event, "is_replaced", False)
        return f"{name} {who}: {summary(batch)}{replaced}"
    if isinstance(event, events.PeerLost | events.PeersConnected):
        return f"{name} {event.side.value} {who}"
    return f"{name} {who}"
