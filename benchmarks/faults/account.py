"""What the ledger of a run says: pure counting, which knows nothing of the system that was treated."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.faults.ledger import Line


class Account(NamedTuple):
    """What became of the requests of one run. The counts are requests; the times are seconds after the kill.

    A time is None if it never came: no answer after the kill, no request in hand, or not all were answered.
    """

    asked: int
    answered: int
    lost: int
    """Neither answered nor failed when the time was over."""
    failed: int
    """Their client was told that they have failed."""
    begun_twice: int
    """A handler began them more than once. That is right for a request whose worker was killed."""
    done_twice: int
    """A handler went through them to its end more than once."""
    answered_twice: int
    """Their client got a second answer, or another one when it looked again."""
    first_answer_s: float | None
    """Until the first answer to a request that a handler ended after the kill. (Earlier ones may have been on their way.)"""
    in_hand_s: float | None
    """Until the answer of the request that the killed process had in hand."""
    all_answered_s: float | None
    silence_s: float | None
    """The longest time after the kill in which no answer came, although some were still to come."""


def account_of(lines: Iterable[Line], killed_at: float, in_hand: str | None) -> Account:
    """Count. ``in_hand`` is the request that was being handled by what was killed at ``killed_at``, if it was a worker."""
    times: dict[str, dict[str, list[float]]] = {}
    for at, what, request, _ in sorted(lines):
        times.setdefault(what, {}).setdefault(request, []).append(at)
    asked, answers = times.get("asked", {}), times.get("answered", {})
    failed = [request for request in times.get("failed", {}) if request not in answers]
    lost = [request for request in asked if request not in answers and request not in failed]
    first_answers = [ats[0] for ats in answers.values()]
    worked = [request for request, ats in times.get("done", {}).items() if ats[-1] > killed_at]
    after = [answers[request][0] for request in worked if request in answers and answers[request][0] > killed_at]
    is_complete = bool(asked) and all(request in answers for request in asked)
    return Account(
        asked=len(asked),
        answered=len(answers),
        lost=len(lost),
        failed=len(failed),
        begun_twice=_repeated(times.get("begun", {})),
        done_twice=_repeated(times.get("done", {})),
        answered_twice=_repeated(answers),
        first_answer_s=min(after) - killed_at if after else None,
        in_hand_s=answers[in_hand][0] - killed_at if in_hand in answers else None,
        all_answered_s=max(first_answers) - killed_at if is_complete else None,
        silence_s=_longest_pause([killed_at, *sorted(at for at in first_answers if at > killed_at)]),
    )


def _longest_pause(ats: Sequence[float]) -> float | None:
    return max((later - earlier for earlier, later in itertools.pairwise(ats)), default=None)


def _repeated(times: dict[str, list[float]]) -> int:
    return sum(len(ats) > 1 for ats in times.values())


def in_the_middle(lines: Iterable[Line], worker: str) -> tuple[str, int] | None:
    """The request that ``worker`` has begun and not ended, the latest if there are several, and the process that handles it."""
    open_ones: dict[tuple[str, str], None] = {}
    for _, what, request, who in lines:
        if what == "begun":
            open_ones[request, who] = None
        elif what == "done":
            open_ones.pop((request, who), None)
    mine = [(request, who) for request, who in open_ones if who.split()[0] == worker]
    return (mine[-1][0], int(mine[-1][1].split()[1])) if mine else None


def done_by(lines: Iterable[Line], worker: str) -> int:
    """How many requests a worker has ended."""
    return Counter(line.note.split()[0] for line in lines if line.what == "done")[worker]


def cell(values: Sequence[float | None], digits: int = 0) -> str:
    """The median of some runs as text, and their range where they differ; a dash where it never came.

    A run in which it never came counts as longer than every other one.
    """
    ordered = sorted(float("inf") if value is None else value for value in values)
    texts = ["-" if value == float("inf") else f"{value:.{digits}f}" for value in ordered]
    middle = texts[len(texts) // 2]
    return middle if texts[0] == texts[-1] else f"{middle} ({texts[0]} to {texts[-1]})"
