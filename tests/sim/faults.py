"""What goes wrong in a run: of each kind now and then, as the plan says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from .broker import SimBroker
from .clients import PlainClient, SimClient
from .disk import Disk
from .network import HEARTBEAT_S, Connection
from .peer import Peer
from .plan import ClientPlan, Job, PlainClientPlan
from .servers import Servers
from .stranger import Stranger
from .system import SimSystem
from .workers import SimWorker
from .world import BEAT_S, Process

P = TypeVar("P", bound=Peer)
TWIN_S = 6.0
"""A second process with a living one's id is left alone for at most this long."""


class Faults:
    """What goes wrong: of each kind now and then, as the plan says, until :meth:`stop`."""

    def __init__(self, system: SimSystem) -> None:
        self.system = system
        self.world = system.world
        self._is_over = False

    def start(self) -> None:
        """From now on."""
        for name, rate in self.system.plan.rates.items():
            self._schedule(name, rate)

    def stop(self) -> None:
        """No more of them, and what can heal at once does."""
        system, world = self.system, self.world
        self._is_over = True
        world.say("fault", "no more")
        for stream in system.streams:
            stream.heal()
        for broker in system.brokers:
            if (disk := broker.checker.durability.disk) is not None:
                disk.heal()
            broker.start_again()
            broker.checker.operator.undo()
        for worker in [worker for worker in system.workers if worker.twin]:
            self._end_twin(worker)
            system.workers.remove(worker)
        for plain_twin in [client for client in system.plain_clients if client.is_twin]:
            self._end_plain_twin(plain_twin)
        for process in (*system.brokers, *system.plain_clients, *system.servers):
            process.thaw()  # but not our clients, who may take their time to read
        for peer in system.peers:
            for link in peer.links:
                link.cut_until = 0.0
        for connection in system.connections():
            connection.unblock()
        for client in system.askers:
            if isinstance(client, SimClient) and client.is_twin:
                client.crash()
            else:
                client.start()

    def _schedule(self, name: str, rate: float) -> None:
        self.world.after(self.world.rng.expovariate(rate), self._happen, name, rate)

    def _happen(self, name: str, rate: float) -> None:
        if not self._is_over:
            self.world.counts[f"fault: {name}"] += 1
            getattr(self, "_" + name.replace(" ", "_"))()
            self._schedule(name, rate)

    def _pick(self, peers: Sequence[P]) -> P | None:
        living = [peer for peer in peers if peer.is_alive]
        return self.world.rng.choice(living) if living else None

    # --- the network

    def _connection(self) -> None:
        """A connection breaks; its ends notice at different times."""
        world = self.world
        connections = self.system.connections()
        if connections:
            victim = world.rng.choice(connections)
            world.say("fault", f"connection of {victim.link.process.name} breaks")
            slowest_s = 0.1 if world.chance(0.5) else HEARTBEAT_S[1]
            ends = [world.between(0, slowest_s) for _ in range(2)]
            victim.lose(*ends)
            victim.link.process.disturbed(world.now + max(ends))

    def _partition(self) -> None:
        """One peer and the brokers do not hear each other for a while, or one way, or only one of the brokers."""
        world = self.world
        victim = self._pick(self.system.peers)
        if victim is None:
            return
        seconds = 10 ** world.between(-2, 0.85)
        way = world.rng.choice(["both", "both", "up", "down"])
        world.say("fault", f"{victim.name} is cut off for {seconds:.3f} s ({way})")
        links = victim.links
        if len(links) > 1 and world.chance(0.5):
            links = [world.rng.choice(links)]
        for link in links if way == "both" else ():
            link.cut_until = max(link.cut_until, world.now + seconds)
        for connection in [each for each in self.system.connections(victim) if each.link in links]:
            connection.block(seconds, is_up=way != "down", is_down=way != "up")
        victim.disturbed(world.now + seconds + BEAT_S)

    # --- frozen and slow

    def _freeze(self, victim: Process | None, connections: list[Connection]) -> None:
        world = self.world
        if victim is None:
            return
        seconds = 10 ** world.between(-2, 0.9)
        is_whole = world.chance(0.6)  # SIGSTOP: libzmq's thread too, so that heartbeats fail
        world.say("fault", f"{victim.name} freezes for {seconds:.3f} s" + " whole" * is_whole)
        victim.freeze(seconds, is_whole=is_whole)
        if is_whole:
            for connection in connections:
                connection.block(seconds, is_up=True, is_down=True)

    def _freeze_peer(self, peers: Sequence[Peer]) -> None:
        victim = self._pick(peers)
        self._freeze(victim, self.system.connections(victim))

    def _worker_freeze(self) -> None:
        self._freeze_peer(self.system.workers)

    def _plain_worker_freeze(self) -> None:
        self._freeze_peer(self.system.plain_workers)

    def _client_freeze(self) -> None:
        """Or its program does not look for answers for so long that the broker takes it for lost."""
        if self.world.chance(0.4) and (victim := self._pick(self.system.clients)) is not None:
            seconds = self.world.between(6, 20)
            self.world.say("fault", f"{victim.name} does not read for {seconds:.3f} s")
            victim.freeze(seconds)
        else:
            self._freeze_peer(self.system.clients)

    def _pick_broker(self) -> SimBroker | None:
        living = [broker for broker in self.system.brokers if broker.is_started]
        return self.world.rng.choice(living) if len(living) > 1 else next(iter(living), None)

    def _broker_freeze(self) -> None:
        if (broker := self._pick_broker()) is not None:
            self._freeze(broker, [each for each in self.system.connections() if each.router.process is broker])

    # --- crashes

    def _crash(self, peers: Sequence[P]) -> P | None:
        victim = self._pick(peers)
        if victim is not None:
            victim.crash(is_silent=self.world.chance(0.2))
        return victim

    def _worker_crash(self) -> None:
        self._crash(self.system.workers)

    def _plain_worker_crash(self) -> None:
        self._crash(self.system.plain_workers)

    def _client_crash(self) -> None:
        victim = self._crash(self.system.clients)
        if victim is not None:
            self.world.after(self.world.between(0.01, 2), self._start_again, victim)

    def _plain_client_crash(self) -> None:
        victim = self._crash(self.system.plain_clients)
        if victim is not None:
            self.world.after(self.world.between(0.01, 2), self._start_again, victim)

    def _start_again(self, client: SimClient | PlainClient) -> None:
        """Unless it was a second program with an id, and is not to be there any more."""
        if client in self.system.askers and not (client.is_twin and self._is_over):
            client.start()

    def _broker_crash(self) -> None:
        if (broker := self._pick_broker()) is not None:
            broker.crash(is_silent=self.world.chance(0.2))
            self.world.after(10 ** self.world.between(-2, 0.6), broker.start_again)

    # --- the disk with the journal

    def _disk_slow(self) -> None:
        """It stands still for a moment, or is slow for longer."""
        disk, world = self._disk, self.world
        if world.chance(0.6):
            seconds = 10 ** world.between(-2, 0.8)
            world.say("fault", f"the disk stands still for {seconds:.3f} s")
            disk.stand_still(seconds)
        else:
            seconds = 10 ** world.between(-1, 0.7)
            world.say("fault", f"the disk is slow for {seconds:.3f} s")
            disk.be_sluggish(seconds)

    def _disk_full(self) -> None:
        seconds = 10 ** self.world.between(-1, 0.8)
        self.world.say("fault", f"the disk is full for {seconds:.3f} s")
        self._disk.fill(seconds)

    @property
    def _disk(self) -> Disk:
        brokers = self.system.brokers
        disk = (self.world.rng.choice(brokers) if len(brokers) > 1 else brokers[0]).checker.durability.disk
        assert isinstance(disk, Disk)
        return disk

    # --- the servers with a journal that brokers share

    @property
    def _servers(self) -> Servers:
        assert self.system.journal is not None
        return self.system.journal.servers

    def _tell(self, what: str, low: float, high: float) -> float:
        """How long it lasts: ten to the power of something between the two."""
        seconds = 10 ** self.world.between(low, high)
        self.world.say("fault", f"{what} for {seconds:.3f} s")
        return seconds

    def _servers_elect(self) -> None:
        self._servers.elect(self._tell("the servers have no leader", -1, 1))

    def _servers_lose_answers(self) -> None:
        self._servers.lose_answers(self._tell("the servers lose answers", -1, 0.7))

    def _servers_tell_old_news(self) -> None:
        self._servers.tell_old_news(self._tell("the servers tell old news", -1, 1))

    def _servers_full(self) -> None:
        self._servers.fill(self._tell("the servers have no room", -1, 0.8))

    def _owner_lost(self) -> None:
        """It is frozen, or cut off, for so long that another takes its journal, and comes back."""
        for owner, stream in zip(self.system.brokers, self.system.streams, strict=False):
            if owner.is_believed and self.world.chance(0.5):
                owner.freeze(self._tell(f"{owner.name} stands still", 0.4, 0.9), is_whole=True)
                for connection in [each for each in self.system.connections() if each.router.process is owner]:
                    connection.block(owner.stopped_until - self.world.now, is_up=True, is_down=True)
            elif owner.is_believed:
                stream.cut_off(self._tell(f"{owner.name} is cut off from the servers", 0.4, 0.9))

    def _broker_cut_off(self) -> None:
        if streams := [stream for stream in self.system.streams if stream.is_alive]:
            stream = self.world.rng.choice(streams)
            stream.cut_off(self._tell(f"{stream.process.name} is cut off from the servers", -1, 1))

    # --- SIGTERM

    def _operator(self) -> None:
        """Somebody cancels, purges, drains or pauses, or lets go on what was stopped."""
        broker = self._pick_broker()
        if broker is not None and not broker.core.requests.stopping.is_on:
            clients = broker.core.clients.all
            names = [client.request_name(number) for client in clients for number in client.entries]
            broker.checker.operator.act(names)

    def _worker_stop(self) -> None:
        victim = self._pick(self.system.workers)
        if victim is not None:
            victim.stop()

    def _broker_stop(self) -> None:
        if (broker := self._pick_broker()) is not None:
            self.world.say("fault", f"SIGTERM for the {broker.name}")
            broker.stop()

    # --- two with one id

    def _worker_twin(self) -> None:
        """Somebody starts a second worker with the id of a living one, and lets it be for a while."""
        system = self.system
        victim = self._pick([worker for worker in system.workers if not worker.twin])
        if victim is not None:
            number = int(self.world.counts["fault: worker twin"])
            twin = system.add_worker(victim.plan, twin=number)
            twin.start()
            self.world.after(self.world.between(0, TWIN_S), self._end_twin, twin)

    def _end_twin(self, twin: SimWorker) -> None:
        if twin.is_wanted:
            twin.is_wanted = False
            twin.crash()

    def _plain_client_freeze(self) -> None:
        """A lab's program does not read for a while."""
        if (victim := self._pick(self.system.plain_clients)) is not None:
            seconds = 10 ** self.world.between(-1, 1.3)
            self.world.say("fault", f"{victim.name} does not read for {seconds:.3f} s")
            victim.freeze(seconds)

    def _plain_client_twin(self) -> None:
        """Somebody starts a second program of the lab with the identity of a living one, for a while."""
        system, now = self.system, self.world.now
        named = [client for client in system.plain_clients if not client.plan.is_anonymous and not client.is_twin]
        if system.journal is not None:  # each of several brokers has its own checker, one after the other
            return
        if (victim := self._pick(named)) is not None:
            number = int(self.world.counts["fault: plain client twin"])
            asks_as = f"{victim.name}-twin{number}"
            bursts = [(now + 0.001 * burst, [Job(f"{asks_as}/{burst}", "", 0.01)]) for burst in range(5)]
            plan = PlainClientPlan(victim.name, False, False, None, bursts)
            broker = next(broker for broker in system.brokers if broker.checker is victim.checker)
            twin = system.add_plain_client(plan, broker)
            twin.asks_as = asks_as
            twin.start()
            twin.schedule()
            self.world.after(self.world.between(0, TWIN_S), self._end_plain_twin, twin)

    def _end_plain_twin(self, twin: PlainClient) -> None:
        twin.crash()
        if twin in self.system.plain_clients:
            self.system.plain_clients.remove(twin)

    def _stranger(self) -> None:
        """Somebody has read a living client's id and boot, and says its hello."""
        if (victim := self._pick([client for client in self.system.clients if not client.is_twin])) is not None:
            Stranger(self.world, self.system, victim, int(self.world.counts["fault: stranger"])).start()

    def _client_twin(self) -> None:
        """A second client with a living one's id; its program asks for something too."""
        victim = self._pick([client for client in self.system.clients if not client.is_twin])
        if victim is not None:
            now = self.world.now
            jobs = [Job(f"{victim.name}-twin/{now:.6f}-{number}", "", 0.001) for number in range(3)]
            twin = self.system.add_client(ClientPlan(victim.name, [(now + 0.01, jobs)]), is_twin=True)
            twin.start()
            twin.schedule()
            self.world.after(self.world.between(0, TWIN_S), twin.crash)
