"""Options that are made from :mod:`cbw.settings`, and what all roles share."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import click
from click.core import ParameterSource

from cbw.errors import CannotBind, CannotResolve, CbwError, NoAnswer
from cbw.place import resolve
from cbw.refusal import checked_id
from cbw.settings import BROKER_HOST, LOG, STATUS, TRACE, Setting, checked_host
from cbw.status import Ask, StatusServer
from cbw.trace import LogTarget, Trace

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
SILENCE_S = 2.0
"""After so long without a broker it is said that one is waited for."""


class Integer(click.IntRange):
    """A whole number within bounds."""

    name = "integer"


class Number(click.FloatRange):
    """A number within bounds, which ``nan`` is not."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a valid {self.name}.", param, ctx)
        return number


class OpenTrace(Protocol):
    """Opens the trace of the role called ``name``; the logger's place may come from arguments instead of options."""

    def __call__(
        self, name: str, *, log_host: str | None = None, log_port: int | None = None, tells_bodies: bool = False
    ) -> Trace: ...


class ServeStatus(Protocol):
    """Serves the status that ``ask`` gives, as long as the context lasts.

    ``is_one_of_many``: others like it run on the same machine, so it is no news that one of them has the usual port.
    """

    def __call__(self, ask: Ask, *, is_one_of_many: bool = False) -> contextlib.AbstractContextManager[None]: ...


class Waiting(Protocol):
    """A client that may not have found its broker yet."""

    @property
    def has_met_broker(self) -> bool:
        """Whether a broker has ever welcomed it."""


def setting_options(*settings: Setting) -> Decorator:
    """One option for each setting: name, type, bounds, default, environment variable and help from the table."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for setting in reversed(settings):
            is_flag = setting.type is bool
            function = click.option(
                _flag(setting) if is_flag else setting.option,
                *([setting.short] if setting.short else []),
                setting.name,
                type=None if is_flag else setting_type(setting),
                is_flag=is_flag,
                default=setting.default,
                envvar=setting.environment,
                help=setting.help,
                metavar=setting.metavar,
                show_default=setting.default is not None and not is_flag,
                show_envvar=True,
            )(function)
        return function

    return decorate


def _flag(setting: Setting) -> str:
    return f"{setting.option}/--no-{setting.option[2:]}" if setting.default else setting.option


def setting_type(setting: Setting) -> Any:
    """What takes the values of ``setting`` on the command line."""
    if setting.choices:
        return click.Choice(setting.choices)
    if setting.type is int:
        low = None if setting.minimum is None else int(setting.minimum)
        high = None if setting.maximum is None else int(setting.maximum)
        return Integer(low, high)
    if setting.type is float:
        return Number(setting.minimum, setting.maximum)
    return click.STRING


def trace_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--trace``, ``--verbose`` and the logger's settings, which every role has; the command gets ``open_trace``.

    That is a function of the role's id that opens its :class:`~cbw.trace.Trace`.
    """

    @functools.wraps(function)
    def with_trace(*arguments: Any, trace: str | None, verbose: bool, **options: Any) -> Any:
        host, port_number, *how = (options.pop(setting.name) for setting in LOG)
        log = LogTarget(host, port_number, *how) if host else None

        def open_trace(
            name: str, *, log_host: str | None = None, log_port: int | None = None, tells_bodies: bool = False
        ) -> Trace:
            target = (
                log if log_host is None else LogTarget(log_host, port_number if log_port is None else log_port, *how)
            )
            if target is not None:
                warn_if_unresolved(target.host, target.port, "logger")
            return Trace(trace, is_verbose=verbose, name=name, log=target, tells_bodies=tells_bodies)

        return function(*arguments, open_trace=open_trace, **options)

    return setting_options(*TRACE, *LOG)(with_trace)


def status_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--status-port`` and ``--status-host``; the command gets ``serve_status``, a context manager to run within."""

    @functools.wraps(function)
    def with_status(*arguments: Any, status_port: int, status_host: str, **options: Any) -> Any:
        is_asked_for = is_given("status_port")

        @contextlib.contextmanager
        def serve_status(ask: Ask, *, is_one_of_many: bool = False) -> Iterator[None]:
            server = None
            if status_port:
                try:
                    server = StatusServer(ask, status_host, status_port)
                except CannotBind as error:
                    if is_asked_for:
                        raise
                    if not is_one_of_many:
                        click.echo(f"no health and metrics here: {error}; --status-port gives another", err=True)
            try:
                yield
            finally:
                if server is not None:
                    server.close()

        return function(*arguments, serve_status=serve_status, **options)

    return setting_options(*STATUS)(with_status)


port = Integer(0, 65535)
logger_port = Integer(0, 65534)
"""Of a logger, whose records have the next one up."""


def check_two_ports(client_port: int, worker_port: int) -> None:
    """Refuse one port for both sides of a broker; 0 is any that is free, so it may be given twice."""
    if client_port and client_port == worker_port:
        raise click.UsageError(f"clients and workers need two ports, not {client_port} for both.")


def is_given(parameter: str) -> bool:
    """Whether the running command was told ``parameter``, by an option or by the environment."""
    return click.get_current_context().get_parameter_source(parameter) is not ParameterSource.DEFAULT


def role_id(text: str | None, prefix: str) -> str:
    """An id from the command line. ``HN`` is made of the host's name, as the lab's containers need it; without one the
    process id is added, so that several on one host do not get into each other's way.

    Raises:
        UsageError: it cannot be an id.
    """
    if text is None:
        return f"{prefix}_{socket.gethostname()}_{os.getpid()}"
    return f"{prefix}_{socket.gethostname()}" if text == "HN" else checked_id(text)


def broker_place(host: str | None, port_number: int) -> tuple[str, str]:
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
def telling_who_waits(client: Waiting, host: str, port_number: int, timeout_s: float) -> Iterator[None]:
    """Say after a while that ``client`` still waits for a broker, if it does."""

    def say() -> None:
        if not client.has_met_broker:
            text = f"waiting for a broker at {host}:{port_number}, up to {timeout_s:g} s for each request"
            click.echo(text, err=True)

    timer = threading.Timer(SILENCE_S, say)
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
            click.echo(f"{error}; trying again until it does. {error.advice}")

    threading.Thread(target=look_up, daemon=True).start()
