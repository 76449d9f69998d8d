"""The log is in order and accounts for every number, whatever arrives when: random batches (Hypothesis)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbw.core import log_events
from cbw.core.logger import WRITE_RETRY_S, Fsync, LoggerCore
from tests.unit.core.test_logger import Log, batch, numbers


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 8), st.integers(0, 3), st.sampled_from(["ok", "fail", "crash"])),
        max_size=30,
    )
)
def test_the_log_is_always_in_order_and_accounts_for_every_number(steps: list[tuple[int, int, int, str]]) -> None:
    """Whatever arrives, again, out of order or with holes, and however often the logger is killed."""
    log = Log()
    found: list[dict[str, Any]] = []
    now = 0.0
    for back, count, dropped, end in steps:
        now += WRITE_RETRY_S
        position = log.core.positions.get("b", 0)
        first = max(1, position + 1 - back + dropped)
        log.failing = set() if end == "ok" else {log_events.Write}
        log.turn(batch(first, count, oldest=max(1, first - (0 if dropped else back))), now=now)
        found += log.records()
        if end == "crash":
            log = Log()
            known = max(numbers(found) + [gap_end(record) for record in found], default=0)
            log.next_taken = log_events.FileTaken({"b": known})
            log.turn(now=now)
    log.failing = set()
    log.turn(now=now + WRITE_RETRY_S)
    found += log.records()
    written = numbers(found)
    assert written == sorted(set(written)), "in order, and none twice"
    missing = sum(record["count"] for record in found if record.get("event") == "gap")
    last = max(written + [gap_end(record) for record in found], default=0)
    assert len(written) + missing == last, "every number is there or counted"


def gap_end(record: dict[str, Any]) -> int:
    """The last number of a gap."""
    return int(record["text"].split(" of ")[0].split(" to ")[1]) if record.get("event") == "gap" else 0


def test_a_fact_that_is_none_is_an_error_of_the_shell() -> None:
    with pytest.raises(TypeError):
        LoggerCore("LOG", "own", epoch=0.0, fsync=Fsync.NEVER).step([object()], 0.0)  # type: ignore[list-item]
