"""What ``cbw verify --compose`` does to the brokers of a deployment while requests are open: it restarts, kills, freezes and cuts
off one, or two of them at once.

The only broker is started again before anybody can go on. Of several, the others serve meanwhile; where some stand by, one of
these takes over what the broker had.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

from docker.models.containers import Container

from cbw.core import catalogue
from cbw.core.catalogue import EventName
from cbw.errors import NotReady
from cbw.verify.caller import is_broker_at
from cbw.verify.deployment import BROKER_SERVICE, CONTAINER_STOP_S, Deployment
from cbw.verify.engine import exit_codes, freeze
from cbw.verify.notebook import Notebook, wait

ZOMBIE_S = 30.0
"""Time for a broker that is awake again to notice that another one has its journal, and to end."""

PROBE_S = 3.0
"""Time for a broker that serves to welcome a client."""
TAKEOVER_S = 30.0
"""Time for a broker that stands by to serve in place of one that was lost: it takes some 2 s."""

Harm = Callable[[Container], None]


class Requester(NamedTuple):
    """What the trials of brokers need of those of workers."""

    ask_and_begin: Callable[[], dict[str, Future[str]]]
    """Sends requests, and returns when one is begun: none is answered yet."""
    settle: Callable[[], None]
    """Waits until every worker answers requests again."""
    broker_in_use: Callable[[], str]
    """The name of a broker with open requests."""
    probe: str
    """The id of a client that looks for brokers."""


class BrokerTrials:
    """Harm to the brokers of ``deployment``, for which clients look at ``addresses``. With ``has_standbys`` some do not serve.
    ``say`` is called with lines of progress.
    """

    def __init__(
        self,
        deployment: Deployment,
        notebook: Notebook,
        say: Callable[[str], None],
        requester: Requester,
        addresses: Sequence[str],
        *,
        has_standbys: bool,
    ) -> None:
        self._deployment = deployment
        self._notebook = notebook
        self._say = say
        self._requester = requester
        self._addresses = addresses
        self._has_standbys = has_standbys

    def run(self) -> bool:
        """Make all trials. False: nobody answers any more.

        Raises:
            NotReady: the only broker comes back where the clients do not find it.
        """
        brokers = self._deployment.containers(BROKER_SERVICE)
        if len(brokers) == 1 and self._deployment.replaces_containers:
            self._say("the only broker is not brought down: another one would come back at another address")
            return True
        if len(brokers) == 1:
            return self._restart_the_only_one(brokers[0])
        return self._hurt_an_owner() if self._has_standbys else self._hurt_some(len(brokers))

    def _restart_the_only_one(self, broker: Container) -> bool:
        for how, event, restart in (
            ("restarted", catalogue.BROKER_RESTARTED, restarted),
            ("killed", catalogue.BROKER_KILLED, partial(killed_and_restored, self._deployment)),
        ):
            asked = self._requester.ask_and_begin()
            self._say(f"the broker is {how} while {len(asked)} requests are open")
            self._notebook.note(event)
            restart(broker)
            self._notebook.note(catalogue.BROKER_BACK)
            if self._addresses[0] not in (addresses := self._deployment.addresses(broker)):
                raise NotReady(
                    f"the broker came back at {' or '.join(addresses) or 'no address'}, it was at {self._addresses[0]}",
                    advice='Publish its port under a fixed number: ports: "9998:9998".',
                )
            if not self._are_answered(asked):
                return False
            self._requester.settle()
        return True

    def _hurt_some(self, count: int) -> bool:
        deployment = self._deployment
        harms: list[tuple[EventName, Harm, Harm]] = [
            (catalogue.BROKER_KILLED, Container.kill, deployment.restore),
            (catalogue.BROKER_FROZEN, freeze, Container.unpause),
        ]
        networks = {broker.id: deployment.networks_of(broker) for broker in deployment.containers(BROKER_SERVICE)}
        if all(networks.values()):
            harms.append(
                (
                    catalogue.BROKER_CUT_OFF,
                    lambda broker: deployment.cut_off(broker, networks[broker.id]),
                    lambda broker: deployment.reconnect(broker, networks[broker.id]),
                )
            )
        if not all(self._hurt(1, *harm) for harm in harms):
            return False
        return count < 3 or self._hurt(2, *harms[0])

    def _hurt_an_owner(self) -> bool:
        """Kill the broker that serves, then freeze it for so long that a standby takes over, and wake it."""
        if not self._hurt(1, catalogue.OWNER_KILLED, Container.kill, self._deployment.restore):
            return False
        began_at = time.time()
        woken: list[Container] = []

        def wake(owner: Container) -> None:
            self._notebook.note(catalogue.ZOMBIE_WOKEN, text=owner.name or "")
            owner.unpause()
            woken.append(owner)

        if not self._hurt(1, catalogue.BROKER_FROZEN, freeze, wake):
            return False
        codes: list[int] = []

        def has_ended() -> bool:
            codes[:] = exit_codes(woken[0], began_at)
            return bool(codes)

        if wait(ZOMBIE_S, has_ended):
            self._say(f"the broker that was frozen has ended with exit code {codes[0]}")
            self._notebook.note(catalogue.ZOMBIE_ENDED, text=woken[0].name or "", count=codes[0])
        return True

    def _hurt(self, count: int, event: EventName, harm: Harm, heal: Harm) -> bool:
        """Hurt ``count`` brokers, of which one is in use, until others have answered the requests that are open, and one of those
        that stood by serves.
        """
        standbys = self._standbys() if self._has_standbys else []
        asked = self._requester.ask_and_begin()
        in_use = self._requester.broker_in_use()
        brokers = self._deployment.containers(BROKER_SERVICE)
        victims = sorted(brokers, key=lambda one: not in_use.endswith(str(one.attrs["Config"]["Hostname"])))[:count]
        how = event.removeprefix("broker_").removeprefix("owner_").replace("_", " ")
        whom = " and ".join(str(victim.name) for victim in victims)
        self._say(
            f"{whom} of {len(brokers)} brokers {'is' if count == 1 else 'are'} {how} while {len(asked)} requests are open"
        )
        self._notebook.note(event, text=whom)
        for victim in victims:
            harm(victim)
        is_answered = self._are_answered(asked)
        is_replaced = self._is_answered_at_one_of(standbys)
        for victim in victims:
            heal(victim)
        if is_replaced:
            self._notebook.note(catalogue.BROKER_BACK)
        if is_answered and is_replaced:
            self._requester.settle()
        return is_answered and is_replaced

    def _standbys(self) -> list[str]:
        """The addresses at which no broker answers."""
        brokers = self._deployment.containers(BROKER_SERVICE)
        addresses = [address for broker in brokers for address in self._deployment.addresses(broker)]
        return [address for address in addresses if not self._is_answered_at(address)]

    def _is_answered_at_one_of(self, standbys: list[str]) -> bool:
        """Wait until a broker answers at one of these addresses, if there are any."""
        if not standbys or wait(TAKEOVER_S, lambda: any(map(self._is_answered_at, standbys))):
            return True
        self._say("none of the brokers that stood by serves")
        return False

    def _is_answered_at(self, address: str) -> bool:
        return is_broker_at(address, self._requester.probe, PROBE_S)

    def _are_answered(self, asked: dict[str, Future[str]]) -> bool:
        """Wait until all have ended; whether any was answered."""
        workers = [future.result() for future in asked.values()]
        if any(workers):
            return True
        self._say("no broker answers any more")
        return False


def restarted(container: Container) -> None:
    """``docker restart``."""
    container.restart(timeout=CONTAINER_STOP_S)


def killed_and_restored(deployment: Deployment, container: Container) -> None:
    """``docker kill``, and one that works again, the same or another."""
    container.kill()
    deployment.restore(container)
