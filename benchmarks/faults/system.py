"""What the runner has to know of a system: which processes it is made of, and what it needs. Nothing here imports a library."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
LEASE_S = 30
"""For how long a peer waits for a worker that says nothing, or a client for its answer, where the peer has such a time at all.

It is the default of NATS JetStream (``ack_wait``) and the example of Celery's documentation (``visibility_timeout``, whose
default is an hour). A lease has to be longer than the longest request and everything that a worker has prefetched before it.
"""
QUEUE = "cbw-faults"
PORTS = "CBW_FAULTS_PORTS"
"""The environment variable with the ports of a system's servers, with commas between them."""


class Command(NamedTuple):
    """A program to start. It is ready as soon as ``port`` is open, if it has one."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = {}
    port: int | None = None


class ComparedSystem(NamedTuple):
    """One system. ``servers(python, folder, ports)`` are its servers, of which the last one is the broker that is killed.

    ``ports``: how many it needs. ``programs`` are commands that must be installed, with their Debian packages. ``libraries``
    are distributions that the Python of the peers must have; a system without any runs in the Python of the runner.
    ``settings``: what makes it reliable, for the report. ``child``: what handles requests in a process of its own, which can
    be killed alone; empty: nothing does. ``late_s``: for how long after the kill it may still run something again.
    """

    name: str
    module: str
    ports: int
    servers: Callable[[str, Path, Sequence[int]], Sequence[Command]]
    worker: Callable[[str, str, Sequence[int]], Command]
    """``worker(python, name, ports)``."""
    settings: str
    programs: Mapping[str, str] = {}
    libraries: Sequence[str] = ()
    child: str = ""
    late_s: float = 5.0

    @property
    def key(self) -> str:
        """Its name on the command line: ``celery`` for ``benchmarks.faults.celery_redis``."""
        return self.module.rpartition(".")[2].partition("_")[0]

    def client(self, python: str, count: int) -> Command:
        """The client that asks ``count`` requests."""
        return Command([python, "-m", self.module, "client", str(count)])


def program(module: str, python: str, *arguments: str) -> Command:
    """One of the programs of this package."""
    return Command([python, "-m", module, *arguments])


def missing(system: ComparedSystem, python: str) -> list[str]:
    """What has to be installed before ``system`` can run, for people."""
    debian = [f"the Debian package {package}" for name, package in system.programs.items() if not _is_program(name)]
    if not system.libraries:
        return debian
    wanted = f"{', '.join(system.libraries)} of benchmarks/faults/requirements.txt (`make build/peers/.ready`)"
    return debian if versions(system, python) else [*debian, wanted]


def _is_program(name: str) -> bool:
    return shutil.which(name) is not None or Path(name).is_file()


def versions(system: ComparedSystem, python: str) -> list[str]:
    """The libraries of a system with their versions; empty: not all of them are there."""
    code = "import sys, importlib.metadata as m\nfor name in sys.argv[1:]: print(name, m.version(name))"
    if not system.libraries or not _is_program(python):
        return []
    found = subprocess.run([python, "-c", code, *system.libraries], capture_output=True, text=True, check=False)
    return found.stdout.splitlines() if found.returncode == 0 else []


def ports_of(text: str) -> list[int]:
    """The ports in the environment variable :data:`PORTS`."""
    return [int(port) for port in text.split(",")]
