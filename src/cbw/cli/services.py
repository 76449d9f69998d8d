"""``cbw services``."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from cbw import settings
from cbw.cli import output
from cbw.cli.call import asking, broker_option
from cbw.cli.options import keys_option, setting_options
from cbw.core.broker.service_list import SERVICES, ListedService


@click.command("services", context_settings={"max_content_width": 110})
@broker_option
@click.option(
    "--json",
    "is_json",
    is_flag=True,
    help="Print one JSON array, with a JSON Schema of the arguments and of the result of each service.",
)
@setting_options(*settings.CLIENT)
@keys_option
def command(broker: str | None, is_json: bool, timeout_s: float) -> None:
    """List the services of a broker, with what their functions take and return. With keys, it needs that of an admin."""
    with asking(broker, timeout_s, is_json=is_json) as client:
        found = msgspec.json.decode(client.call(b"", SERVICES), type=list[ListedService])
    if is_json:
        output.data(msgspec.json.encode([_as_json(service) for service in found]) + b"\n")
        return
    for service in found:
        workers = "1 worker" if service.workers == 1 else f"{service.workers} workers"
        waiting = f", {service.waiting} waiting" if service.waiting else ""
        text = _signature(service).get("signature", "")
        output.line(f"{service.service or '(nameless)'}{text}  [{workers}{waiting}]")


def _signature(service: ListedService) -> dict[str, Any]:
    try:
        return msgspec.json.decode(service.signature or "{}", type=dict[str, Any])
    except msgspec.DecodeError:  # of a worker of another make
        return {}


def _as_json(service: ListedService) -> dict[str, Any]:
    counts = {"service": service.service, "workers": service.workers, "waiting": service.waiting}
    return counts | {name: _signature(service).get(name) for name in ("signature", "doc", "arguments", "result")}
