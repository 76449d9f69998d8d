"""The containers of one Compose project: found, hurt, and put back as they were found.

Docker is asked through its SDK. Only to read the Compose file, to start a project and to take it down is the command
``docker compose`` used, because only it knows how.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from cbw.errors import CbwError, NotReady, UsageError
from cbw.settings import CLIENT_PORT

try:
    import docker
    from docker.errors import APIError, DockerException, NotFound
    from docker.models.containers import Container
    from docker.models.volumes import Volume
except ImportError:  # the extra is not installed
    raise UsageError(
        "the Docker SDK is not installed", advice="In a checkout of cbw: pip install '.[docker]'"
    ) from None

BROKER, WORKER, LOGGER = "bro", "wor", "log"
"""Services of the lab's Compose files."""
LOG_FOLDER = "/tmp/cbwlog"
"""Where its file ``logs`` is if ``LOGGER_DIR`` does not say."""
WORKERS = 3
"""So many are needed: one to be hurt, one to take over, one more that must not idle."""
START_S = 120
"""For a project to be started, its images being there, and healthy."""
BUILD_S = 1200
"""The same when its images must be built."""
STOP_S = 15
"""For a container to end after SIGTERM: more than the grace time of the roles."""


Networks = dict[str, dict[str, Any]]
"""A container's networks by name, with its settings in each, as ``docker inspect`` shows them."""


class _Found(NamedTuple):
    """How a container was found."""

    name: str
    is_running: bool
    is_paused: bool
    networks: Networks


