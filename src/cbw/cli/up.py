"""``cbw up``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import click
from rich.table import Table

from cbw import settings
from cbw.cli import output, tables
from cbw.cli.option_types import Integer, Number, logger_port, port
from cbw.cli.options import check_two_ports, is_given, keys_option, setting_options, times_option
from cbw.local import (
    LOG_FILE,
    ClientSummary,
    LocalSystem,
    Options,
    Scale,
    default_log_file,
    is_port_free,
    scale_of,
    totals,
)
from cbw.settings import YEAR_S
from cbw.signals import STOP_SIGNALS, handling

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green")


@click.command("up", context_settings={"max_content_width": 110})
@click.option(
    "--scale",
    "scales",
    multiple=True,
    metavar="SERVICE=N",
    help="Number of processes of a service: clients (cli), workers (wor) or loggers (log); there is always one broker. "
    "[default: cli=2 wor=4 log=1] May be repeated.",
)
@click.option(
    "--requests", type=Integer(0), default=10, show_default=True, help="Number of requests that each client sends."
)
@click.option(
    "--work-time",
    "work_time_s",
    type=Number(0, YEAR_S),
    default=1.0,
    show_default=True,
    help="Seconds that each demonstration worker takes for a request.",
)
@click.option(
    "--handler",
    "handlers",
    multiple=True,
    metavar="[SERVICE=]MODULE:FUNCTION",
    help="Function that the workers serve SERVICE with, as in cbw worker. May be repeated.",
)
@click.option(
    "--client-port",
    type=port,
    default=settings.CLIENT_PORT,
    show_default=True,
    help="Port of the broker for clients; 0 takes a free one.",
)
@click.option(
    "--worker-port",
    type=port,
    default=settings.WORKER_PORT,
    show_default=True,
    help="Port of the broker for workers; 0 takes a free one.",
)
@click.option(
    "--log-port",
    type=logger_port,
    default=settings.LOG_PORT,
    show_default=True,
    help="Text port of the logger; 0 takes a free one.",
)
@click.option(
    "--log-file", metavar="FILE", help=f"File that the logger writes to.  [default: {LOG_FILE}, or logs in LOGGER_DIR]"
)
@click.option("--journal", metavar="DIR", help="Folder for a journal of the broker, as in cbw broker.")
@setting_options(settings.STATUS[0])
@click.option("--until-done", is_flag=True, help="Stop the system when every client has its answers.")
@click.option("--no-restart", is_flag=True, help="Do not start a role again that has died.")
@click.option("--verbose", "-v", is_flag=True, help="Let the broker print every step of every request.")
@click.option(
    "--json", "is_json", is_flag=True, help="Print the summary as JSON, and everything else to standard error."
)
@keys_option
@times_option
def command(
    scales: tuple[str, ...],
    requests: int,
    work_time_s: float,
    handlers: tuple[str, ...],
    client_port: int,
    worker_port: int,
    log_port: int,
    log_file: str | None,
    journal: str | None,
    status_port: int,
    until_done: bool,
    no_restart: bool,
    verbose: bool,
    is_json: bool,
) -> None:
    """Start a whole system on this machine: a logger, a broker, workers and clients, each a process.

    \b
    cbw up --scale cli=2 --scale wor=4

    Ctrl-C stops it. At the end a table says what each client got. Exit code 1: a client has not got all its answers.
    """
    try:
        scale = scale_of(scales, Scale())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--scale") from None
    check_two_ports(client_port, worker_port)
    options = Options(
        scale=scale,
        client_port=client_port,
        worker_port=worker_port,
        log_port=log_port,
        log_file=log_file or default_log_file(),
        status_port=status_port if is_given("status_port") or is_port_free(status_port) else 0,
        requests=requests,
        work_time_s=work_time_s,
        handlers=handlers,
        journal=journal,
        is_verbose=verbose,
        is_restarting=not no_restart,
    )
    clients = _run(options, status_port, until_done=until_done, is_json=is_json)
    if any(client.answers < requests for client in clients):
        raise click.exceptions.Exit(1)


def _run(options: Options, status_port: int, *, until_done: bool, is_json: bool) -> list[ClientSummary]:
    """Run a system until it is stopped or, with ``until_done``, until its clients are done; what each client did."""
    scale = options.scale
    printer = _Printer(is_json, width=len(f"cli_{max(scale.cli, scale.wor)}"))
    system = LocalSystem(options, printer.line)
    with handling(STOP_SIGNALS, lambda _number: system.request_stop(), lambda _number: system.kill()), system:
        printer.on_closed = system.request_stop
        ports = system.start()
        for line in _first_lines(options, status_port, worker_port=ports[1]):
            printer.say(line)
        stays = "" if until_done else "; the system stays up, Ctrl-C ends it"
        system.watch(
            until_done=until_done,
            on_done=lambda: printer.say(f"all {scale.cli} clients are done{stays}") if scale.cli else None,
        )
        printer.say("stopping")
        system.stop()
        clients = system.summary()
    if printer.error is None:
        _report(clients, is_json)
    elif not isinstance(printer.error, BrokenPipeError):
        raise printer.error
    return clients


def _first_lines(options: Options, status_port: int, *, worker_port: int) -> Iterator[str]:
    """Where to find the parts of a system that has started, and what it lacks. ``status_port`` is the one that was wanted."""
    if options.scale.log:
        yield f"the log is {options.log_file} (cbw logs {options.log_file} -f)"
    if options.status_port:
        yield f"the broker's status is on http://{options.host}:{options.status_port}/status.json"
    elif status_port:
        yield f"port {status_port} is taken: the broker has no status page (--status-port gives it another)"
    if not options.scale.wor:
        yield f"no worker: requests wait until one comes (cbw worker W1 127.0.0.1 {worker_port})"


class _Printer:
    """Lines of many roles on one terminal, each with its role in front, as Compose prints them."""

    def __init__(self, is_json: bool, width: int) -> None:
        self._to_stderr = is_json
        self._width = width
        self._lock = threading.Lock()
        self._colours: dict[str, str] = {}
        self._colour = click.get_current_context().color
        self.error: OSError | None = None
        """Why no more is printed: nobody reads, as after ``| head``, or the disk is full."""
        self.on_closed: Callable[[], None] = lambda: None

    def line(self, role: str, text: str) -> None:
        """A line that ``role`` printed."""
        with self._lock:
            colour = self._colours.setdefault(role, _COLOURS[len(self._colours) % len(_COLOURS)])
            self._print(output.Styled(f"{role:<{self._width}} | ", fg=colour), text)

    def say(self, text: str) -> None:
        """A line of our own."""
        with self._lock:
            self._print(output.Styled(f"{'cbw':<{self._width}} | {text}", bold=True))

    def _print(self, *pieces: output.Piece) -> None:
        if self.error is not None:
            return
        try:
            output.line(*pieces, err=self._to_stderr, color=self._colour)
        except OSError as error:
            self.error = error
            self.on_closed()


def _report(clients: Sequence[ClientSummary], is_json: bool) -> None:
    total = totals(clients)
    if is_json:
        output.json({"clients": clients, **total})
        return
    table = Table(show_footer=True)
    table.add_column("client", footer="all")
    table.add_column("requests", justify="right", footer=str(total["requests"]))
    table.add_column("answers", justify="right", footer=str(total["answers"]))
    table.add_column("p50", justify="right")
    table.add_column("p99", justify="right")
    table.add_column(
        "workers used", footer=tables.cell(", ".join(sorted({name for client in clients for name in client.workers})))
    )
    for client in clients:
        table.add_row(
            tables.cell(client.client),
            str(client.requests),
            str(client.answers),
            _seconds(client.p50_s),
            _seconds(client.p99_s),
            tables.cell(", ".join(client.workers)),
        )
    tables.show(table)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} s"
