"""``cbw call``."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from cbw import settings
from cbw.cli import output
from cbw.cli.completion import complete_called, complete_service
from cbw.cli.connection import BrokerAddresses, client_brokers, meeting
from cbw.cli.option_types import Integer, Number
from cbw.cli.options import keys_option, setting_options
from cbw.client.sync_client import Client
from cbw.core.broker.own_services import IS_SERVED
from cbw.core.messages import DELAY_S_MAX, PRIORITY, PRIORITY_MAX
from cbw.errors import CbwError, UsageError
from cbw.language import said
from cbw.observe.trace import Trace

broker_option = click.option(
    "--broker",
    metavar="HOST:PORT",
    help="Broker to talk to, and its port for clients. [env: BROKER_HOST, BROKER_PORT]",
)

json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,  # whoever prints the error looks for it
    help="Print an error as one JSON object on standard error: error (its class), kind, text, request, and what else it has.",
)

IS_SERVED_TIMEOUT_S = 1.0
"""Time for the broker to say whether it has a worker."""
_NAMED = re.compile(r"([^\W\d]\w*)(:?=)(.*)", re.DOTALL)
"""An argument by name: ``name=text`` or ``name:=JSON``."""


@click.command("call", context_settings={"max_content_width": 110})
@click.argument("arguments", nargs=-1, metavar="[SERVICE [VALUE...]] | [FILE]", shell_complete=complete_called)
@broker_option
@click.option(
    "--service",
    "-s",
    shell_complete=complete_service,
    help="Service that answers the request. What follows is then a file: its body.",
)
@click.option(
    "--priority",
    type=Integer(0, PRIORITY_MAX),
    default=PRIORITY,
    show_default=True,
    help="Order of the request among those that wait of the same client: 9 is served first, 0 last.",
)
@click.option(
    "--delay",
    "delay_s",
    type=Number(0, DELAY_S_MAX),
    default=0.0,
    help="Seconds for which no worker gets the request. They count towards --timeout, or towards --deadline with --detach or "
    "--ticket.",
)
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME=TEXT",
    help="Text that travels with the request, for its handler. May be repeated.",
)
@click.option(
    "--detach",
    "is_detached",
    is_flag=True,
    help="Do not wait for the answer: print a ticket when the broker has the request. cbw result fetches the answer with it.",
)
@click.option(
    "--stream",
    "is_stream",
    is_flag=True,
    help="Print the parts of the answer as they come, each with the end of a line behind it.",
)
@click.option(
    "--ticket",
    metavar="NAME",
    help="Start the request under this ticket, or join the one that was started under it with the same body and service. The "
    "request goes on when this command ends.",
)
@click.option(
    "--deadline",
    "deadline_s",
    type=Number(0.001),
    help="With --detach or --ticket: seconds that the request may take. Default: for ever.",
)
@setting_options(*settings.CLIENT)
@keys_option
@json_option
def command(
    arguments: tuple[str, ...],
    broker: str | None,
    service: str | None,
    priority: int,
    delay_s: float,
    headers: tuple[str, ...],
    is_detached: bool,
    is_stream: bool,
    ticket: str | None,
    deadline_s: float | None,
    timeout_s: float,
) -> None:
    """Send one request; its answer goes to standard output, an error to standard error.

    SERVICE answers it; by default the nameless service. Its arguments are VALUEs, each name=text or name:=JSON, or one VALUE
    that is the whole body. Without any, the body is FILE, or what comes from standard input.

    A file or a pipe gets the answer as it is; on a terminal its control characters are shown as escapes.

    With --detach or --ticket the request outlives this command.

    \b
    echo hello | cbw call
    cbw call price article=tea count:=3
    cbw call price '{"article": "tea", "count": 3}'
    cbw call --service thumbnail photo.jpg > small.jpg
    cbw call --stream tell about=tea
    ticket=$(cbw call --service report --detach year.json); cbw result $ticket
    """
    if deadline_s is not None and not (is_detached or ticket is not None):
        raise click.UsageError("--deadline goes with --detach or --ticket; otherwise --timeout is the deadline.")
    if is_stream and (is_detached or ticket is not None):
        raise click.UsageError("--stream prints what comes; it does not go with --detach or --ticket.")
    service, body = (service, _read(arguments)) if service is not None else _asked(arguments)
    options: Any = {"priority": priority, "delay_s": delay_s, "headers": _headers(headers)}
    with asking(broker, timeout_s, service) as client:
        if is_stream:
            for part in client.stream(body, service, **options):
                output.data(part + b"\n")
            return
        if not is_detached and ticket is None:
            output.data(client.call(body, service, **options))
            return
        started = client.start(body, service, ticket=ticket, deadline_s=deadline_s, **options)
        if not is_detached:
            output.data(client.result(started))
            return
        if not started.is_durable:
            output.line(said("this broker has no journal: the request is lost if the broker ends"), err=True)
        if sys.stdout.isatty():
            output.line(started)
        else:
            output.data(started.encode() + b"\n")  # as it is, for cbw result


def _read(files: Sequence[str]) -> bytes:
    """What is in the file, or comes from standard input."""
    if len(files) > 1:
        raise click.UsageError(f"with --service there is one file, the body of the request; what is {files[1]!r}?")
    if not files or files[0] == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(files[0]).read_bytes()
    except OSError as error:
        raise click.UsageError(f"cannot read {files[0]!r}: {error.strerror}.") from None


def _asked(arguments: Sequence[str]) -> tuple[str, bytes]:
    """The service, and the body of a request for it."""
    service, *values = arguments or ("",)
    if service == "-":  # as in `cbw call - < file`
        service = ""
    if service and not values and Path(service).is_file():
        raise UsageError(f"{service} is a file, and no service was named", advice=f"Write cbw call < {service}")
    return service, request_body(values) if values else _read(())


def request_body(values: Sequence[str]) -> bytes:
    """The body that ``values`` are: arguments by name, or one that is the whole body.

    Raises:
        UsageError: they are neither.
    """
    named = [_NAMED.fullmatch(value) for value in values]
    if len(values) == 1 and named[0] is None:
        return values[0].encode()
    body: dict[str, Any] = {}
    for value, found in zip(values, named, strict=True):
        if found is None:
            raise UsageError(f"what is {value!r}?", advice="Write each argument as name=text or as name:=JSON.")
        name, sign, text = found.groups()
        if name in body:
            raise UsageError(f"the argument {name} is there twice")
        try:
            body[name] = text if sign == "=" else msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise UsageError(f"{value!r} is no JSON: {error}", advice=f"Write {name}={text} to send a text.") from None
    return msgspec.json.encode(body)


def _headers(texts: Sequence[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or name in headers:
            wrong = "is there twice" if sign else "is no header"
            raise UsageError(f"{name!r} {wrong}", advice="Write --header name=text.")
        headers[name] = value
    return headers


@contextlib.contextmanager
def asking(broker: str | None, timeout_s: float, service: str | None = None) -> Iterator[Client]:
    """A client of ``broker``, and clear words if there is none. With a ``service``, also if nobody serves that after a while."""
    brokers = client_brokers(broker)

    def missing() -> str:
        return missing_worker(brokers, service) if service is not None and client.has_met_broker else ""

    with Client(broker, timeout=timeout_s) as client, meeting(client, brokers, timeout_s, missing):
        yield client


def missing_worker(brokers: BrokerAddresses, service: str) -> str:
    """What a request for ``service`` waits for, if the broker there has no worker for it; empty: it has one, or does not say.

    Another client asks, so that nothing of it stands in the trace of the one that waits.
    """
    try:
        with Client(brokers.text, timeout=IS_SERVED_TIMEOUT_S, trace=Trace(is_printing=False)) as client:
            is_served = client.call(service, IS_SERVED) != b"404"
    except CbwError:
        return ""
    if is_served:
        return ""
    if service:
        return said("a worker for {service}: the broker at {brokers} has none", service=service, brokers=brokers)
    return said("a worker: the broker at {brokers} has none", brokers=brokers)
