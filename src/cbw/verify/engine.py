"""The Docker engine, through its SDK: where it is, what its containers have recorded, and how they ended."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container

from cbw.errors import NotReady

LOG_FOLDER = "/tmp/cbwlog"
"""Folder of the logger's file ``logs`` in its container, unless ``LOGGER_DIR`` says another."""

FREEZE_AGAIN_S = 0.5
"""Before a container is to be frozen again that could not be."""


def connect() -> docker.DockerClient:
    """The engine that the command ``docker`` uses: ``DOCKER_HOST``, else that of the current context.

    Raises:
        NotReady: it does not run, does not answer, or refuses this user.
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


def freeze(container: Container) -> None:
    """``docker pause``, which a busy machine may need to be asked again: its kernel has not stopped all in time then.

    Raises:
        APIError: it cannot be frozen.
    """
    for is_last in (False, False, True):
        try:
            container.pause()
            return
        except APIError as error:
            if is_last or "unable to freeze" not in str(error):
                raise
            time.sleep(FREEZE_AGAIN_S)


def exit_codes(container: Container, since: float) -> list[int]:
    """The exit codes with which ``container`` has ended after ``since``, seconds since 1970."""
    wanted = {"container": container.id, "event": "die"}
    assert container.client is not None
    events = container.client.events(since=int(since), until=int(time.time()) + 1, filters=wanted, decode=True)
    return [int(event["Actor"]["Attributes"]["exitCode"]) for event in events]


def log_size(container: Container) -> int:
    """Size in bytes of the log file in the logger's container; 0 if there is none."""
    try:
        _, stat = container.get_archive(f"{_log_folder(container)}/logs")
    except NotFound:
        return 0
    return int(stat["size"]) if stat else 0


def log_files(container: Container, since: float) -> Iterator[bytes]:
    """The contents of the log files that were written to after ``since``, seconds since 1970."""
    try:
        chunks, _ = container.get_archive(_log_folder(container))
    except NotFound:
        return
    with tarfile.open(fileobj=io.BufferedReader(_Stream(chunks)), mode="r|") as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            if member.isfile() and name.startswith("logs") and not name.endswith(".lock") and member.mtime >= since - 1:
                file = archive.extractfile(member)
                if file is not None:
                    yield _unpacked(file.read())


class _Stream(io.RawIOBase):
    """A file that reads from an iterator of bytes."""

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
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM for a while. (Only the main thread gets them; in another there is nothing to do.)"""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _log_folder(container: Container) -> str:
    variables = dict(entry.partition("=")[::2] for entry in container.attrs["Config"]["Env"] or [])
    return variables.get("LOGGER_DIR") or LOG_FOLDER


def _unpacked(content: bytes) -> bytes:
    if content.startswith(b"\x1f\x8b"):
        with contextlib.suppress(OSError, EOFError):
            return gzip.decompress(content)
    return content


def explained(error: Exception) -> str:
    """The error as Docker explains it, without the address that was asked."""
    return str(error.explanation) if isinstance(error, APIError) and error.explanation else str(error)
