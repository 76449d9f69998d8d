"""The verdict: what the ledgers of clients and workers say together. It knows nothing of the broker."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .ledger import lines_of


class Account(NamedTuple):
    """Counts of requests. Only those count as lost whose client lived until the end."""

    asked: int
    answered: int
    abandoned: int
    """Their clients were killed before the answer came."""
    lost: int
    failed: int
    """They ended with an error: their workers died again and again."""
    wrong: int
    answered_twice: int
    run_twice: int
    run_again_after_answer: int
    """They were begun after their client had the answer, by workers that were not harmed meanwhile: a fault, however often others
    may run twice. (A frozen worker begins what it was sent before when it wakes. And what a program of the lab has lost patience
    with and asked a second time is two requests: its dialect has no number by which a broker could know.)"""
    worst: list[str]

    @property
    def is_clean(self) -> bool:
        """Whether no promise was broken."""
        return not (self.lost or self.wrong or self.answered_twice or self.run_again_after_answer)


def account_of(path: Path) -> Account:
    """Read the ledger of a chaos."""
    sent: dict[str, float] = {}
    harmed: dict[str, float] = {}  # when last
    got: dict[str, float] = {}
    failed: dict[str, str] = {}
    killed: dict[str, float] = {}
    begun: dict[str, int] = {}
    asked_again: set[str] = set()
    wrong, twice, late, worst = 0, 0, 0, []
    for at, what, request, who in lines_of(path):
        if what == "sent":
            sent[request] = at
        elif what == "got":
            if who.startswith("WRONG"):
                wrong += 1
                worst.append(f"{request} got {who}")
            elif request in got:
                twice += 1
                worst.append(f"{request} was answered twice")
            got[request] = at
        elif what == "failed":
            failed[request] = who
        elif what == "begun":
            begun[request] = begun.get(request, 0) + 1
            if request in got and request not in asked_again and harmed.get(who, 0.0) < sent[request]:
                late += 1
                worst.append(f"{request} was begun by {who} {at - got[request]:.3f} s after its client had the answer")
        elif what == "again":
            asked_again.add(request)
        elif what == "killed":
            killed[request] = at
        elif what == "harmed":
            harmed[who] = at
    open_ones = [request for request in sent if request not in got and request not in failed]
    abandoned = [request for request in open_ones if request.partition("/")[0] in killed]
    lost = [request for request in open_ones if request.partition("/")[0] not in killed]
    worst += [f"{request} was never answered" for request in lost]
    return Account(
        asked=len(sent),
        answered=len(got),
        abandoned=len(abandoned),
        lost=len(lost),
        failed=len(failed),
        wrong=wrong,
        answered_twice=twice,
        run_twice=sum(count > 1 for count in begun.values()),
        run_again_after_answer=late,
        worst=worst[:20],
    )
