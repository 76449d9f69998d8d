"""What containers print, read while they print it."""

from __future__ import annotations

import contextlib
import threading
from datetime import datetime
from typing import Any

from docker.errors import DockerException
from docker.models.containers import Container
from requests.exceptions import RequestException

from cbw.verify.evidence import Line

REATTACH_S = 0.1
"""Interval between two attempts to read from a container that is down: its first lines after a restart are wanted soon."""


class Printed:
    """Collects the lines of ``containers`` from the time ``since`` (seconds since 1970) on, through their restarts too."""

    def __init__(self, containers: list[Container], since: float) -> None:
        self._since = since
        self._lines: list[Line] = []
        self._is_over = threading.Event()
        self._streams: dict[str, Any] = {}
        self._threads: dict[str, threading.Thread] = {}  # by the container's id
        self.follow(containers)

    def follow(self, containers: list[Container]) -> None:
        """Collect the lines of these, too."""
        for container in containers:
            if (id := container.id or "") not in self._threads:
                self._threads[id] = threading.Thread(target=self._follow, args=(container,), daemon=True)
                self._threads[id].start()

    @property
    def lines(self) -> list[Line]:
        """All lines so far; those of one container are in order."""
        return list(self._lines)

    def last_of(self, container: Container) -> str:
        """The last line of ``container``, or nothing."""
        return next((line.text for line in reversed(self.lines) if line.container == container.id), "")

    def close(self) -> None:
        """Stop reading. Safe to call twice."""
        self._is_over.set()
        for stream in list(self._streams.values()):
            with contextlib.suppress(Exception):  # it may be closed, or about to be made
                stream.close()
        for thread in self._threads.values():
            thread.join(1.0)

    def _follow(self, container: Container) -> None:
        last = ""
        since = self._since
        while not self._is_over.is_set():
            with contextlib.suppress(DockerException, RequestException, OSError, ValueError):
                stream = container.logs(stream=True, follow=True, timestamps=True, since=since)
                self._streams[container.id or ""] = stream
                rest = b""
                for chunk in stream:
                    *whole, rest = (rest + chunk).split(b"\n")
                    for line in whole:
                        stamp, _, text = line.decode(errors="replace").partition(" ")
                        if stamp > last:  # after a restart the first line may be the last one of before, once more
                            last = stamp
                            at = datetime.fromisoformat(stamp).timestamp()
                            since = max(since, at - 1.0)
                            self._lines.append(Line(at, container.id or "", text.rstrip("\r")))
            self._is_over.wait(REATTACH_S)
