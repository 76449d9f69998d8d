"""Planted bugs in what the broker shows of itself, and in whom it takes for lost. Importing this adds them to the others."""

from __future__ import annotations

from cbw.core.broker.core import BrokerCore
from cbw.core.histogram import Latencies

from .canary import Patch, canary


@canary("G3")
def losses_are_not_heard() -> list[Patch]:
    """A connection ends, and the broker goes on as if its peer were there."""
    return [(BrokerCore, "_peer_lost", lambda core, fact: None)]


@canary("status")
def latencies_are_too_long() -> list[Patch]:
    """The page shows a broker that is slower than it is."""
    add = Latencies.add
    return [(Latencies, "add", lambda latencies, seconds: add(latencies, [one + 1.0 for one in seconds]))]
