"""A broker whose journal three NATS servers keep, while servers, brokers and the ways between them come to harm, under load."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .conftest import Start
from .nats_faults import FAULTS, Fault

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_nothing_is_lost_and_nothing_answered_twice(fault: Fault, tmp_path: Path, start: Start) -> None:
    if fault.has_disks and os.getuid() != 0:
        pytest.skip("only root can make small disks")
    outcome = fault.outcome(tmp_path, start)
    print(f"{fault.name}: no answer for {outcome.stall_s:.1f} s, standby serves after {outcome.takeover_s} s")
    assert outcome.lost == []
    assert outcome.twice == 0
    assert outcome.answered
