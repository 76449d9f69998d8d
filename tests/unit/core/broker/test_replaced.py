"""Identities that another program has taken, all in one step: as after a broker stood still."""

from __future__ import annotations

from .system import CoreSystem, plain_said


def test_a_refusal_does_not_reach_the_program_that_has_the_identity_now() -> None:
    system = CoreSystem(body_bytes_max=10)
    system.tell(
        plain_said(b"R1", (b"",), bytes(20)),
        plain_said(b"R1", (b"",), b"another program's", is_replaced=True),
    )
    assert len(system.plain_replies["R1"]) == 1
