"""Ten seconds of ``make attack``: whatever strangers say to its ports, no role ends, and its clients get their answers."""

from __future__ import annotations

from pathlib import Path

from tests.attack.__main__ import run

SECONDS = 10.0


def test_strangers_end_no_role_and_lose_nobodys_answer(tmp_path: Path) -> None:
    found = run(SECONDS, seed=1, folder=tmp_path, attackers=1)
    assert found["faults"] == []
    assert isinstance(found["requests"], int) and found["requests"] > 50
    assert all(move in str(found["moves"]) for move in ("frame_wrongly", "mutate", "speak_nonsense")), found
