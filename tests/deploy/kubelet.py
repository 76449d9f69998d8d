"""Runs the pods of rendered manifests as containers of a Docker engine, as a node of Kubernetes would: with their user, files,
variables, memory, probes, and the signal and the time they get to end. There are no policies here, and a Service is a name in
Docker's DNS.
"""

from __future__ import annotations

import base64
import io
import secrets
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .chart import Manifest, one, pod_of
from .engine import LABEL, PATIENCE_S, docker, must
from .test_memory import inspect

OWNER = 10001
"""Of volumes: the pods' fsGroup."""
Files = Mapping[str, bytes]


class Pod:
    """A running pod with its only container."""

    def __init__(self, name: str, spec: Manifest) -> None:
        self.name = name
        self._spec = spec
        (self._container,) = spec["containers"]

    @property
    def address(self) -> str:
        """In the network of the pods."""
        networks = inspect(self.name)["NetworkSettings"]["Networks"].values()
        return next(str(network["IPAddress"]) for network in networks)

    def passes(self, probe: str) -> bool:
        """Whether its ``livenessProbe`` or ``readinessProbe`` succeeds now."""
        asked = self._container[probe]
        if "exec" in asked:
            return docker("exec", self.name, *asked["exec"]["command"]).returncode == 0
        port = next(it["containerPort"] for it in self._container["ports"] if it["name"] == asked["httpGet"]["port"])
        try:
            page = f"http://{self.address}:{port}{asked['httpGet']['path']}"
            with urllib.request.urlopen(page, timeout=asked["timeoutSeconds"]) as answer:
                return 200 <= int(answer.status) < 400
        except OSError:
            return False

    def says(self) -> str:
        """What its broker says of itself."""
        return docker("exec", self.name, "cbw-ready").stdout.strip()

    def logs(self) -> str:
        return must("logs", self.name)

    def kill(self) -> None:
        """What a lack of memory does."""
        must("kill", self.name)

    def restart(self) -> None:
        """What a kubelet does with a container that has ended: the same volumes, the same name."""
        must("start", self.name)

    def wait(self, within_s: float = PATIENCE_S) -> int:
        """Its exit code, when it ends by itself."""
        return int(must("wait", self.name, within_s=within_s))

    def stop(self) -> tuple[int, float]:
        """SIGTERM, and SIGKILL at the end of its grace time; its exit code, and the seconds that it took."""
        began = time.monotonic()
        grace_s = self._spec["terminationGracePeriodSeconds"]
        must("stop", "--time", grace_s, self.name, within_s=grace_s + PATIENCE_S)
        return int(inspect(self.name)["State"]["ExitCode"]), time.monotonic() - began


class Node:
    """Starts pods of ``manifests`` in a network of its own. ``secrets`` are the files of each Secret, ``image`` runs all pods."""

    def __init__(self, manifests: list[Manifest], files: Mapping[str, Files], image: str) -> None:
        self.network = f"cbw-test-{secrets.token_hex(3)}"
        self._manifests = manifests
        self._files = files
        self._image = image
        self._made: list[str] = []
        must("network", "create", "--label", f"{LABEL}=1", self.network)

    def start(self, kind: str, name: str, number: int = 0, *options: object) -> Pod:
        """The pod ``number`` of a StatefulSet or Deployment, or the Pod of that name, with more ``options`` of docker run."""
        maker = one(self._manifests, kind, name)
        pod = pod_of(maker)
        spec = pod["spec"]
        (container,) = spec["containers"]
        hostname = name if kind == "Pod" else f"{name}-{number}"
        title = f"{self.network}-{hostname}"
        self._made.append(title)
        must("run", "--detach", "--name", title, "--hostname", hostname, "--label", f"{LABEL}=1", "--network", self.network,
             "--no-healthcheck",  # Kubernetes knows none but the probes
             *self._aliases(pod), *_security(spec, container), *_environment(container),
             *self._mounts(title, maker, spec, container), *options, self._image, *container["args"])  # fmt: skip
        return Pod(title, spec)

    def start_server(self, name: str, image: str, configuration: str, folder: Path) -> None:
        """A NATS server of this name, which is no pod of ours."""
        file = folder / f"{name}.conf"
        file.write_text(configuration)
        self._made.append(f"{self.network}-{name}")
        must("run", "--detach", "--name", self._made[-1], "--label", f"{LABEL}=1", "--network", self.network,
             "--network-alias", name, "--volume", f"{file}:/etc/nats.conf:ro", image, "-c", "/etc/nats.conf")  # fmt: skip

    def exchange(self, pod: Pod, volume: str, files: Files) -> None:
        """Put ``files`` into a mounted Secret, as a kubelet does some time after the Secret was changed."""
        self._fill(f"{pod.name}-{volume}", _secret(files, "..second"))

    def close(self) -> None:
        """Remove everything of it."""
        for name in self._made:
            docker("rm", "--force", "--volumes", name)
            for volume in must("volume", "ls", "--quiet", "--filter", f"name={name}-").split():
                docker("volume", "rm", volume)
        docker("network", "rm", self.network)

    def _aliases(self, pod: Manifest) -> Sequence[str]:
        """The names of the Services that lead to it."""
        labels = pod["metadata"]["labels"].items()
        found = [it for it in self._manifests if it["kind"] == "Service" and it["spec"]["selector"].items() <= labels]
        return [word for it in found for word in ("--network-alias", it["metadata"]["name"])]

    def _mounts(self, title: str, maker: Manifest, spec: Manifest, container: Manifest) -> Sequence[str]:
        claimed = {claim["metadata"]["name"] for claim in maker["spec"].get("volumeClaimTemplates", ())}
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        options: list[str] = []
        for mount in container["volumeMounts"]:
            name, path = mount["name"], mount["mountPath"]
            if name not in claimed and "emptyDir" in volumes[name]:
                options += ["--tmpfs", f"{path}:rw,exec,mode=2777,gid={OWNER}"]
                continue
            volume = f"{title}-{name}"
            archive = _empty() if name in claimed else _secret(self._secret_files(volumes[name]))
            self._fill(volume, archive)
            options += ["--volume", f"{volume}:{path}{':ro' if mount.get('readOnly') else ''}"]
        return options

    def _secret_files(self, volume: Manifest) -> Files:
        if "secret" in volume:
            return self._files[volume["secret"]["secretName"]]
        return {
            item["path"]: self._files[source["secret"]["name"]][item["key"]]
            for source in volume["projected"]["sources"]
            for item in source["secret"]["items"]
        }

    def _fill(self, volume: str, archive: bytes) -> None:
        must("volume", "create", "--label", f"{LABEL}=1", volume)  # if it is not there yet
        unpack = ["docker", "run", "--rm", "--interactive", "--user", "0", "--entrypoint", "tar", "-v", f"{volume}:/v"]
        subprocess.run([*unpack, self._image, "-xpC", "/v"], input=archive, check=True, timeout=PATIENCE_S)


