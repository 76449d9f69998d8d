"""Several journals on the same NATS servers, of which a broker takes one.

Each has an owner of its own, and a broker that stands by goes on with any of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from cbw.journal.takeover import ASK_S

if TYPE_CHECKING:
    from cbw.journal.nats import NatsJournal


class NatsChoice:
    """Two ``journals`` or more. A broker that stands by asks the owners of all, and takes the first whose owner is gone."""

    def __init__(self, journals: Sequence[NatsJournal]) -> None:
        self._journals = journals
        self._told: dict[NatsJournal, str] = {}

    def acquire(self, is_stopped: Callable[[], bool], tell: Callable[[str], None]) -> NatsJournal | None:
        """Wait until one is ours, close the others, and return it. None: ``is_stopped`` said so before. ``tell`` is told what is
        waited for, of each journal whenever that changes.

        Raises:
            JournalError: one cannot be used.
        """
        while not is_stopped():
            asked_at = time.monotonic()
            for journal in self._journals:
                if not is_stopped() and journal.try_to_take(partial(self._tell, journal, tell)):
                    self._close_all_but(journal)
                    return journal
            time.sleep(max(0.0, ASK_S - (time.monotonic() - asked_at)))
        return None

    def _tell(self, journal: NatsJournal, tell: Callable[[str], None], problem: str) -> None:
        if self._told.get(journal) != problem:
            self._told[journal] = problem
            tell(problem)

    def describe(self) -> dict[str, Any]:
        """What is known of the journals, for people: one that is nobody's; ``journals`` has the descriptions of all."""
        all_of_them = [journal.describe() for journal in self._journals]
        names = ", ".join(journal.place.name for journal in self._journals)
        return all_of_them[0] | {"name": names, "owner": None, "journals": all_of_them}

    def close(self) -> None:
        """Give back what is ours. May be called twice."""
        self._close_all_but(None)

    def _close_all_but(self, taken: NatsJournal | None) -> None:
        for journal in self._journals:
            if journal is not taken:
                journal.close()
