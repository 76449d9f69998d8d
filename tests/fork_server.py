"""Starts ``cbw`` quickly: by the fork of a process that has imported it.

Python needs a quarter of a second of processor time to start and to import cbw; a fork needs a fiftieth of that, and the tests
start cbw more than a thousand times. What is started is as ``python -m cbw`` has it: a process of its own, with streams, a
folder, an environment and signals of its own. Only what the kernel shows of the start (its command line and its first
environment) is that of the fork server.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

ORDER_BYTES_MAX = 1 << 17
"""Of one order to start a program: its arguments and its environment."""


class Started:
    """A process that the fork server has started, in the manner of :class:`subprocess.Popen`."""

    def __init__(self, status: int) -> None:
        self._status = os.fdopen(status)  # a line with its pid, and one with its exit code when it has ended
        line = self._status.readline()
        assert line, "the fork server has ended"
        self.pid = int(line)
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code (negative: the signal that ended it); None while it runs."""
        return self._code_within(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, when it has ended.

        Raises:
            subprocess.TimeoutExpired: it runs on.
        """
        code = self._code_within(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("cbw", timeout or 0.0)
        return code

    def _code_within(self, timeout: float | None) -> int | None:
        if self._code is None and select.select([self._status], [], [], timeout)[0]:
            self._code = int(self._status.readline())
            self._status.close()
        return self._code

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it has not ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


@functools.cache
def _server() -> socket.socket:
    """Where this process's fork server takes orders; it ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        server = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.PIPE,  # so that Python makes its streams for pipes, as others will take their place
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )

    def end() -> None:
        ours.shutdown(socket.SHUT_RDWR)
        ours.close()
        server.communicate()

    atexit.register(end)
    return ours


def start(arguments: Sequence[str], streams: Sequence[int], folder: Path, environment: Mapping[str, str]) -> Started:
    """``python -m cbw ARGUMENTS`` in ``folder``, with descriptors for its three ``streams``."""
    order = json.dumps([list(arguments), str(folder), dict(environment)]).encode()
    assert len(order) <= ORDER_BYTES_MAX, "too much for one order"
    status, theirs = os.pipe()
    try:
        socket.send_fds(_server(), [order], [*streams, theirs])
    finally:
        os.close(theirs)
    return Started(status)


# --- in the fork server


def import_all() -> None:
    """Everything that a role may import, but for what needs libraries that are not here."""
    cbw = importlib.import_module("cbw")
    for module in pkgutil.walk_packages(cbw.__path__, "cbw."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)


def next_order(server: socket.socket) -> tuple[bytes, list[int]]:
    """Serve. Returns in a new process, which is to be what was ordered, with the order and the descriptors of its streams."""
    while True:
        order, descriptors, _, _ = socket.recv_fds(server, ORDER_BYTES_MAX, 4)
        if not order:
            sys.exit()
        if os.fork() == 0:
            server.close()
            *streams, status = descriptors
            if (pid := os.fork()) == 0:
                os.close(status)
                return order, streams
            keep(pid, status, streams)
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def keep(pid: int, status: int, streams: list[int]) -> None:
    """Tell the pid of a child and how it ends, and end."""
    for stream in streams:
        os.close(stream)
    with contextlib.suppress(BrokenPipeError):  # the test has ended before
        os.write(status, b"%d\n" % pid)
        os.write(status, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)


def become(order: bytes, streams: list[int]) -> None:
    """Be as a process that was just started with ``python -m cbw``."""
    arguments, folder, environment = json.loads(order)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:1] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv[1:] = arguments


def end(code: object) -> None:
    """End as Python does, but for destroying what was inherited: to write to all of it would copy it, which takes five times as
    long as all the rest of a short command. Returns if there is more to do than that: a text to print, an output that is closed.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        if code is None or isinstance(code, int):
            os._exit(code or 0)


if __name__ == "__main__":
    import_all()
    gc.freeze()  # or each would look through what it has inherited, and so copy it
    become(*next_order(socket.socket(fileno=int(sys.argv[1]))))
    try:
        runpy.run_module("cbw", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        end(ended.code)
        raise