def secrets_of(text: str) -> dict[str, Files]:
    """The files of Secrets that are written as YAML."""
    return {
        it["metadata"]["name"]: {name: base64.b64decode(data) for name, data in it["data"].items()}
        for it in yaml.safe_load_all(text)
        if it
    }


def _security(spec: Manifest, container: Manifest) -> Sequence[object]:
    """Users, rights and memory."""
    user, rights = spec["securityContext"], container["securityContext"]
    options: list[object] = ["--user", f"{user['runAsUser']}:{user['runAsGroup']}", "--group-add", user["fsGroup"]]
    if rights["readOnlyRootFilesystem"]:
        options.append("--read-only")
    if not rights["allowPrivilegeEscalation"]:
        options += ["--security-opt", "no-new-privileges"]
    for capability in rights["capabilities"]["drop"]:
        options += ["--cap-drop", capability]
    memory = container["resources"]["limits"]["memory"].removesuffix("i").lower()
    return [*options, "--memory", memory, "--memory-swap", memory]


def _environment(container: Manifest) -> Sequence[str]:
    return [word for it in container.get("env", ()) for word in ("--env", f"{it['name']}={it['value']}")]


def _archive(write: Callable[[Callable[..., None]], None]) -> bytes:
    """A tar archive whose root belongs to the pods' group; ``write`` is given a function that adds a member."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:

        def add(name: str, mode: int, content: bytes = b"", **fields: Any) -> None:
            member = tarfile.TarInfo(name)
            member.mode, member.gid, member.size = mode, OWNER, len(content)
            for field, value in fields.items():
                setattr(member, field, value)
            archive.addfile(member, io.BytesIO(content))

        write(add)
    return buffer.getvalue()


def _empty() -> bytes:
    """A new volume, as it is on a disk of its own."""

    def write(add: Callable[..., None]) -> None:
        add(".", 0o2775, type=tarfile.DIRTYPE)
        add("lost+found", 0o700, type=tarfile.DIRTYPE)

    return _archive(write)


def _secret(files: Files, folder: str = "..first") -> bytes:
    """A volume as a kubelet makes it of a Secret: links to files in a folder that can be exchanged, which the group may read."""

    def write(add: Callable[..., None]) -> None:
        add(".", 0o3777, type=tarfile.DIRTYPE)
        add(folder, 0o2755, type=tarfile.DIRTYPE)
        for name, content in files.items():
            add(f"{folder}/{name}", 0o440, content)
        add("..data", 0o777, type=tarfile.SYMTYPE, linkname=folder)
        for name in files:
            add(name, 0o777, type=tarfile.SYMTYPE, linkname=f"..data/{name}")

    return _archive(write)
