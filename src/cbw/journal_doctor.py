"""``cbw doctor --journal``: whether a journal on NATS servers can be relied on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cbw.doctor import Finding, FindingState
from cbw.errors import CbwError, UsageError
from cbw.journal.nats_place import NatsPlace, is_nats
from cbw.journal.places import require_nats

if TYPE_CHECKING:
    from cbw.journal.nats import Health

_SYNC_ADVICE = (
    "Look into their configuration: sync_interval: always, or a power loss of several takes what they acknowledged."
)


def examine_journal(where: str) -> Iterator[Finding]:
    """Check the journal at ``where``.

    Raises:
        UsageError: it is none on NATS servers, or nats-py is not installed.
    """
    if not is_nats(where):
        raise UsageError(
            f"{where} is no journal on NATS servers", advice="cbw journal check looks at a journal in a folder."
        )
    place = NatsPlace.of(where)
    try:
        health: Health = require_nats().health_of(place)
    except UsageError:
        raise
    except CbwError as error:
        yield Finding("servers", FindingState.WRONG, str(error), error.advice)
        return
    yield Finding("servers", FindingState.OK, f"nats-server {health.version} answers at {place.hosts}")
    yield Finding(
        "sync", FindingState.NOTE, "when the servers write to their disks cannot be seen from here", _SYNC_ADVICE
    )
    if not health.replicas:
        yield Finding("stream", FindingState.NOTE, f"there is no journal {place.name} yet; a broker makes it")
        return
    kept = f"{health.replicas} server{'s keep' if health.replicas > 1 else ' keeps'} the journal {place.name}"
    if health.current < health.replicas:
        behind = health.replicas - health.current
        yield Finding(
            "stream",
            FindingState.WRONG,
            f"{kept}, and {behind} of them lag behind or are away",
            "Look at the servers' logs.",
        )
    elif health.replicas == 1:
        advice = "Run three servers, and give the stream three replicas: nats stream edit --replicas 3."
        yield Finding("stream", FindingState.NOTE, f"{kept}: it does not survive that machine", advice)
    else:
        yield Finding("stream", FindingState.OK, f"{kept}, and all have all of it")
    if health.owner:
        yield Finding("owner", FindingState.OK, f"the broker {health.owner} has it")
    elif health.owner is None:
        yield Finding(
            "owner", FindingState.WRONG, "its broker does not answer", "Look whether it is frozen or cut off."
        )
    else:
        yield Finding("owner", FindingState.NOTE, "no broker has it", "Start one: cbw broker --journal ...")
