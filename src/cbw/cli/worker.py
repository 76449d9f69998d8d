"""``cbw worker``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from cbw import settings
from cbw.cli import output
from cbw.cli.connection import broker_address, role_id, telling_who_waits, warn_if_unresolved
from cbw.cli.option_types import port
from cbw.cli.options import (
    OpenTrace,
    ServeStatus,
    keys_option,
    setting_options,
    status_options,
    times_option,
    trace_options,
)
from cbw.errors import WorkerStuck
from cbw.language import said, translated
from cbw.observe.program_logs import show_logs, tell_stories
from cbw.signals import reopening, stopping
from cbw.worker.app import services_of
from cbw.worker.demonstration import Demonstration
from cbw.worker.handler import load
from cbw.worker.worker import Worker


@click.command("worker", context_settings={"max_content_width": 110})
@click.argument("id", default=None, metavar="[ID]")
@click.argument("broker_host", envvar="BROKER_HOST", default=None, metavar="[BROKER_HOST]")
@click.argument("broker_port", type=port, envvar="BROKER_PORT", default=settings.WORKER_PORT, metavar="[BROKER_PORT]")
@click.option(
    "--handler",
    "handlers",
    multiple=True,
    metavar="[SERVICE=]MODULE:FUNCTION",
    envvar="CBW_WORKER_HANDLER",
    help="Function that serves SERVICE (default: the nameless service). The module may lie in the current folder. "
    "May be repeated.",
)
@click.option(
    "--app",
    "apps",
    multiple=True,
    metavar="MODULE[:SERVICE]",
    envvar="CBW_WORKER_APP",
    help="cbw.Service whose tasks are served; without SERVICE, all of the module. May be repeated. Default: without --handler, "
    "those of app.py in the current folder, if that imports cbw.",
)
@click.option(
    "--retry-on",
    "retry_on",
    multiple=True,
    metavar="[MODULE:]EXCEPTION",
    envvar="CBW_WORKER_RETRY_ON",
    help="Exception after which a handler is called again, with its subclasses: one of Python's, or of a module. Default: only "
    "cbw.Retry. May be repeated. The handler must be able to meet its own earlier work.",
)
@click.option(
    "--reload",
    is_flag=True,
    help="For development: end the worker, as SIGTERM does, and start it anew when a Python file in the current folder or below "
    "changes. Needs watchfiles: pip install 'cbw[reload]'.",
)
@setting_options(*settings.WORKER)
@keys_option
@trace_options
@times_option
@status_options
def command(
    id: str | None,
    broker_host: str | None,
    broker_port: int,
    handlers: tuple[str, ...],
    apps: tuple[str, ...],
    retry_on: tuple[str, ...],
    reload: bool,
    time_limit_s: float | None,
    retries: int,
    backoff_s: float,
    backoff_max_s: float,
    work_time_s: float,
    open_trace: OpenTrace,
    serve_status: ServeStatus,
    **options: Any,
) -> None:
    """A worker called ID (HN: after this host; none: after host and process) for the broker at BROKER_HOST:BROKER_PORT.

    With neither --app nor --handler nor a file app.py it is the lab's demonstration: it takes --work-time seconds and answers
    "<message> <id>". SIGTERM lets running tasks finish. SIGHUP begins a new trace file, if the old one was moved away.

    \b
    cbw worker W1 172.17.0.2 9999
    cbw worker --app contract:shop --concurrency 8
    cbw worker --app contract:shop --reload
    cbw worker --handler shop.orders:price --concurrency 8
    cbw worker --handler shop.orders:price --retry-on ConnectionError --retries 3
    cbw worker --handler resize=images:resize --handler crop=images:crop --processes 2
    """
    if reload:
        from cbw.cli.reload import run_reloading  # only then: it loads much that a worker does not need

        sys.exit(run_reloading())
    name = role_id(id, "WOR", broker_host)
    brokers = broker_address(broker_host, broker_port)
    trace = open_trace(name)
    worker = Worker(brokers.text, id=name, trace=trace, **options)
    backoff = (backoff_s, max(backoff_s, backoff_max_s))
    _add_handlers(worker, handlers, retry_on, retries=retries, backoff_s=backoff, time_limit_s=time_limit_s)
    services = services_of(apps, is_alone=not handlers)
    for one in services:
        worker.add_service(one)
    show_logs()
    tell_stories(name, trace)
    if not (handlers or services):
        worker.add("", Demonstration(name, work_time_s), time_limit_s=time_limit_s)
    warn_if_unresolved(brokers.hosts)
    with (
        stopping(worker),
        reopening(worker.reopen_trace),
        serve_status(worker.status, is_one_of_many=True),
        telling_who_waits(worker, brokers, missing=lambda: _missing(worker)),
    ):
        output.told(f"{name} works for {brokers}")
        _run(worker)


def _missing(worker: Worker) -> str:
    """What ``worker`` waits for, other than a broker; empty: nothing."""
    if worker.hello_refused and not worker.has_met_broker:
        return said("its turn, as {reason}", reason=translated(worker.hello_refused))
    return said("the lifespan of {service}", service=worker.opening) if worker.opening else ""


def _add_handlers(worker: Worker, handlers: Sequence[str], retry_on: Sequence[str], **options: Any) -> None:
    exceptions = tuple(load(name if ":" in name else f"builtins:{name}") for name in retry_on)
    for spec in handlers:
        service, _, path = spec.rpartition("=")
        worker.add(service, load(path), retry_on=exceptions, **options)


def _run(worker: Worker) -> None:
    try:
        worker.run()
    except WorkerStuck as error:
        output.failure(error)
        os._exit(error.exit_code)  # Python would wait at its end for threads that a stuck handler has started
