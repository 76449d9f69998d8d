"""Bodies that take their time to come, for a map that must not wait for all of them."""

from __future__ import annotations

import time
from collections.abc import Iterator

SLOW_S = 0.02
"""Between one body and the next: longer than an answer takes."""


class SlowBodies:
    """Numbers, one after the other and slowly, until they are enough; so many that nobody should wait for the last."""

    COUNT = 500

    def __init__(self) -> None:
        self.taken = 0
        self.are_enough = False

    def __iter__(self) -> Iterator[int]:
        while self.taken < self.COUNT and not self.are_enough:
            time.sleep(SLOW_S)
            self.taken += 1
            yield self.taken
