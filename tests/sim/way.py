"""Which of several brokers a link leads to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .network import Router


class Way:
    """Where a link leads: to the port of a broker, or of one of several, the first of them at first."""

    def __init__(self, *ports: Callable[[], Router | None]) -> None:
        self._ports = deque(ports)

    @property
    def router(self) -> Router | None:
        """Who listens there; None: nobody."""
        return self._ports[0]()

    @property
    def has_others(self) -> bool:
        """Whether there are several brokers."""
        return len(self._ports) > 1

    def use_next(self) -> None:
        """That one is not reached."""
        self._ports.rotate(-1)

    @property
    def copy(self) -> Way:
        """Another, for another link."""
        return Way(*self._ports)
