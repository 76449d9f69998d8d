"""Who asks the status pages too often: an address that floods them is refused, and probes from elsewhere are served."""

from __future__ import annotations

from collections import Counter

REQUESTS_MAX = 200
"""Requests of one address in a second that are answered. Each takes 0.5 to 1 ms from the role's loop, as Python runs one thread
at a time, and a flood would come to 600 a second; probes and Prometheus ask once in several seconds."""
COUNTED_MAX = 1000
"""Addresses that are counted; beyond it counting begins again."""


class FloodWatch:
    """Counts the requests of each address in the current second."""

    def __init__(self) -> None:
        self._second = 0
        self._asked: Counter[str] = Counter()

    def is_flood(self, address: str, now: float) -> bool:
        """Count a request of ``address``; whether it has asked too often in this second."""
        if int(now) != self._second or len(self._asked) >= COUNTED_MAX:
            self._second = int(now)
            self._asked.clear()
        self._asked[address] += 1
        return self._asked[address] > REQUESTS_MAX

    def __len__(self) -> int:
        """How many addresses are counted."""
        return len(self._asked)
