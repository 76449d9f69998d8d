"""How long a peer goes on saying hello when the broker refuses its id because another peer has it.

That other peer is often an earlier life of the same program, whose end the broker has not noticed yet.
"""

from __future__ import annotations

import math

from cbw.core import messages

HELLO_RETRY_S = 0.5
"""Seconds between two hellos with an id that is taken."""
DUPLICATE_PATIENCE_S = 4.0
"""Shortest time in seconds for which an id that is taken is asked for. A broker notices within 3 s that the last owner of
the id is dead; one that needs longer says so in its refusal."""


def is_about_keys(message: messages.Message) -> bool:
    """Whether ``message`` says that no key fits: then there is no connection, and it is the peer's own side that says so."""
    return type(message) is messages.Refused and message.reason in messages.KEY_REFUSALS


class Patience:
    """When a peer says hello again after a refusal."""

    def __init__(self) -> None:
        self._refused_since: float | None = None

    def welcomed(self) -> None:
        """The peer was welcomed, or has a new connection: earlier refusals do not count."""
        self._refused_since = None

    def retry_at(self, refused: messages.Refused, now: float) -> float:
        """When to say hello again; infinity: never, the peer is refused for good."""
        if refused.reason is not messages.Refusal.DUPLICATE_ID:
            return math.inf
        if self._refused_since is None:
            self._refused_since = now
        is_for_good = now - self._refused_since >= max(DUPLICATE_PATIENCE_S, refused.owner_lost_s + 1.0)
        return math.inf if is_for_good else now + HELLO_RETRY_S
