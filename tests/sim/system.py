"""The processes of a run."""

from __future__ import annotations

from .broker import SimBroker
from .checker import Checker
from .clients import PlainClient, SimClient
from .durability import Durability, SharedJournal
from .ledger import Ledger
from .network import Connection, Network
from .parcels import Parcel, PlainReply
from .peer import Peer
from .plain_workers import PlainWorker
from .plan import ClientPlan, PlainClientPlan, PlainWorkerPlan, Plan, ServersPlan, WorkerPlan
from .programs import Programs
from .servers import Inheritance, Servers, SimStream
from .standby import StandbyBroker
from .tickets import Tickets
from .way import Way
from .workers import SimWorker
from .world import World


class SimSystem:
    """Brokers, clients and workers, ours and the lab's. Our workers serve all brokers, our clients take another when they lose
    theirs, and each of the lab's programs knows one, or all that share a journal, of which one listens.
    """

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        self.network = Network(world, plan.delay_s, queue_max=plan.queue_max, monitor_lag_s=plan.monitor_lag_s)
        self.programs = Programs(tickets=Tickets(world, plan.limits))
        self.workers: list[SimWorker] = []
        self.plain_workers: list[PlainWorker] = []
        self.plain_clients: list[PlainClient] = []
        self._named_clients: dict[str, PlainClient] = {}  # of the lab, as brokers with one journal know them
        self.journal: SharedJournal | None = None
        self.brokers: list[SimBroker] = self._standbys(plan.servers) if plan.servers is not None else self._brokers()
        self.network.on_lost = self._lost
        self.network.on_displaced = self._displaced
        self.clients: list[SimClient] = []
        for client in plan.clients:
            self.add_client(client)
        for number, plain_client in enumerate(plan.plain_clients):
            self.add_plain_client(plain_client, self.brokers[number % plan.brokers])
        for worker in plan.workers:
            self.add_worker(worker)
        for number, plain_worker in enumerate(plan.plain_workers):
            self._add_plain_worker(plain_worker, self.brokers[number % plan.brokers])

    def _brokers(self) -> list[SimBroker]:
        """Each with a journal of its own, or without."""
        world, plan = self.world, self.plan
        brokers = [
            SimBroker(world, self.network, plan.limits, plan.turn_messages, world.between(0, 2), number)
            for number in range(plan.brokers)
        ]
        for broker in brokers:
            durability = Durability(world, plan, broker.disk_name)
            broker.checker = Checker(world, plan, self.network, broker, self.programs, durability)
        return brokers

    def _standbys(self, plan: ServersPlan) -> list[SimBroker]:
        """All with one journal."""
        world = self.world
        servers = Servers(world, plan)
        self.journal = SharedJournal(servers=servers)
        limits, turn_messages = self.plan.limits, self.plan.turn_messages
        brokers = [
            StandbyBroker(world, self.network, limits, turn_messages, world.between(0, 2), number, servers, self._judge)
            for number in range(self.plan.brokers)
        ]
        for broker in brokers:
            broker.checker = self._judge(broker, Inheritance(Ledger(), 1, 1, 0.0))

        def stored(token: bytes, position: int) -> None:
            for each in brokers:
                if each.token == token and each.is_believed:
                    each.checker.durability.on_disk(position)

        def taken(token: bytes) -> None:
            for each in brokers:
                each.on_taken(token)
                each.checker.durability.is_superseded()

        servers.on_stored, servers.on_taken = stored, taken
        return [*brokers]

    def _judge(self, broker: SimBroker, inherited: Inheritance) -> Checker:
        """Who judges ``broker`` while it owns the journal, which it has found like that."""
        durability = Durability(self.world, self.plan, shared=self.journal)
        durability.inherit(inherited)
        checker = Checker(self.world, self.plan, self.network, broker, self.programs, durability)
        checker.workers = durability.workers = self.workers
        checker.plain_workers, checker.plain_clients = self.plain_workers, self._named_clients
        return checker

    # --- who is there

    def add_client(self, plan: ClientPlan, broker: SimBroker | None = None, *, is_twin: bool = False) -> SimClient:
        """One more. It knows all brokers, or only this one."""
        number = len(self.clients) + 1
        brokers = self.brokers[number % len(self.brokers) :] + self.brokers[: number % len(self.brokers)]
        way = Way(*(each.client_port for each in brokers)) if broker is None else Way(broker.client_port)
        client = SimClient(self.world, self.network, plan, way, number=number, is_twin=is_twin)
        client.checker = self.brokers[0].checker
        self.clients.append(client)
        return client

    def add_plain_client(self, plan: PlainClientPlan, broker: SimBroker) -> PlainClient:
        """One more, which knows this broker, and those with the same journal."""
        ways = [each.client_port for each in self._with_journal_of(broker)]
        client = PlainClient(self.world, self.network, plan, Way(*ways))
        client.checker = broker.checker
        broker.checker.plain_clients.setdefault(client.name, client)
        self.plain_clients.append(client)
        return client

    def add_worker(self, plan: WorkerPlan, *, twin: int = 0) -> SimWorker:
        """One more."""
        ways = [Way(broker.worker_port) for broker in self.brokers]
        worker = SimWorker(self.world, self.network, plan, ways, twin=twin)
        worker.checker = self.brokers[0].checker
        self.workers.append(worker)
        for broker in self.brokers:
            broker.checker.workers = broker.checker.durability.workers = self.workers
        return worker

    def _add_plain_worker(self, plan: PlainWorkerPlan, broker: SimBroker) -> None:
        ways = [each.worker_port for each in self._with_journal_of(broker)]
        worker = PlainWorker(self.world, self.network, plan, Way(*ways))
        worker.checker = broker.checker
        if broker.checker.plain_workers is not self.plain_workers:
            broker.checker.plain_workers.append(worker)
        self.plain_workers.append(worker)

    def _with_journal_of(self, broker: SimBroker) -> list[SimBroker]:
        """``broker``, and the others that share its journal."""
        others = [each for each in self.brokers if each is not broker] if self.journal is not None else []
        return [broker, *others]

    def servers_of(self, broker: SimBroker) -> list[SimWorker | PlainWorker]:
        """The workers that serve this broker."""
        return [*self.workers, *broker.checker.plain_workers]

    # --- what the network tells

    def _lost(self, parcel: Parcel, why: str) -> None:
        if self.journal is not None and isinstance(parcel, PlainReply):
            # Whichever of them has died with it, the owner has it too.
            if not any(broker.checker.durability.keeps_reply(parcel.token) for broker in self.brokers):
                self.brokers[0].checker.lost(parcel, why)
            return
        for broker in self.brokers:
            broker.checker.lost(parcel, why)

    def _displaced(self, connection: Connection) -> None:
        for broker in self.living_brokers:
            if connection.router is broker.clients or connection.router is broker.workers:
                broker.checker.displaced(connection)

    @property
    def askers(self) -> list[SimClient | PlainClient]:
        """All clients."""
        return [*self.clients, *self.plain_clients]

    @property
    def servers(self) -> list[SimWorker | PlainWorker]:
        """All workers."""
        return [*self.workers, *self.plain_workers]

    @property
    def peers(self) -> list[Peer]:
        """All but the brokers."""
        return [*self.askers, *self.servers]

    def connections(self, peer: Peer | None = None) -> list[Connection]:
        """Those that live, of ``peer`` or of everybody."""
        all_of_them = [
            each
            for broker in self.living_brokers
            for router in (broker.clients, broker.workers)
            for each in router.connections
        ]
        return [each for each in all_of_them if not each.is_lost and (peer is None or each.link.process is peer)]

    @property
    def living_brokers(self) -> list[SimBroker]:
        """Those that serve, or believe so."""
        return [broker for broker in self.brokers if broker.is_alive]

    @property
    def believed_brokers(self) -> list[SimBroker]:
        """Those whose journal no other one has."""
        return [broker for broker in self.brokers if broker.is_believed]

    @property
    def streams(self) -> list[SimStream]:
        """The connections of brokers to the servers that keep their journal."""
        found = [broker.stream for broker in self.brokers if isinstance(broker, StandbyBroker)]
        return [stream for stream in found if stream is not None]
