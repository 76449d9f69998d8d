"""What a verification asks of the containers that it hurts, whoever has started them: Docker Compose, or a Swarm."""

from __future__ import annotations

from typing import Any, Protocol

from docker.models.containers import Container

BROKER_SERVICE, WORKER_SERVICE, LOGGER_SERVICE = "bro", "wor", "log"
"""Names of the services in the lab's Compose files, and in our stack."""
WORKERS_MIN = 3
"""Workers that a verification needs: one to be hurt, one to take over, and one more that must not idle."""
CONTAINER_STOP_S = 15
"""Time for a container to end after SIGTERM: more than the grace time of the roles."""
Networks = dict[str, dict[str, Any]]
"""A container's networks by name, with its settings in each, as ``docker inspect`` shows them."""


class Deployment(Protocol):
    """Runs inside its ``with`` block, with enough workers; afterwards it is as it was found."""

    replaces_containers: bool
    """Whether another container comes in place of one that has ended. If so, none is started again."""

    def containers(self, service: str) -> list[Container]:
        """The running containers of ``service``."""
        ...

    def addresses(self, broker: Container) -> list[str]:
        """Addresses at which clients on this host may reach ``broker``, best first."""
        ...

    def common_networks(self, container: Container) -> Networks:
        """The networks over which ``container`` can reach brokers, and from which it can be cut off."""
        ...

    def networks_of(self, container: Container) -> Networks:
        """The networks from which ``container`` can be cut off."""
        ...

    def cut_off(self, container: Container, networks: Networks) -> None:
        """``docker network disconnect`` from ``networks``."""
        ...

    def reconnect(self, container: Container, networks: Networks) -> None:
        """``docker network connect`` to ``networks`` again, under the same names."""
        ...

    def restore(self, ended: Container) -> None:
        """Have a container in place of one that has ended: the same, or another.

        Raises:
            NotReady: there is none in time.
        """
        ...
