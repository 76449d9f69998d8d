"""Options: made from :mod:`cbw.settings`, or shared by all roles."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click
from click.core import ParameterSource

from cbw import memory
from cbw.cli import output
from cbw.cli.connection import warn_if_unresolved
from cbw.cli.option_types import setting_type
from cbw.errors import CannotBind
from cbw.keys.folder import link_keys
from cbw.keys.status_token import read_token
from cbw.language import said, translated
from cbw.observe.trace import LogTarget, Trace
from cbw.observe.warning import warn
from cbw.settings import KEYS, LISTEN_ENVIRONMENT, LOG, STATUS, STATUS_TOKEN_FILE, TIMES, TRACE, Setting

if TYPE_CHECKING:
    from cbw.observe.inquiry import Ask
    from cbw.observe.page import Page

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class OpenTrace(Protocol):
    """Opens the trace of the role called ``name``. The logger's address may come from arguments instead of options."""

    def __call__(
        self, name: str, *, log_host: str | None = None, log_port: int | None = None, tells_bodies: bool = False
    ) -> Trace: ...


class ServeStatus(Protocol):
    """Serves the status that ``ask`` gives, as long as the context lasts.

    ``is_one_of_many``: others like it run on the same machine, so it is no news that one of them has the usual port. ``page`` is
    for people.
    """

    def __call__(
        self, ask: Ask, *, is_one_of_many: bool = False, page: Page | None = None
    ) -> contextlib.AbstractContextManager[None]: ...


def setting_options(*settings: Setting) -> Decorator:
    """One option for each setting: name, type, bounds, default, environment variable and help from the table.

    The default of a setting that bounds memory is computed when the command runs, from the memory limit of the container.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for setting in reversed(settings):
            is_flag = setting.type is bool
            by_memory = functools.partial(_default_by_memory, setting) if setting.memory_fraction else None
            function = click.option(
                _flag(setting) if is_flag else setting.option,
                *([setting.short] if setting.short else []),
                setting.name,
                type=None if is_flag else setting_type(setting),
                is_flag=is_flag,
                default=by_memory or setting.default,
                envvar=setting.environments,
                help=setting.help,
                metavar=setting.metavar,
                show_default=f"{setting.default}, or less to fit the container's memory"
                if by_memory
                else setting.default is not None and not is_flag,
                show_envvar=True,
            )(function)
        return function

    return decorate


def _default_by_memory(setting: Setting) -> Any:
    return memory.default_within(setting, memory.limit_bytes())


def _flag(setting: Setting) -> str:
    return f"{setting.option}/--no-{setting.option[2:]}" if setting.default else setting.option


def trace_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--trace``, ``--verbose`` and the logger's settings, which every role has; the command gets ``open_trace``.

    That is a function of the role's id that opens its :class:`~cbw.observe.trace.Trace`.
    """

    @functools.wraps(function)
    def with_trace(*arguments: Any, trace: str | None, verbose: bool, **options: Any) -> Any:
        host, port_number, *how = (options.pop(setting.name) for setting in LOG)
        role = click.get_current_context().info_name or ""
        keys = link_keys(None, "logger", role) if host or options.get("log_host") else None
        how.append(keys)
        log = LogTarget(host, port_number, *how) if host else None

        def open_trace(
            name: str, *, log_host: str | None = None, log_port: int | None = None, tells_bodies: bool = False
        ) -> Trace:
            target = (
                log if log_host is None else LogTarget(log_host, port_number if log_port is None else log_port, *how)
            )
            if target is not None:
                warn_if_unresolved([(target.host, target.port)], "logger")
            return Trace(trace, is_verbose=verbose, name=name, log=target, tells_bodies=tells_bodies)

        return function(*arguments, open_trace=open_trace, **options)

    return setting_options(*TRACE, *LOG)(with_trace)


