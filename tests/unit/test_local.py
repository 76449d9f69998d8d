"""What `cbw up` does with a role that dies."""

from __future__ import annotations

import pytest

from cbw.local import LocalSystem, Options, Role, Scale, scale_of


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


@pytest.mark.parametrize("text", ["cli=1000", "cli=99999999", "cli=-1", "cli=1.5", "cli=", "cli", "cli=²"])
def test_a_scale_that_no_machine_can_start_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no scale; write a number from 0 to 999, such as cli=2"):
        scale_of([text], Scale())
    assert scale_of(["cli=999", "wor=0"], Scale()) == Scale(cli=999, wor=0)
