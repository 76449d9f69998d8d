"""What `cbw up` does with a role that dies."""

from __future__ import annotations

import pytest

from cbw.local import LocalSystem, Options, Role


@pytest.mark.parametrize(("restarts", "delay_s"), [(0, 0.5), (1, 1.0), (3, 4.0), (4, 4.0), (100_000, 4.0)])
def test_it_is_started_again_later_each_time_up_to_a_limit(restarts: int, delay_s: float) -> None:
    said: list[str] = []
    role = Role("wor_1", ["false"], lambda *_: None)
    role.restarts = restarts
    role.start()
    assert role.process is not None
    role.process.wait(10)
    with LocalSystem(Options(), lambda _, line: said.append(line)) as system:
        system._look_after(role)
    assert said == [f"exited with 1; starting it again in {delay_s:g} s"]
