"""How often a worker beats whose dialect agrees on no rate, and how long the broker waits for its next word.

Majordomo and Paranoid Pirate want both sides to beat at "agreed-upon intervals" and to give the other up after "usually 3-5" of
them (RFC 6, 7 and 18), but no message tells the interval. So the broker learns it from the beats themselves. Most programs
have one thread: they beat while they wait for a task, and are silent while they work on one, whatever the RFCs say (the guide's
``mdwrkapi`` and ``ppworker``, PyPI's ``majortomo``). The brokers of those programs therefore never take a busy worker for lost,
or only after 900 s; this one gives it the time for an answer that it gives REQ workers, and three beats more.
"""

from __future__ import annotations

from cbw.core.broker.limits import Limits

BEATS_MISSED_MAX = 3
"""Beats that a worker may miss. The RFCs say 3 to 5; the guide's programs and our own take 3."""
USUAL_GAP_S = 2.5
"""Time between beats of a busy worker that has not beaten yet: the default of the guide's Majordomo programs and of
``majortomo``. (Paranoid Pirate workers of the guide beat every second.)"""
DECAY = 0.9
"""What is left of the longest time between two beats with each further beat: after 22 beats a tenth. One long silence, as of a
machine that was suspended, is thus forgotten, while a rate that varies by half counts with its longer times."""
TELL_S = 1.0
"""Time between the broker's own beats to a worker that has nothing to do and whose rate is not known: ours, and that of
Paranoid Pirate workers, which give a broker up after 3 s."""
TELL_GAPS = 1.25
"""The broker answers each beat with one. It beats by itself only if it has not done so for this many times of the worker's
rate: ``majortomo`` sends no beat after a long task, and gives the broker up. Oftener is worse: each beat wakes a worker that
polls, and one that looks at its clock only then beats every 3.0 s instead of every 2.5 s (measured, also for the guide's)."""


class Pulse:
    """What is known of the beats of one worker."""

    __slots__ = ("_at", "_during", "gap_s", "is_beating_at_work", "told_at")

    def __init__(self, now: float) -> None:
        self.gap_s = 0.0
        """The longest time between two of its beats, with old ones counting less; 0: it has not sent two yet."""
        self.is_beating_at_work = False
        """Whether it has been heard to beat while it worked on a task."""
        self.told_at = now
        """When the broker last sent it a beat."""
        self._at: float | None = None  # of its last beat
        self._during = (0, 0)

    def beat(self, now: float, during: tuple[int, int]) -> None:
        """Note a beat. ``during``: how many attempts have ended at the worker, and the task in hand, 0 if it has none.

        Two beats count only if nothing has changed between them: a worker with one thread is late with its beat after a task.
        For the same reason two beats during one task prove a second thread; a single one may have crossed with the task.
        """
        if self._at is not None and self._during == during:
            self.gap_s = max(now - self._at, DECAY * self.gap_s)
            self.is_beating_at_work = self.is_beating_at_work or during[1] > 0
        self._at = now
        self._during = during

    @property
    def tell_at(self) -> float:
        """When the broker has to beat by itself, if the worker has nothing to do."""
        return self.told_at + max(TELL_S, TELL_GAPS * self.gap_s)

    def patience_s(self, limits: Limits, *, is_busy: bool) -> float:
        """How long it may be silent.

        One whose rate is not known may beat as seldom as every minute, so it has the time for which absent peers are
        remembered. Not if it is busy, or a request would wait that long for a worker that hangs.
        """
        gap_s = self.gap_s or (USUAL_GAP_S if is_busy else limits.absence_s)
        return max(limits.liveness_s, min(limits.absence_s, BEATS_MISSED_MAX * gap_s))
