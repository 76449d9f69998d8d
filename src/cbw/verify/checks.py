"""All checks of ``cbw verify``: pure functions over a recorded trace, so that a saved trace can be judged again.

Each check sees every record once, in the order of time, remembers only what is still open, and gives a verdict at the end.
A check that finds nothing to judge says so in its figures (``"judged": 0``) and passes; :func:`judge` refuses an empty
trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.errors import UsageError
from cbw.verify.failover import CutOffWorker, FrozenWorker, KilledWorker
from cbw.verify.idle import NoIdleWhileWaiting
from cbw.verify.lab_checks import BadFrames, LeastRecentlyUsed, OneAtATime
from cbw.verify.replies import OwnReplies
from cbw.verify.restart import BrokerDown, CompleteLog
from cbw.verify.several import FencedZombie, WorkShared
from cbw.verify.verdict import Check, Verdict

DOWN_BESIDE_OTHERS = (catalogue.BROKER_FROZEN, catalogue.BROKER_CUT_OFF, catalogue.OWNER_KILLED)
"""How a broker is brought down only if there are others."""


def judge(records: Iterable[Record]) -> list[Verdict]:
    """The verdicts of all checks over ``records``, which must be in the order of time.

    The checks of a deployment are among them if a deployment was verified (``cbw verify --compose``), those of several brokers
    if it has several, and those of a broker of the lab, which is never brought down, if one was (``--dialect lab``).

    Raises:
        UsageError: there are no records.
    """
    brokers = [BrokerDown(event) for event in (catalogue.BROKER_KILLED, catalogue.BROKER_RESTARTED)]
    checks: list[Check] = [OwnReplies(), NoIdleWhileWaiting(), KilledWorker(), FrozenWorker(), *brokers]
    of_deployments: list[Check] = [CutOffWorker(), CompleteLog()]
    of_several: list[Check] = [WorkShared(), *map(BrokerDown, DOWN_BESIDE_OTHERS), FencedZombie()]
    of_the_lab: list[Check] = [LeastRecentlyUsed(), OneAtATime(), BadFrames()]
    is_empty = True
    for record in records:
        is_empty = False
        if record.role == "verify" and record.event == catalogue.DEPLOYED:
            checks += of_deployments
            of_deployments = []
            if record.count > 1:
                checks += of_several
                of_several = []
        elif record.role == "verify" and record.event == catalogue.LAB_SPOKEN:
            checks = [check for check in checks if check not in brokers] + of_the_lab
            brokers, of_the_lab = [], []
        for check in checks:
            check.see(record)
    if is_empty:
        raise UsageError("the trace holds no record", advice="Run the roles with --trace FILE.")
    return [check.verdict() for check in checks]


def summary_of(verdicts: Iterable[Verdict], unseen: Sequence[str] = ()) -> Mapping[str, object]:
    """The verdicts as ``--json`` prints them, with what could not be seen."""
    verdicts = list(verdicts)
    checks = [{"name": v.name, "passed": v.passed, "figures": v.figures} for v in verdicts]
    return {"checks": checks, "passed": all(verdict.passed for verdict in verdicts), "unseen": list(unseen)}
