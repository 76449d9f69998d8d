"""Planted bugs in what becomes of programs that have lost their identity. Importing this adds them to the other canaries."""

from __future__ import annotations

from cbw.core.broker.outbox import Outbox
from cbw.transport.connections import Connections

from .canary import Patch, canary
from .driver_canaries import lab_twins


@canary("", lab_twins)
def nobody_is_told_that_his_identity_is_taken() -> list[Patch]:
    """The earlier of two programs of one identity waits in silence."""
    return [(Outbox, "tell_displaced", lambda self, peer, dialect, envelope: None)]


@canary("", lab_twins)
def whoever_has_the_identity_is_told_that_he_has_not() -> list[Patch]:
    """The later of two programs of one identity is told what the earlier one should be."""
    return [
        (Connections, "displaced", lambda self, peer: [self.descriptor_of(peer)]),
        (Connections, "hold", lambda self, fd: None),
    ]
