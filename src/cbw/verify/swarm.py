"""The containers of a Swarm's stack on this machine: found and hurt. The Swarm itself puts others in place of those that end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container
from docker.models.services import Service

from cbw.errors import NotReady, UsageError
from cbw.settings import CLIENT_PORT
from cbw.verify.deployment import BROKER_SERVICE, WORKER_SERVICE, WORKERS_MIN, Networks
from cbw.verify.engine import connect, explained, undisturbed
from cbw.verify.notebook import wait

REPLACED_S = 120.0
"""Time for the Swarm to have another container at work in place of one that has ended."""
GATEWAY = "docker_gwbridge"
"""The network of each machine over which it reaches the containers that are in the networks of a Swarm."""
NAME_LABEL, STACK_LABEL = "com.docker.swarm.service.name", "com.docker.stack.namespace"


class SwarmStack:
    """The stack ``name``, as far as it runs on this machine. Inside the ``with`` block it is complete, and afterwards again.

    ``say`` is called with what is done to it, and what cannot be done.

    Raises:
        UsageError: there is no such stack, or not one that can be verified.
        NotReady: no Docker, no Swarm, or the stack is not in a state to be verified.
    """

    replaces_containers = True

    def __init__(self, name: str, say: Callable[[str], None]) -> None:
        self._docker = connect()
        self._name = name
        self._say = say
        services = {service.removeprefix(f"{name}_") for service in self._services()}
        for service in (BROKER_SERVICE, WORKER_SERVICE):
            if service not in services:
                has = ", ".join(sorted(services)) or "none; docker stack ls shows the stacks"
                raise UsageError(
                    f"the stack {name} has no service {service}, only {has}",
                    advice=f"cbw verify needs a broker called {BROKER_SERVICE} and workers called {WORKER_SERVICE}.",
                )

    def _services(self) -> dict[str, Service]:
        try:
            found = self._docker.services.list(filters={"label": f"{STACK_LABEL}={self._name}"})
        except APIError as error:
            raise NotReady(
                f"this machine manages no Swarm: {explained(error)}", advice="Run it on a manager of the Swarm."
            ) from None
        return {service.name: service for service in found}

    def __enter__(self) -> SwarmStack:
        self._await_all()
        workers = self.containers(WORKER_SERVICE)
        if len(workers) < WORKERS_MIN:
            raise NotReady(
                f"{len(workers)} workers of the stack {self._name} run on this machine; {WORKERS_MIN} are needed",
                advice=f"docker service scale {self._name}_{WORKER_SERVICE}={WORKERS_MIN}",
            )
        if not self.containers(BROKER_SERVICE):
            raise NotReady(
                f"no broker of the stack {self._name} runs on this machine",
                advice="Run the verification on the machine of a broker.",
            )
        self._say("a container of a Swarm cannot be cut off from its network, nor started again: that is left out")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with contextlib.closing(self._docker), undisturbed():
            for container in self._containers(self._name, all=True, status="paused"):
                with contextlib.suppress(DockerException):
                    container.unpause()
            try:
                self._await_all()
            except NotReady as error:
                if kind is None:
                    raise
                self._say(f"{error}. {error.advice}")

    def _await_all(self, ended: str = "") -> None:
        """Wait until each service has all its containers, which work. The one with the id ``ended`` does not, which the Swarm
        notices late.
        """
        waited_for: list[str] = []

        def are_complete() -> bool:
            waited_for[:] = [name for name, service in self._services().items() if not _is_complete(service, ended)]
            return not waited_for

        if not wait(REPLACED_S, are_complete):
            raise NotReady(
                f"{', '.join(waited_for)} did not become complete in {REPLACED_S:g} s",
                advice=f"docker stack ps {self._name}",
            )

    def _containers(self, stack: str, **filters: Any) -> list[Container]:
        is_all = filters.pop("all", False)
        label = f"{STACK_LABEL}={stack}"
        return self._docker.containers.list(all=is_all, filters={"label": label, **filters}, ignore_removed=True)

    def containers(self, service: str) -> list[Container]:
        """The containers that run on this machine."""
        name = f"{self._name}_{service}"
        found = [one for one in self._containers(self._name, status="running") if one.labels.get(NAME_LABEL) == name]
        return sorted(found, key=lambda container: container.name or "")

    def addresses(self, broker: Container) -> list[str]:
        """At a port that is published on this machine alone, or behind the gateway of the Swarm's networks."""
        broker.reload()
        published = broker.attrs["NetworkSettings"]["Ports"].get(f"{CLIENT_PORT}/tcp") or []
        found = [f"127.0.0.1:{port['HostPort']}" for port in published if port["HostIp"] in ("", "0.0.0.0")]
        with contextlib.suppress(NotFound):
            ends = self._docker.networks.get(GATEWAY).attrs["Containers"]
            if (end := ends.get(broker.id)) is not None:
                found.append(f"{end['IPv4Address'].partition('/')[0]}:{CLIENT_PORT}")
        return found

    # --- harm, and its end

    def common_networks(self, container: Container) -> Networks:
        """None: Docker refuses to disconnect the containers of a service."""
        return {}

    def networks_of(self, container: Container) -> Networks:
        """None, as above."""
        return {}

    def cut_off(self, container: Container, networks: Networks) -> None:
        """There are none."""

    def reconnect(self, container: Container, networks: Networks) -> None:
        """There are none."""

    def restore(self, ended: Container) -> None:
        """Wait until the Swarm has another one."""
        self._await_all(ended.id or "")


def _is_complete(service: Service, ended: str) -> bool:
    """Whether the service has as many tasks that run as it should, none of them in the container ``ended``."""
    mode = service.attrs["Spec"]["Mode"]
    tasks: list[dict[str, Any]] = service.tasks({"desired-state": "running"})  # type: ignore[no-untyped-call]
    states = [task["Status"] for task in tasks if task["Status"]["State"] == "running"]
    running = [state for state in states if state.get("ContainerStatus", {}).get("ContainerID") != ended]
    return len(running) == (mode["Replicated"]["Replicas"] if "Replicated" in mode else len(tasks))
