"""A real Docker engine for tests: images of this checkout, and everything that a test starts, labelled and removed."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.live.program import wait_until

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
LABEL = "cbw.test"
"""On everything that is made here; nothing without it is touched."""
OFFLINE_BASE = "cbw-offline-base:bookworm"
PATIENCE_S = 120
WORK_S = "0.2"
"""Of the demonstration worker, which takes a second otherwise."""
SELDOM = {"start_period": "120s", "start_interval": "1s", "interval": "60s"}
"""How often Docker asks whether a container is healthy: first while it starts, also on a busy machine, then when it is. Each time
costs a tenth of a second of a processor: containers that start side by side, asked twice a second as users' are, keep each
other from starting."""


def docker(*words: object, within_s: float = PATIENCE_S, **options: Any) -> subprocess.CompletedProcess[str]:
    """``docker WORDS`` to its end, whatever that is; standard error goes with standard output."""
    command = ["docker", *map(str, words)]
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=within_s, check=False, **options
    )


def must(*words: object, **options: Any) -> str:
    """``docker WORDS``, which must succeed; what it prints."""
    done = docker(*words, **options)
    assert done.returncode == 0, f"docker {' '.join(map(str, words))}: {done.stdout}"
    return done.stdout.strip()


def offline_base() -> Sequence[str]:
    """The build argument that takes the stand-in for the public base image, if it is here."""
    return ["--build-arg", f"BASE={OFFLINE_BASE}"] if docker("image", "inspect", OFFLINE_BASE).returncode == 0 else []


class Project:
    """A Compose project of a file in ``deploy/``, under a name of its own, with the images of this checkout."""

    def __init__(self, file: Path, override: Path, environment: Mapping[str, str]) -> None:
        self.file = file
        self.name = f"cbw-test-{secrets.token_hex(3)}"
        self._files = ["-f", str(file), "-f", str(override)]
        self._environment = {**os.environ, "COMPOSE_ANSI": "never", **environment}

    def add_file(self, file: Path) -> None:
        """Use one more Compose file, which adds to the services."""
        self._files += ["-f", str(file)]

    def verify(self, *words: object, within_s: float) -> subprocess.CompletedProcess[str]:
        """``cbw verify --compose`` of the project with ``WORDS``, whatever its end."""
        files = [word if number % 2 else "--compose" for number, word in enumerate(self._files)]
        command = [sys.executable, "-m", "cbw", "verify", "--project", self.name, *files, *map(str, words)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=within_s, env=self._environment, check=False
        )

    def compose(self, *words: object, within_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        """``docker compose WORDS``, whatever its end."""
        return docker("compose", "-p", self.name, *self._files, *words, within_s=within_s, env=self._environment)

    def must(self, *words: object, within_s: float = PATIENCE_S) -> str:
        """``docker compose WORDS``, which must succeed."""
        done = self.compose(*words, within_s=within_s)
        assert done.returncode == 0, f"docker compose {' '.join(map(str, words))}: {done.stdout}"
        return done.stdout.strip()

    def ids(self, service: str | None = None) -> list[str]:
        """Of the containers, running or not. Compose, asked for them, takes seven times as much of the processor."""
        labels = [f"project={self.name}", "oneoff=False", *([f"service={service}"] if service else [])]
        filters = [word for label in labels for word in ("--filter", f"label=com.docker.compose.{label}")]
        return must("ps", "--all", "--quiet", *filters).split()

    def containers(self, service: str | None = None) -> list[dict[str, Any]]:
        """What ``docker inspect`` says of the containers, running or not."""
        ids = self.ids(service)
        found: list[dict[str, Any]] = json.loads(must("inspect", *ids)) if ids else []
        return found

    def logs(self, service: str) -> list[str]:
        """The lines that the containers of ``service`` have printed, one container after the other."""
        return [line for one in self.ids(service) for line in must("logs", one).splitlines()]

    def down(self) -> None:
        """Remove everything of it, and wait for nobody who does not stop at once. If Compose fails, it is tried again."""
        wait_until(lambda: self.compose("down", "--volumes", "--timeout", 0).returncode == 0, f"{self.name} is removed")


def address_of(container: Mapping[str, Any]) -> str:
    """The container's address in its network."""
    networks = container["NetworkSettings"]["Networks"].values()
    return next(str(network["IPAddress"]) for network in networks if network["IPAddress"])


def service_override(services: Mapping[str, str], work_s: str = WORK_S) -> str:
    """A Compose file that gives services other images, a label, and workers less to do: the same deployment, of this checkout."""
    return json.dumps(
        {
            "services": {
                name: {
                    "image": image,
                    "pull_policy": "never",
                    "labels": {LABEL: "1"},
                    "healthcheck": SELDOM,
                    **({"environment": {"CBW_WORKER_WORK_TIME_S": work_s}} if name == "wor" else {}),
                }
                for name, image in services.items()
            }
        }
    )


def answers_in(lines: Sequence[str]) -> list[tuple[str, str, str]]:
    """``(request, its answer, who answered)`` of the demonstration client's lines."""
    plain = (re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line) for line in lines)
    found = (re.fullmatch(r"(\S+) -> (\S+) (\S+)  \(\d+\.\d+ s\)", line) for line in plain)
    return [(match[1], match[2], match[3]) for match in found if match]
