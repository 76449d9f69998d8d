"""How long a peer insists on an id that somebody else has, as that may be itself: an earlier life, not yet known to be over."""

from __future__ import annotations

import math

from cbw.core import messages as m

HELLO_RETRY_S = 0.5
DUPLICATE_PATIENCE_S = 4.0
"""A broker needs up to 3 s to notice that the last owner of the id is dead; one that needs longer says so."""


class Patience:
    """Of one peer, with refusals of its hello."""

    def __init__(self) -> None:
        self._refused_since: float | None = None

    def welcomed(self) -> None:
        """Or connected anew: what was before does not count."""
        self._refused_since = None

    def retry_at(self, refused: m.Refused, now: float) -> float:
        """When to say hello again; infinity: it is refused for good."""
        if refused.reason is not m.Refusal.DUPLICATE_ID:
            return math.inf
        if self._refused_since is None:
            self._refused_since = now
        is_for_good = now - self._refused_since >= max(DUPLICATE_PATIENCE_S, refused.owner_lost_s + 1.0)
        return math.inf if is_for_good else now + HELLO_RETRY_S
