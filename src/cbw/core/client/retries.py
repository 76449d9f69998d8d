"""Requests that the broker was too busy to take, until they are sent again."""

from __future__ import annotations

import heapq

HINT_MIN_S = 0.05
"""Shortest time in seconds before a request is sent again, whatever the broker says."""
HINT_MAX_S = 10.0
"""Longest such time that is believed, in seconds."""
HINT_USUAL_S = 0.5
"""The time in seconds if the broker says none, as older ones do."""
JITTER = 0.5
"""By how much of itself a time is prolonged at most: never shortened, as there is no room before."""
GOLDEN = 0.6180339887498949
"""Multiples of the golden ratio, without their whole part, are spread evenly however many they are."""


class Retries:
    """When which request is sent again. ``chance``, from 0 to 1, sets this client's times apart from those of others."""

    def __init__(self, chance: float) -> None:
        self._chance = chance
        self._heap: list[tuple[float, int]] = []
        self._waiting: dict[int, None] = {}

    def add(self, request_id: int, hint_s: float | None, deadline_at: float, now: float) -> bool:
        """Send this request again in ``hint_s`` or a little later, if it has the time; returns whether it has."""
        if request_id in self._waiting:
            return True
        if hint_s is None or hint_s != hint_s:  # which is NaN
            hint_s = HINT_USUAL_S
        self._chance = (self._chance + GOLDEN) % 1.0
        at = now + min(max(hint_s, HINT_MIN_S), HINT_MAX_S) * (1 + JITTER * self._chance)
        if at >= deadline_at:
            return False
        self._waiting[request_id] = None
        heapq.heappush(self._heap, (at, request_id))
        return True

    @property
    def next_at(self) -> float:
        """When the first is due; there must be one."""
        return self._heap[0][0]

    def __len__(self) -> int:
        return len(self._heap)

    def take_due(self, now: float) -> list[int]:
        """What is to be sent now. It may have ended meanwhile."""
        due: list[int] = []
        while self._heap and self._heap[0][0] <= now:
            request_id = heapq.heappop(self._heap)[1]
            del self._waiting[request_id]
            due.append(request_id)
        return due

    def clear(self) -> None:
        """Forget all."""
        self._heap.clear()
        self._waiting.clear()