def keys_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--keys``. It becomes part of the environment, where the library finds it, and every process that the command starts."""

    def note(_context: click.Context, _param: click.Parameter, value: str | None) -> None:
        if value is not None:
            os.environ[KEYS.environment] = value
        if value:
            _forbid_core_dumps()

    return click.option(
        KEYS.option,
        envvar=KEYS.environment,
        help=KEYS.help,
        metavar=KEYS.metavar,
        show_envvar=True,
        is_eager=True,
        expose_value=False,
        callback=note,
    )(function)


def times_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--times``. It becomes part of the environment, where every process that the command starts finds it."""

    def note(_context: click.Context, _param: click.Parameter, value: bool | None) -> None:
        has_times = sys.stdout.isatty() if value is None else value
        os.environ[TIMES.environment] = str(int(has_times))

    return click.option(
        f"{TIMES.option}/--no-{TIMES.name}",
        TIMES.name,
        default=None,
        envvar=TIMES.environment,
        help=TIMES.help,
        show_envvar=True,
        expose_value=False,
        callback=note,
    )(function)


def _forbid_core_dumps() -> None:
    """A secret is in this process's memory from now on, and must not get to the disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def warn_if_open(listen: str, *, has_keys: bool) -> None:
    """Say on standard error that a role without keys listens beyond this machine."""
    if not has_keys and _is_beyond_this_machine(listen):
        warn(
            said(
                "listens on {listen} without keys: whoever reaches it can use it, and read what is sent (see {option})",
                listen=listen,
                option=KEYS.option,
            )
        )


def _is_beyond_this_machine(listen: str) -> bool:
    return listen not in ("localhost", "::1", "[::1]") and not listen.startswith("127.")


def status_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--status-port``, ``--status-listen`` and ``--status-token-file``; the command gets ``serve_status``, a context manager to
    run within.
    """

    @functools.wraps(function)
    def with_status(
        *arguments: Any, status_port: int, status_listen: str, status_token_file: str | None, **options: Any
    ) -> Any:
        is_asked_for = is_given("status_port")
        token = status_token(status_token_file) if status_port else ""
        is_warned_of_all = not os.environ.get(KEYS.environment) and os.environ.get(LISTEN_ENVIRONMENT) == status_listen
        memory.check_space()
        is_worth_a_line = _is_beyond_this_machine(status_listen) and not is_warned_of_all
        is_warned = bool(token) or not is_worth_a_line

        @contextlib.contextmanager
        def serve_status(ask: Ask, *, is_one_of_many: bool = False, page: Page | None = None) -> Iterator[None]:
            from cbw.observe.status import serving  # here: commands that serve nothing need not import a web server

            def without(error: CannotBind) -> None:
                if not is_one_of_many:
                    output.told(
                        said(
                            "no health and metrics here: {error}; --status-port gives another",
                            error=translated(str(error)),
                        ),
                        err=True,
                    )

            on_unusable = None if is_asked_for else without
            with serving(ask, status_listen, status_port, token=token, page=page, on_unusable=on_unusable) as is_served:
                nonlocal is_warned  # a standby serves first its own status, and then that of a broker
                if is_served and not is_warned:
                    is_warned = True
                    warn(
                        said(
                            "serves its status on {listen} without a token: whoever reaches it can read names, addresses and "
                            "counts (see {option})",
                            listen=status_listen,
                            option=STATUS_TOKEN_FILE.option,
                        )
                    )
                yield

        return function(*arguments, serve_status=serve_status, **options)

    return setting_options(*STATUS)(with_status)


def status_token(path: str | None) -> str:
    """The token in the file ``path``; empty: there is none.

    Raises:
        UsageError: as :func:`.read_token` does.
    """
    if not path:
        return ""
    _forbid_core_dumps()
    return read_token(Path(path))


def announce(text: str) -> None:
    """Print how a role begins on which others depend: it serves them also if nobody reads that."""
    try:
        output.told(text)
    except BrokenPipeError:
        warn(said("nobody reads what is printed here: {text}", text=text))


def check_two_ports(client_port: int, worker_port: int) -> None:
    """Refuse one port for both sides of a broker; 0 is any that is free, so it may be given twice."""
    if client_port and client_port == worker_port:
        raise click.UsageError(f"clients and workers need two ports, not {client_port} for both.")


def is_given(parameter: str) -> bool:
    """Whether the running command was told ``parameter``, by an option or by the environment."""
    return click.get_current_context().get_parameter_source(parameter) is not ParameterSource.DEFAULT
