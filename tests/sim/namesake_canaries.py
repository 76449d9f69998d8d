"""Planted bugs in what becomes of programs that have lost their identity. Importing this adds them to the other canaries."""

from __future__ import annotations

from cbw.core.broker.outbox import Outbox

from .canary import Patch, canary, lab_twins


@canary("", lab_twins)
def nobody_is_told_that_his_identity_is_taken() -> list[Patch]:
    """The earlier of two programs of one identity waits in silence."""
    return [(Outbox, "tell_displaced", lambda self, peer, dialect, envelope: None)]