class Deployment:
    """A Compose project. Entered (``with``) it runs, with workers enough; left, it is as it was found.

    ``say`` is told what is done to it. Containers of other projects are never touched.

    Raises:
        UsageError: no such file, or not one that can be verified.
        NotReady: no Docker, or the deployment is not in a state to be verified.
    """

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
        self.services = [name for name in config["services"] if name in (BROKER, WORKER, LOGGER)]
        for service in (BROKER, WORKER):
            if service not in self.services:
                has = ", ".join(config["services"]) or "none"
                raise UsageError(
                    f"{files[0]} has no service {service}, only {has}",
                    advice=f"cbw verify needs a broker called {BROKER} and workers called {WORKER}.",
                )
        self._docker = _connect()
        self._found: dict[str, _Found] = {}
        self._found_volumes: list[str | None] = []
        self._ours: dict[str, None] = {}  # containers that were made here
        self._is_started_here = False

    # --- coming and going

    def __enter__(self) -> Deployment:
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
            self._say(f"nothing of project {self.project} runs: starting it, with {WORKERS} workers")
            self._is_started_here = True
            self._up(self.services)
        workers, brokers = self.containers(WORKER), self.containers(BROKER)
        if len(brokers) != 1:
            raise NotReady(
                f"{len(brokers)} brokers of project {self.project} run; one can be verified",
                advice=f"docker compose -p {self.project} up -d --scale {BROKER}=1",
            )
        if not workers:
            raise NotReady(
                f"no worker of project {self.project} runs",
                advice=self._last_words() or f"docker compose -p {self.project} up -d --scale {WORKER}={WORKERS}",
            )
        if len(workers) < WORKERS:
            self._say(f"only {len(workers)} of {WORKERS} workers run: starting more for the time being")
            self._up([WORKER], "--no-deps")

    def _up(self, services: Sequence[str], *options: str) -> None:
        """Start ``services``: all of their containers that are there, and more if that is too few."""
        before = {container.id for container in self._containers()}
        scales = [word for service in services for word in ("--scale", f"{service}={self._scale(service)}")]
        command = ["up", "--detach", "--wait", "--no-recreate", *options, *scales, *services]
        try:
            self._compose(*command, within_s=START_S + BUILD_S)
        except NotReady as error:
            words = self._last_words()
            raise NotReady(str(error), advice=words or f"docker compose -p {self.project} up") from None
        finally:
            self._ours |= {container.id or "": None for container in self._containers() if container.id not in before}

    def _scale(self, service: str) -> int:
        """Never fewer than there are: Docker Compose would remove the others. A paused worker is none for us."""
        containers = self._containers(service)
        paused = sum(container.status == "paused" for container in containers)
        return max(len(containers), self._scales[service], WORKERS + paused if service == WORKER else 1)

    def _last_words(self) -> str:
        """What those of the project that have failed printed last."""
        words = []
        for container in self._containers():
            if container.status in ("exited", "restarting") and container.attrs["State"]["ExitCode"] != 0:
                said = " ".join(container.logs(tail=3).decode(errors="replace").split())
                words += [f"{container.name}: {said}"] if said else []
        return "\n     ".join(words)

    def _restore(self) -> None:
        """Put everything back, and let no Ctrl-C disturb that; what cannot be put back does not keep the rest from it.

        Raises:
            NotReady: something could not be put back.
        """
        with _undisturbed():
            failed = self._put_all_back()
        if failed:
            raise NotReady(f"could not put back {'; '.join(failed)}", advice=f"docker compose -p {self.project} ps -a")

    def _put_all_back(self) -> list[str]:
        """What could not be put back, and why."""
        failed: list[str] = []
        for container in self._containers():
            try:
                self._put_back(container)
            except (DockerException, OSError) as error:
                failed.append(f"{container.name}: {_text_of(error)}")
        if self._is_started_here and not self._found:
            self._say(f"taking project {self.project} down again")
            try:
                self._compose("down", within_s=START_S)
                for volume in self._volumes():
                    if volume.id not in self._found_volumes:
                        volume.remove()
            except (CbwError, DockerException) as error:
                failed.append(_text_of(error))
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
            container.stop(timeout=STOP_S)

    def _restore_quietly(self) -> None:
        """Beside another error, which is the one to be shown."""
        try:
            self._restore()
        except CbwError as error:
            self._say(f"{error}. {error.advice}")

    # --- what is there

    def _containers(self, service: str = "") -> list[Container]:
        """All of the project, or of one service, running or not; one-off containers are nobody's business."""
        labels = [f"com.docker.compose.project={self.project}", "com.docker.compose.oneoff=False"]
        labels += [f"com.docker.compose.service={service}"] if service else []
        return self._docker.containers.list(all=True, filters={"label": labels})

    def _volumes(self) -> list[Volume]:
        return self._docker.volumes.list(filters={"label": f"com.docker.compose.project={self.project}"})

    def containers(self, service: str) -> list[Container]:
        """Those of ``service`` that run."""
        running = [container for container in self._containers(service) if container.status == "running"]
        return sorted(running, key=lambda container: container.name or "")

    def addresses(self) -> list[str]:
        """Where the broker's clients may reach it from here, best first.

        A published port comes first if its number is fixed: it stays when the broker's container is started again, while
        the container's own address may change.
        """
        (broker,) = self.containers(BROKER)
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

    def common_networks(self, container: Container) -> Networks:
        """The networks over which ``container`` can reach the broker."""
        (broker,) = self.containers(BROKER)
        container.reload()
        theirs = _networks(broker)
        ours = {name: settings for name, settings in _networks(container).items() if name in theirs}
        return {name: settings for name, settings in ours.items() if name not in ("host", "none")}

    def cut_off(self, container: Container, networks: Networks) -> None:
        """``docker network disconnect`` from ``networks``."""
        for settings in networks.values():
            self._docker.networks.get(settings["NetworkID"]).disconnect(container)

    def reconnect(self, container: Container, networks: Networks) -> None:
        """``docker network connect`` to them again, under the same names."""
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

    # --- the log

    def log_size(self, container: Container) -> int:
        """Bytes of the log file as the logger's container has it; 0 if there is none."""
        try:
            _, stat = container.get_archive(f"{_log_folder(container)}/logs")
        except NotFound:
            return 0
        return int(stat["size"]) if stat else 0

    def log_files(self, container: Container, since: float) -> Iterator[bytes]:
        """The contents of the log files that were written to after ``since``, seconds since 1970."""
        try:
            chunks, _ = container.get_archive(_log_folder(container))
        except NotFound:
            return
        with tarfile.open(fileobj=io.BufferedReader(_Stream(chunks)), mode="r|") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if (
                    member.isfile()
                    and name.startswith("logs")
                    and not name.endswith(".lock")
                    and member.mtime >= since - 1
                ):
                    file = archive.extractfile(member)
                    if file is not None:
                        yield _unpacked(file.read())

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
            config: dict[str, Any] = json.loads(self._compose("config", "--format", "json", within_s=START_S))
        except NotReady as error:
            raise UsageError(str(error)) from None
        return config

    def _compose(self, *arguments: str, within_s: float) -> str:
        """What ``docker compose`` prints. It has its own process group: a Ctrl-C is for us, and we put things back.

        Raises:
            NotReady: it failed, and how.
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


class _Stream(io.RawIOBase):
    """Chunks of bytes as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        part = self._rest[: len(buffer)]
        buffer[: len(part)] = part
        self._rest = self._rest[len(part) :]
        return len(part)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Without Ctrl-C and SIGTERM, which only the main thread could notice."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _connect() -> docker.DockerClient:
    """The engine that ``docker`` speaks to: ``DOCKER_HOST``, else that of the current context.

    Raises:
        NotReady: it is not there, does not answer, or does not let us in.
    """
    url = os.environ.get("DOCKER_HOST") or _context_host()
    try:
        return docker.DockerClient(base_url=url, version="auto", max_pool_size=64)
    except DockerException as error:
        text = str(error)
    if "PermissionError" in text or "Permission denied" in text:
        raise NotReady(
            f"{url}: permission denied",
            advice="Your user may not use Docker: sudo usermod -aG docker $USER, and log in again; or use sudo.",
        )
    if any(sign in text for sign in ("FileNotFoundError", "ConnectionRefused", "No such file", "refused")):
        raise NotReady(
            f"the Docker daemon is not running (nobody answers at {url})", advice="sudo systemctl start docker"
        )
    raise NotReady(f"the Docker daemon at {url} does not answer: {text}", advice="docker info")


def _context_host() -> str:
    command = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unix:///var/run/docker.sock"


def _scale_in(service: dict[str, Any]) -> int:
    """How many containers of it the Compose file wants."""
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
    """Where a port that is published on ``address`` can be reached from this host."""
    if address in ("", "0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{address}]" if ":" in address else address


def _log_folder(container: Container) -> str:
    variables = dict(entry.partition("=")[::2] for entry in container.attrs["Config"]["Env"] or [])
    return variables.get("LOGGER_DIR") or LOG_FOLDER


def _unpacked(content: bytes) -> bytes:
    if content.startswith(b"\x1f\x8b"):
        with contextlib.suppress(OSError, EOFError):
            return gzip.decompress(content)
    return content


def _text_of(error: Exception) -> str:
    """What Docker says, without the address that was asked."""
    return str(error.explanation) if isinstance(error, APIError) and error.explanation else str(error)
