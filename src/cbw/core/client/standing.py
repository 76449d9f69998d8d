"""How a client stands with its broker, and what may follow."""

from __future__ import annotations

from enum import Enum


class Standing(Enum):
    """How the client stands with the broker."""

    DISCONNECTED = "no connection"
    GREETING = "connected; the hello is sent, or will be sent again, and was not answered with a welcome"
    WELCOMED = "the broker knows this client"
    REFUSED = "the broker refuses this client for good"
    CLOSED = "the program has closed the client"


TRANSITIONS: dict[Standing, tuple[Standing, ...]] = {
    Standing.DISCONNECTED: (Standing.DISCONNECTED, Standing.GREETING, Standing.REFUSED, Standing.CLOSED),
    Standing.GREETING: tuple(Standing),
    Standing.WELCOMED: tuple(Standing),
    Standing.REFUSED: (Standing.CLOSED,),
    Standing.CLOSED: (),
}
