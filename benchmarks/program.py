"""Programs of others that ours are compared with: started on a free port, and ended."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence

HOST = "127.0.0.1"


def free_port() -> int:
    """A port of this machine that nobody uses at the moment."""
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextlib.contextmanager
def running(command: Sequence[str], port: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``command`` without its output as long as the context lasts; with a ``port`` it begins when that is open."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while port is not None and not _is_open(port):
            if process.poll() is not None:
                raise SystemExit(f"{command[0]} ended with {process.returncode}")
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
