"""The handlers of the workers under test. Those that tell what they do write a line to the file at ``CBW_TEST_LOG``."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import msgspec

import cbw

LOG = Path(os.environ.get("CBW_TEST_LOG", os.devnull))


def note(line: str) -> None:
    """Tell the test something, also from a process that is about to die."""
    with LOG.open("a") as file:
        file.write(f"{line}\n")


# --- what a good handler does


def echo(body: bytes) -> bytes:
    return body


def note_done(body: bytes) -> bytes:
    """Tells that it was run."""
    note(body.decode())
    return body


def echo_in_a_moment(body: bytes) -> bytes:
    """Takes 10 ms: long enough for a worker to be given few tasks at a time."""
    time.sleep(0.01)
    return body


def note_done_slowly(body: bytes) -> bytes:
    """Note what was done after 10 ms: long enough for a broker to write that the task has begun."""
    time.sleep(0.01)
    return note_done(body)


class FlakyError(Exception):
    """It may well go better the next time."""


def fail_twice(body: str, context: cbw.Context) -> str:
    """Works when it is called for the third time."""
    note(f"try {context.retries} of {body}")
    if context.retries < 2:
        raise FlakyError(f"no luck with {body}")
    return body


async def fail_twice_async(body: str, context: cbw.Context) -> str:
    return fail_twice(body, context)


def ask_for_more_time(body: str, context: cbw.Context) -> str:
    """Asks to be called again, until it has been twice."""
    note(f"try {context.retries} of {body}")
    if context.retries < 2:
        raise cbw.Retry("not ready", after_s=0.1)
    return body


def echo_slowly(text: str) -> str:
    """``"0.5 anything"`` takes half a second."""
    note(f"begun {text}")
    time.sleep(float(text.split()[0]))
    note(f"done {text}")
    return text


def fork_and_wait(body: bytes) -> bytes:
    """Leaves a child behind, and waits to be killed."""
    child = os.fork()
    if child:
        note(f"begun {child}")
    time.sleep(60)
    os._exit(0)


class Bytes(bytes):
    """As libraries have them."""


def subclass(body: bytes) -> bytes:
    return Bytes(body)


async def leave_in_a_task(body: bytes) -> None:
    """Exits in a task of its own; also when ``body`` says how."""
    if body == b"stop":
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return

    async def leave() -> None:
        raise {b"exit": SystemExit(3), b"interrupt": KeyboardInterrupt()}[body]

    await asyncio.gather(leave())


async def echo_async(body: bytes) -> bytes:
    return body


nameless = lambda body: body  # noqa: E731 - a function that cannot go to a child process


def who(body: str) -> str:
    return f"{body} {os.getpid()}"


async def sleep(text: str) -> str:
    """``"0.5 anything"`` takes half a second, in which others run too."""
    note(f"begun {text}")
    try:
        await asyncio.sleep(float(text.split()[0]))
    except asyncio.CancelledError:
        note(f"cancelled {text}")
        raise
    note(f"done {text}")
    return text


# --- what its parameters may be


class Point(msgspec.Struct):
    x: int
    y: int = 0


def upper(text: str) -> str:
    return text.upper()


def double(number: int) -> int:
    return 2 * number


def mirror(point: Point) -> Point:
    return Point(point.y, point.x)


def total(numbers: list[int]) -> int:
    return sum(numbers)


class Picky(msgspec.Struct):
    """A type whose own check raises what is no ValueError."""

    name: str

    def __post_init__(self) -> None:
        raise KeyError(self.name)


def pick(body: Picky) -> None:
    """Nobody gets here."""


def depth(tree: list[Any]) -> int:
    return 1 + max((depth(branch) for branch in tree), default=0)


def power(base: int, exponent: int = 2) -> int:
    return int(base**exponent)


def tripled(number: Annotated[int, msgspec.Meta(gt=3)]) -> int:
    return 3 * number


def labelled(label: str, number: int) -> str:
    return f"{label} {number}"


seventh = functools.partial(labelled, number=7)


def noted(body: str) -> None:
    note(f"done {body}")


def nothing() -> None:
    return None


def attempt(body: str, context: cbw.Context) -> dict[str, object]:
    return {"body": body, "number": context.attempt, "service": context.service, "time_left": context.time_left}


# --- what a bad one does


class Odd(Exception):
    """An exception whose text cannot be made."""

    def __str__(self) -> str:
        raise ValueError("no text")


def fail(kind: str) -> object:
    if kind == "raise":
        raise KeyError("nothing there")
    if kind == "exit":
        sys.exit(5)
    if kind == "interrupt":
        raise KeyboardInterrupt("its own")
    if kind == "surrogate":
        raise OSError("cannot open \udcff")
    if kind == "odd":
        raise Odd
    if kind == "type":
        return object()
    if kind == "text":
        return "\udcff"
    if kind == "big":
        return bytes(3_000_000)
    if kind == "print":
        print("a handler may print")
    return kind


async def fail_later(kind: str) -> object:
    await asyncio.sleep(0)
    if kind == "cancelled":
        raise asyncio.CancelledError
    return fail(kind)


def crash(kind: str) -> str:
    """Bodies that are no order to crash come back."""
    if kind.startswith("exit"):
        note(f"begun {kind}")
        os._exit(7)
    if kind.startswith("kill"):
        note(f"begun {kind}")
        os.kill(os.getpid(), signal.SIGKILL)
    return kind


def die(body: bytes) -> None:
    """Whatever it is asked."""
    os.kill(os.getpid(), signal.SIGKILL)


def crash_once(body: str, context: cbw.Context) -> str:
    note(f"attempt {context.attempt}")
    if context.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return body


def compute(seconds: float) -> int:
    """Pure Python for this long: other threads get the GIL now and then."""
    note("begun compute")
    until = time.monotonic() + seconds
    count = 0
    while time.monotonic() < until:
        count += 1
    return count


def hold_gil(seconds: float) -> str:
    """A call into C that does not let go of the GIL: no other thread of this process runs."""
    note(f"begun hold in {os.getpid()}")
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    note("done hold")
    return "held"


def leave_behind(kind: str) -> None:
    """Start a process that outlives this one by far, and die."""
    if kind == "fork":
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
    else:
        os.system("sleep 20 &")
    os.kill(os.getpid(), signal.SIGKILL)


def pipes() -> list[Connection]:
    """The pipe to the parent of a child process."""
    return [found for found in gc.get_objects() if isinstance(found, Connection) and not found.closed]


def babble(body: bytes) -> None:
    """Write what is no report to the pipe."""
    for pipe in pipes():
        pipe.send_bytes(b"\xc1")
    threading.Event().wait()


def deafen(body: bytes) -> None:
    """Close descriptors that belong to somebody else, as those do who want to become a daemon."""
    for pipe in pipes():
        os.close(pipe.fileno())


def hang(body: str) -> str:
    """``"quick"`` makes the worker take it for a quick handler; anything else never comes back."""
    if body != "quick":
        note(f"begun {body}")
        threading.Event().wait()
    return body


async def block(body: str) -> str:
    """An async handler that does not let others run."""
    note("begun block")
    threading.Event().wait()
    return body


HOSTILE = b"a\x1b[5m\x1b]0;title\x07\r\n\xff\xc2\x9b5m \xe2\x80\xae\x7f\x08\n"
"""What would blink, retitle a terminal, go back in the line and turn the direction of what follows."""


def hostile(body: bytes) -> bytes:
    return HOSTILE


def hostile_failure(body: bytes) -> bytes:
    raise ValueError("no\x1b[5m\x1b]0;title\x07\r\nFORGED line \x9b5m\u202e\x7f")
