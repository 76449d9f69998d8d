"""Who was not let in, and why: told at most once in a while, however often they try."""

from __future__ import annotations

QUIET_S = 10.0
"""Seconds between two times that the same address is told of, for the same reason."""
ADDRESSES_MAX = 1000
"""Addresses that are remembered; of others nothing is told until some are forgotten, as many as there are."""
TEXTS_MAX = 100
"""Texts that wait to be taken."""


class RefusedPeers:
    """Counts all of them; :meth:`take` gives those that are to be told, in words."""

    def __init__(self) -> None:
        self.count = 0
        self._told: dict[tuple[str, str], tuple[float, int]] = {}  # when last, and how many have come since
        self._texts: list[str] = []

    def note(self, address: str, why: str, now: float) -> None:
        """A connection from ``address`` was refused because of ``why``."""
        self.count += 1
        told_at, since = self._told.get((address, why), (None, 0))
        if told_at is not None and now - told_at < QUIET_S:
            self._told[address, why] = told_at, since + 1
            return
        if told_at is None and len(self._told) >= ADDRESSES_MAX:
            self._told = {who: (at, more) for who, (at, more) in self._told.items() if now - at < QUIET_S}
            if len(self._told) >= ADDRESSES_MAX:
                return
        self._told[address, why] = now, 0
        if len(self._texts) < TEXTS_MAX:
            text = f"{address}: {why}"
            self._texts.append(f"{text} ({since + 1} times since it was last told)" if since else text)

    def take(self) -> list[str]:
        """What is to be told, since the last call."""
        texts, self._texts = self._texts, []
        return texts
