"""Who a role is and where its broker is, from the command line; and what is said while the broker is not there."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import click

from cbw.addresses import checked_host
from cbw.cli import output
from cbw.errors import CannotResolve, CbwError, NoAnswer
from cbw.settings import BROKER_HOST
from cbw.transport.resolver import resolve
from cbw.wire.refusal import checked_id

BROKER_WAIT_S = 2.0
"""Time without a broker after which a client says that it waits for one: connecting takes milliseconds."""


class Waiting(Protocol):
    """A client or a worker that may not have found its broker yet."""

    @property
    def has_met_broker(self) -> bool:
        """Whether a broker has ever welcomed it."""


def role_id(text: str | None, prefix: str) -> str:
    """An id from the command line. ``HN`` is made of the host's name, as the lab's containers need it; without one the
    process id is added, so that several on one host do not get into each other's way.

    Raises:
        UsageError: it cannot be an id.
    """
    if text is None:
        return f"{prefix}_{socket.gethostname()}_{os.getpid()}"
    return f"{prefix}_{socket.gethostname()}" if text == "HN" else checked_id(text)


def broker_address(host: str | None, port_number: int) -> tuple[str, str]:
    """The broker's host, and its address for the library.

    Without one it is this machine; but a ``BROKER_HOST`` that is set to nothing, as in the images, is one left out.

    Raises:
        click.UsageError: there is no host, or a port behind it.
        UsageError: it is none.
    """
    if host is None and BROKER_HOST.environment not in os.environ:
        host = str(BROKER_HOST.default)
    if not host:
        raise no_host("as an argument")
    if found := re.fullmatch(r"(\[.+\]|[^:]+):(\d+)", host):
        raise click.UsageError(f"host and port are two arguments: {found[1]} {found[2]}")
    host = checked_host(host, BROKER_HOST)
    return host, f"[{host}]:{port_number}" if ":" in host else f"{host}:{port_number}"


def no_host(how: str) -> click.UsageError:
    """What to tell whoever has not said where the broker is, and could give it ``how``."""
    name = BROKER_HOST.environment
    return click.UsageError(
        f"where is the broker? Give its host {how}, or set {name}\n"
        f"(docker run -e {name}=172.17.0.2 …; docker inspect shows a container's address)."
    )


@contextlib.contextmanager
def telling_who_waits(
    role: Waiting,
    host: str,
    port_number: int,
    timeout_s: float | None = None,
    missing: Callable[[], str] = lambda: "",
) -> Iterator[None]:
    """Say after a while that ``role`` still waits for a broker, if it does; a client for ``timeout_s``, a worker for ever.

    ``missing`` tells what else it waits for; empty: nothing.
    """

    def say() -> None:
        what = missing()
        if not (what or role.has_met_broker):
            what = f"a broker at {host}:{port_number}"
        if what:
            how_long = "" if timeout_s is None else f", up to {timeout_s:g} s for each request"
            output.line(f"waiting for {what}{how_long}", err=True)

    timer = threading.Timer(BROKER_WAIT_S, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def no_broker(host: str, port_number: int, timeout_s: float) -> CbwError:
    """What to tell whoever has waited in vain for a broker at that place."""
    try:
        resolve(host, port_number)
    except CannotResolve as error:
        return error
    advice = f"Is a broker running there? Start one with: cbw broker {port_number}"
    return NoAnswer(f"no broker at {host}:{port_number} in {timeout_s:g} s", advice=advice)


def warn_if_unresolved(host: str, port_number: int, role: str = "broker") -> None:
    """Say in the background if the name of that role's host does not resolve (yet): the connection is tried again and again."""

    def look_up() -> None:
        try:
            resolve(host, port_number, role)
        except CannotResolve as error:
            with contextlib.suppress(OSError):  # nobody reads it
                output.line(f"{error}; trying again until it does. {error.advice}")

    threading.Thread(target=look_up, daemon=True).start()
