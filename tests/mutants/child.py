"""Judges a mutant in a forked process: it alone is changed, and what it does to itself ends with it."""

from __future__ import annotations

import gc
import os
import pickle
import resource
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

CPU_S = 120
"""Processor time of a mutant: several times what all tests take. One that needs more runs in a circle."""
RECORD_CPU_S = 1200
"""Processor time of recording what all tests call, which takes much longer than the tests themselves."""
WALL_S = 900
"""Time of a mutant that waits for something which does not come."""
NEVER_WAITS_S = 24 * 3600
"""Time for a judge that waits for nothing: only processor time tells then, however busy the machine is."""
MEMORY_BYTES = 4 << 30
"""Address space of a mutant that grows without end."""


UNCALLED = ("no test calls it", "no seed calls it")
"""Notes of survivors that nothing could notice."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant. ``killer`` is the test or the seed that noticed it; None: it survived.

    ``note`` is what else there is to say about a survivor.
    """

    killer: str | None
    note: str = ""


def judged_in_child(judge: Callable[[], Verdict], cpu_s: int = CPU_S, wall_s: int = WALL_S) -> Verdict:
    """What ``judge`` finds in a process of its own, with so much processor time, and in so much time. One that dies, or never
    ends, was killed by that.
    """
    reader, writer = os.pipe()
    gc.freeze()  # or the child would copy all that it looks at
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _judge_and_exit(judge, writer, cpu_s)
    os.close(writer)
    data = _read_all(reader, pid, wall_s)
    _, status = os.waitpid(pid, 0)
    os.close(reader)
    if data:
        verdict = pickle.loads(data)
        assert isinstance(verdict, Verdict)
        return verdict
    if os.WIFSIGNALED(status):
        return Verdict(f"never ends ({signal.Signals(os.WTERMSIG(status)).name})")
    return Verdict(f"ended by itself ({os.waitstatus_to_exitcode(status)})")


def _judge_and_exit(judge: Callable[[], Verdict], writer: int, cpu_s: int) -> None:
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        try:
            verdict = judge()
        except BaseException as error:
            verdict = Verdict(f"{type(error).__name__}: {error}")
        os.write(writer, pickle.dumps(verdict))
    finally:
        os._exit(0)


def _read_all(reader: int, pid: int, wall_s: int) -> bytes:
    ends_at = time.monotonic() + wall_s
    data = b""
    while ends_at > time.monotonic():
        if select.select([reader], [], [], ends_at - time.monotonic())[0]:
            part = os.read(reader, 1 << 16)
            if not part:
                return data
            data += part
    os.kill(pid, signal.SIGKILL)
    return data
