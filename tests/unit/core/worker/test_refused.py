"""An id that is taken, more than once."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.hello import DUPLICATE_PATIENCE_S
from cbw.core.worker.core import WorkerCore
from cbw.core.worker.events import BatchArrived, Connected


def test_refusals_from_before_a_welcome_do_not_count() -> None:
    taken = messages.Refused(messages.Refusal.DUPLICATE_ID, "W1 is here")
    core = WorkerCore("W1", "boot", [""], 1)
    core.step([Connected()], 0.0)
    core.step([BatchArrived([taken])], 0.0)
    core.step([], 1.0)  # says hello again
    core.step([BatchArrived([messages.Welcome("BRO", "b", 3.0, 1000)])], 1.0)
    core.step([BatchArrived([messages.HelloAgain()])], 1.5)  # over the same connection
    core.step([BatchArrived([taken])], DUPLICATE_PATIENCE_S + 0.5)
    assert not core.is_ended
