"""All checks: pure functions over a recorded trace, so that a saved trace can be judged again.

Each check sees every record once, in the order of time, keeps only what is open, and gives a verdict at the end. One that
finds nothing to judge says so in its figures (``"judged": 0``) and passes; :func:`judge` refuses a trace that holds nothing
at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cbw.core.events import Record
from cbw.errors import UsageError
from cbw.verify.failover import CutOffWorker, FrozenWorker, KilledWorker
from cbw.verify.idle import NoIdleWhileWaiting
from cbw.verify.replies import OwnReplies
from cbw.verify.restart import CompleteLog, RestartedBroker
from cbw.verify.verdict import Check, Verdict


def judge(records: Iterable[Record]) -> list[Verdict]:
    """The verdicts of all checks over ``records``, which must be in the order of time.

    Those of a deployment are among them if it is a deployment that was verified (``cbw verify --compose``).

    Raises:
        UsageError: there is no record.
    """
    checks: list[Check] = [OwnReplies(), NoIdleWhileWaiting(), KilledWorker(), FrozenWorker()]
    of_deployments: list[Check] = [CutOffWorker(), RestartedBroker(), CompleteLog()]
    is_empty = True
    for record in records:
        is_empty = False
        if record.role == "verify" and record.event == "deployed":
            checks += of_deployments
            of_deployments = []
        for check in checks:
            check.see(record)
    if is_empty:
        raise UsageError("the trace holds no record", advice="Run the roles with --trace FILE.")
    return [check.verdict() for check in checks]


def report(verdicts: Iterable[Verdict]) -> Mapping[str, object]:
    """The verdicts as ``--json`` prints them."""
    verdicts = list(verdicts)
    checks = [{"name": v.name, "passed": v.passed, "figures": v.figures} for v in verdicts]
    return {"checks": checks, "passed": all(verdict.passed for verdict in verdicts)}
