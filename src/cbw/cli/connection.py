"""Who a role is and where its broker is, from the command line; and what is said while the broker is not there."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import starmap
from typing import NamedTuple, Protocol

import click

from cbw.addresses import Address, addresses, checked_host, checked_port, host_and_port
from cbw.cli import output
from cbw.core.messages import REFUSED
from cbw.errors import CannotResolve, CbwError, NoAnswer, RequestError
from cbw.language import said, translated
from cbw.settings import BROKER_HOST, BROKER_PORT
from cbw.transport.listening import Listener, what_listens
from cbw.transport.resolver import place_of, resolve
from cbw.wire.refusal import checked_id

BROKER_WAIT_S = 2.0
"""Time without a broker after which a client says that it waits for one: connecting takes milliseconds."""


class Waiting(Protocol):
    """A client or a worker that may not have found its broker yet."""

    @property
    def has_met_broker(self) -> bool:
        """Whether a broker has ever welcomed it."""


_PLACE = r"(\[.+\]|[^:,]+):\d+"
"""A host and its port, in one argument."""


def role_id(text: str | None, prefix: str, host: str | None) -> str:
    """An id from the command line. ``HN`` is made of the host's name, as the lab's containers need it; without one the
    process id is added, so that several on one host do not get into each other's way. ``host`` is what was said of the broker.

    Raises:
        click.UsageError: it is the place of a broker, and the id is missing.
        UsageError: it cannot be an id.
    """
    if text is not None and host is None and re.fullmatch(f"{_PLACE}(,{_PLACE})*", text):
        raise click.UsageError(f"{text} stands in the place of an id; the broker's host comes behind it")
    if text is None:
        return f"{prefix}_{socket.gethostname()}_{os.getpid()}"
    return f"{prefix}_{socket.gethostname()}" if text == "HN" else checked_id(text)


class BrokerAddresses(NamedTuple):
    """Where the brokers are, from the command line."""

    hosts: list[Address]

    @property
    def text(self) -> str:
        """The addresses as the library takes them: ``a:9998,b:9998``."""
        return ",".join(place_of(*host) for host in self.hosts)

    def __str__(self) -> str:
        return " and ".join(place_of(*host) for host in self.hosts)


def broker_address(hosts: str | None, port_number: int) -> BrokerAddresses:
    """The brokers at ``hosts``, separated by commas: each a host, at that port, or ``host:port`` if there are several.

    Without any it is this machine; but a ``BROKER_HOST`` that is set to nothing, as in the images, is one left out.

    Raises:
        click.UsageError: there is no host, or a port behind the only one.
        UsageError: one of them is none.
    """
    if hosts is None and BROKER_HOST.environment not in os.environ:
        hosts = str(BROKER_HOST.default)
    if not hosts:
        raise no_host("as an argument")
    parts = [part.strip() for part in hosts.split(",")]
    if len(parts) == 1 and (found := re.fullmatch(r"(\[.+\]|[^:]+):(\d+)", hosts)):
        raise click.UsageError(f"host and port are two arguments: {found[1]} {found[2]}")
    bare = [host_and_port(part) for part in parts]
    addresses = [
        (checked_host(host, BROKER_HOST), checked_port(port or port_number, BROKER_PORT)) for host, port in bare
    ]
    return BrokerAddresses(addresses)


def client_brokers(text: str | None) -> BrokerAddresses:
    """The brokers that ``--broker`` names, for a client; without it those of ``BROKER_HOST``.

    Raises:
        click.UsageError: there is no host.
        UsageError: one of them is none.
    """
    if text is None and os.environ.get(BROKER_HOST.environment) == "":  # as in the images
        raise no_host("with --broker")
    return BrokerAddresses(addresses(text, "client"))


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
    brokers: BrokerAddresses,
    timeout_s: float | None = None,
    missing: Callable[[], str] = lambda: "",
) -> Iterator[None]:
    """Say after a while that ``role`` still waits for a broker, if it does; a client for ``timeout_s``, a worker for ever.

    ``missing`` tells what else it waits for, before it looks for a broker; empty: nothing.
    """
    is_over = threading.Event()

    def say() -> None:
        told = ""
        while not is_over.wait(BROKER_WAIT_S):
            what = other = missing()
            if not (what or role.has_met_broker):
                what = said("a broker at {brokers}", brokers=brokers)
                what += f" ({translated(found)})" if (found := _in_its_place(brokers)) else ""
            if what not in ("", told):
                output.told(_waiting_text(what, timeout_s), err=True)
            told = what
            if not other:
                return

    threading.Thread(target=say, daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def _waiting_text(what: str, timeout_s: float | None) -> str:
    if timeout_s is None:
        return said("waiting for {what}", what=what)
    return said("waiting for {what}, up to {timeout} s for each request", what=what, timeout=f"{timeout_s:g}")


@contextlib.contextmanager
def meeting(
    client: Waiting, brokers: BrokerAddresses, timeout_s: float, missing: Callable[[], str] = lambda: ""
) -> Iterator[None]:
    """Say after a while that ``client`` still waits for a broker, and in the end, in clear words, that there is none. ``missing``
    is as of :func:`telling_who_waits`.
    """
    with telling_who_waits(client, brokers, timeout_s, missing):
        try:
            yield
        except RequestError as error:
            if not client.has_met_broker and error.kind != REFUSED:
                raise no_broker(brokers, timeout_s) from None
            raise error


def no_broker(brokers: BrokerAddresses, timeout_s: float) -> CbwError:
    """What to tell whoever has waited in vain for a broker at that place."""
    for host in brokers.hosts:
        try:
            resolve(*host)
        except CannotResolve as error:
            return error
    found = [(host, what_listens(*host)) for host in brokers.hosts]
    host, listener = next(((host, one) for host, one in found if one.is_there), found[0])
    advice = f"Is a broker running there? Start one with: cbw broker {host[1]}"
    if listener.is_there:
        advice = f"Give the broker's port for clients. What is wrong on the way to it: cbw doctor {place_of(*host)}"
    what = listener.text if len(found) == 1 else "; ".join(starmap(_at, found))
    return NoAnswer(f"no broker at {brokers} in {timeout_s:g} s: {what}", advice=advice)


def _in_its_place(brokers: BrokerAddresses) -> str:
    """What listens where brokers should; empty: nothing does, or nothing can be reached, which may change."""
    found = [(host, what_listens(*host)) for host in brokers.hosts]
    return "; ".join(_at(host, one) for host, one in found if one.is_there)


def _at(host: Address, listener: Listener) -> str:
    return f"at {place_of(*host)} {listener.text}"


def warn_if_unresolved(hosts: Sequence[Address], role: str = "broker") -> None:
    """Say in the background if the name of a host of that role does not resolve (yet): connections are tried again and again."""

    def look_up() -> None:
        for host in hosts:
            try:
                resolve(*host, role)
            except CannotResolve as error:
                with contextlib.suppress(OSError):  # nobody reads it
                    text, advice = translated(str(error)), translated(error.advice)
                    output.told(said("{error}; trying again until it does. {advice}", error=text, advice=advice))

    threading.Thread(target=look_up, daemon=True).start()
