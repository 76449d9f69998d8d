"""Planted bugs in who may go on with a session. Importing this adds them to the other canaries."""

from __future__ import annotations

from cbw.core.broker import clients

from .canary import Patch, canary
from .plan import Plan


def _many_strangers(plan: Plan) -> None:
    plan.rates.update({"stranger": 2.0})


@canary("G1", _many_strangers)
def proofs_are_not_looked_at() -> list[Patch]:
    """Who says a client's id and boot is believed."""
    return [(clients, "is_proven", lambda proof, shown: True)]
