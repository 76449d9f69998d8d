"""The containers of one Compose project: found, hurt, and put back as they were found.

Docker is asked through its SDK. Only to read the Compose file, to start a project and to take it down is the command
``docker compose`` used, because only it knows how.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from docker.errors import DockerException
from docker.models.containers import Container
from docker.models.volumes import Volume

from cbw.errors import CbwError, NotReady, UsageError
from cbw.settings import CLIENT_PORT
from cbw.verify.deployment import (
    BROKER_SERVICE,
    CONTAINER_STOP_S,
    LOGGER_SERVICE,
    WORKER_SERVICE,
    WORKERS_MIN,
    Networks,
)
from cbw.verify.engine import connect, explained, undisturbed

UP_S = 120
"""Time for a project whose images exist to be started and healthy."""
BUILD_S = 1200
"""Additional time for the images of a project to be built."""


class _Found(NamedTuple):
    """The state in which a container was found."""

    name: str
    is_running: bool
    is_paused: bool
    networks: Networks


class ComposeProject:
    """A Compose project. Inside the ``with`` block it runs, with enough workers; afterwards it is as it was found.

    ``say`` is called with what is done to the project. Containers of other projects are never touched.

    Raises:
        UsageError: no such file, or not one that can be verified.
        NotReady: no Docker, or the deployment is not in a state to be verified.
    """

    replaces_containers = False

    def __init__(self, files: Sequence[str], project: str | None, say: Callable[[str], None]) -> None:
        for file in files:
            if not Path(file).is_file():
                kind = "is a folder" if Path(file).is_dir() else "is not there"
                raise UsageError(f"the Compose file {file} {kind}", advice="cbw verify --compose docker-compose.yml")
        self._command = ["docker", "compose", *(word for file in files for word in ("-f", file))]
        self._say = say
        self._check_compose()
        if project:
            self._command += ["-p", project]
        config = self._config()
        self.project = str(config["name"])
        self._scales = {name: _scale_in(settings) for name, settings in config["services"].items()}
        self.services = [
            name for name in config["services"] if name in (BROKER_SERVICE, WORKER_SERVICE, LOGGER_SERVICE)
        ]
        for service in (BROKER_SERVICE, WORKER_SERVICE):
            if service not in self.services:
                has = ", ".join(config["services"]) or "none"
                raise UsageError(
                    f"{files[0]} has no service {service}, only {has}",
                    advice=f"cbw verify needs a broker called {BROKER_SERVICE} and workers called {WORKER_SERVICE}.",
                )
        self._docker = connect()
        self._found: dict[str, _Found] = {}
        self._found_volumes: list[str | None] = []
        self._ours: dict[str, None] = {}  # ids of containers that were made here
        self._is_started_here = False

    # --- coming and going

    def __enter__(self) -> ComposeProject:
        self._found = {container.id or "": _found(container) for container in self._containers()}
        self._found_volumes = [volume.id for volume in self._volumes()]
        try:
            self._bring_up()
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with contextlib.closing(self._docker):
            if kind is None:
                self._restore()
            else:
                self._restore_quietly()

    def _bring_up(self) -> None:
        is_running = any(found.is_running for found in self._found.values())
        if not is_running:
            self._say(f"nothing of project {self.project} runs: starting it, with {WORKERS_MIN} workers")
            self._is_started_here = True
            self._up(self.services)
        workers, brokers = self.containers(WORKER_SERVICE), self.containers(BROKER_SERVICE)
        if not brokers:
            raise NotReady(
                f"no broker of project {self.project} runs",
                advice=f"docker compose -p {self.project} up -d --scale {BROKER_SERVICE}=1",
            )
        if not workers:
            raise NotReady(
                f"no worker of project {self.project} runs",
                advice=self._last_words()
                or f"docker compose -p {self.project} up -d --scale {WORKER_SERVICE}={WORKERS_MIN}",
            )
        if len(workers) < WORKERS_MIN:
            self._say(
                f"only {len(workers)} of {WORKERS_MIN} workers run: starting more for the time of the verification"
            )
            self._up([WORKER_SERVICE], "--no-deps")

    def _up(self, services: Sequence[str], *options: str) -> None:
        """Start ``services``: their existing containers, and more if those are too few."""
        before = {container.id for container in self._containers()}
        scales = [word for service in services for word in ("--scale", f"{service}={self._scale(service)}")]
        command = ["up", "--detach", "--wait", "--no-recreate", *options, *scales, *services]
        try:
            self._compose(*command, within_s=UP_S + BUILD_S)
        except NotReady as error:
            words = self._last_words()
            raise NotReady(str(error), advice=words or f"docker compose -p {self.project} up") from None
        finally:
            self._ours |= {container.id or "": None for container in self._containers() if container.id not in before}

    def _scale(self, service: str) -> int:
        """Containers that ``service`` is to have: at least those that exist, as Docker Compose would remove the others.

        A paused worker does not count as one of the workers that are needed.
        """
        containers = self._containers(service)
        paused = sum(container.status == "paused" for container in containers)
        return max(len(containers), self._scales[service], WORKERS_MIN + paused if service == WORKER_SERVICE else 1)

    def _last_words(self) -> str:
        """What the failed containers of the project printed last."""
        words = []
        for container in self._containers():
            if container.status in ("exited", "restarting") and container.attrs["State"]["ExitCode"] != 0:
                said = " ".join(container.logs(tail=3).decode(errors="replace").split())
                words += [f"{container.name}: {said}"] if said else []
        return "\n     ".join(words)

    def _restore(self) -> None:
        """Put everything back, undisturbed by Ctrl-C; a container that cannot be put back does not hinder the others.

        Raises:
            NotReady: something could not be put back.
        """
        with undisturbed():
            failed = self._put_all_back()
        if failed:
            raise NotReady(f"could not put back {'; '.join(failed)}", advice=f"docker compose -p {self.project} ps -a")

    def _put_all_back(self) -> list[str]:
        """Put everything back; returns what could not be put back, and why."""
        failed: list[str] = []
        for container in self._containers():
            try:
                self._put_back(container)
            except (DockerException, OSError) as error:
                failed.append(f"{container.name}: {explained(error)}")
        if self._is_started_here and not self._found:
            self._say(f"taking project {self.project} down again")
            try:
                self._compose("down", within_s=UP_S)
                for volume in self._volumes():
                    if volume.id not in self._found_volumes:
                        volume.remove()
            except (CbwError, DockerException) as error:
                failed.append(explained(error))
        return failed

    def _put_back(self, container: Container) -> None:
        found = self._found.get(container.id or "")
        if found is None:
            if container.id in self._ours:
                container.remove(force=True, v=True)
            return
        if container.status == "paused" and not found.is_paused:
            container.unpause()
        for name, settings in found.networks.items():
            if name not in _networks(container):
                self._join(container, settings)
        container.reload()
        # A client may have ended by itself.
        is_hurt = container.labels.get("com.docker.compose.service") in self.services
        if is_hurt and found.is_running and container.status != "running":
            container.start()
        elif (is_hurt or self._is_started_here) and not found.is_running and container.status == "running":
            container.stop(timeout=CONTAINER_STOP_S)

    def _restore_quietly(self) -> None:
        """Put everything back while another error is on its way, which is the one that the user must see."""
        try:
            self._restore()
        except CbwError as error:
            self._say(f"{error}. {error.advice}")

    # --- what the project consists of

    def _containers(self, service: str = "") -> list[Container]:
        """All containers of the project, or of one service, running or not, without those of ``docker compose run``."""
        labels = [f"com.docker.compose.project={self.project}", "com.docker.compose.oneoff=False"]
        labels += [f"com.docker.compose.service={service}"] if service else []
        return self._docker.containers.list(all=True, filters={"label": labels})

    def _volumes(self) -> list[Volume]:
        return self._docker.volumes.list(filters={"label": f"com.docker.compose.project={self.project}"})

    def containers(self, service: str) -> list[Container]:
        """The running containers of ``service``."""
        running = [container for container in self._containers(service) if container.status == "running"]
        return sorted(running, key=lambda container: container.name or "")

    def addresses(self, broker: Container) -> list[str]:
        """Addresses at which clients on this host may reach ``broker``, best first.

        A published port comes first if its number is fixed: it stays when the broker's container is started again, while
        the container's own address may change.
        """
        broker.reload()
        key = f"{CLIENT_PORT}/tcp"
        fixed = any(port.get("HostPort") not in ("", "0") for port in self._bindings(broker, key))
        published = [
            f"{_host_of(port['HostIp'])}:{port['HostPort']}"
            for port in (broker.attrs["NetworkSettings"]["Ports"].get(key) or [])
        ]
        own = [
            f"{network['IPAddress']}:{CLIENT_PORT}" for network in _networks(broker).values() if network["IPAddress"]
        ]
        if broker.attrs["HostConfig"]["NetworkMode"] == "host":
            own = [f"127.0.0.1:{CLIENT_PORT}"]
        return list(dict.fromkeys(published + own if fixed else own + published))

    @staticmethod
    def _bindings(container: Container, key: str) -> list[dict[str, str]]:
        return (container.attrs["HostConfig"].get("PortBindings") or {}).get(key) or []

    # --- harm, and its end

    def restore(self, ended: Container) -> None:
        """Start it again."""
        ended.start()

    def common_networks(self, container: Container) -> Networks:
        """The networks over which ``container`` can reach brokers."""
        theirs = {name for broker in self.containers(BROKER_SERVICE) for name in _networks(broker)}
        return {name: settings for name, settings in self.networks_of(container).items() if name in theirs}

    def networks_of(self, container: Container) -> Networks:
        """The networks from which ``container`` can be cut off."""
        container.reload()
        return {name: found for name, found in _networks(container).items() if name not in ("host", "none")}

    def cut_off(self, container: Container, networks: Networks) -> None:
        """``docker network disconnect`` from ``networks``."""
        for settings in networks.values():
            self._docker.networks.get(settings["NetworkID"]).disconnect(container)

    def reconnect(self, container: Container, networks: Networks) -> None:
        """``docker network connect`` to ``networks`` again, under the same names."""
        for settings in networks.values():
            self._join(container, settings)

    def _join(self, container: Container, settings: dict[str, Any]) -> None:
        short_id = (container.id or "")[:12]
        fixed = settings.get("IPAMConfig") or {}
        self._docker.networks.get(settings["NetworkID"]).connect(
            container,
            aliases=[alias for alias in settings.get("Aliases") or [] if alias != short_id],
            ipv4_address=fixed.get("IPv4Address"),
            ipv6_address=fixed.get("IPv6Address"),
        )

    # --- docker compose

    def _check_compose(self) -> None:
        if shutil.which("docker") is None:
            raise NotReady("Docker is not installed", advice="https://docs.docker.com/engine/install/")
        done = subprocess.run(["docker", "compose", "version", "--short"], capture_output=True, text=True, check=False)
        version = done.stdout.strip().removeprefix("v")
        if done.returncode != 0 or version.startswith("1."):
            what = f"version {version}" if version else "none"
            raise NotReady(
                f"Docker Compose 2 is needed as `docker compose`; there is {what}",
                advice="Install the plugin docker-compose-plugin; `docker-compose` with a hyphen is the old one.",
            )

    def _config(self) -> dict[str, Any]:
        try:
            config: dict[str, Any] = json.loads(self._compose("config", "--format", "json", within_s=UP_S))
        except NotReady as error:
            raise UsageError(str(error)) from None
        return config

    def _compose(self, *arguments: str, within_s: float) -> str:
        """Run ``docker compose`` and return what it prints, in a process group of its own: Ctrl-C must not end it.

        Raises:
            NotReady: it failed; the text says how.
        """
        try:
            done = subprocess.run(
                [*self._command, *arguments],
                capture_output=True,
                text=True,
                timeout=within_s,
                check=False,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise NotReady(f"docker compose {arguments[0]} was not done in {within_s:g} s") from None
        if done.returncode != 0:
            said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            raise NotReady(f"docker compose {arguments[0]}: {said[-1] if said else f'exit code {done.returncode}'}")
        return done.stdout


def _scale_in(service: dict[str, Any]) -> int:
    """The number of containers that the Compose file wants for a service."""
    return int(service.get("scale") or (service.get("deploy") or {}).get("replicas") or 1)


def _found(container: Container) -> _Found:
    container.reload()
    is_paused = container.status == "paused"
    is_running = is_paused or container.status in ("running", "restarting")
    return _Found(container.name or "", is_running, is_paused, _networks(container))


def _networks(container: Container) -> Networks:
    networks: Networks = container.attrs["NetworkSettings"]["Networks"]
    return networks


def _host_of(address: str) -> str:
    """The host at which a port that is published on ``address`` can be reached from here.

    Docker may choose different ports for IPv4 and IPv6, and one container's for IPv6 may be another one's for IPv4.
    """
    if address in ("", "0.0.0.0"):
        return "127.0.0.1"
    if address == "::":
        return "[::1]"
    return f"[{address}]" if ":" in address else address
