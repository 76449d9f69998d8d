"""What the owner of a journal knows of those that stand by."""

from __future__ import annotations

from cbw.journal.standbys import (
    GONE_AFTER_S,
    STANDBY_NAME_CHARS_MAX,
    STANDBY_TOKEN_BYTES,
    STANDBYS_MAX,
    Standbys,
    question,
)


def token(number: int) -> bytes:
    return number.to_bytes(STANDBY_TOKEN_BYTES, "big")


def test_who_has_asked_lately_stands_by() -> None:
    standbys = Standbys()
    standbys.asked(question(token(1), "BRO_b"), 10.0)
    standbys.asked(question(token(2), "BRO_a"), 11.0)
    assert standbys.present(11.0) == ["BRO_a", "BRO_b"]
    assert standbys.present(10.0 + GONE_AFTER_S) == ["BRO_a"]
    standbys.asked(question(token(1), "BRO_b"), 12.5)
    assert standbys.present(12.5) == ["BRO_a", "BRO_b"]


def test_two_of_one_name_are_two() -> None:
    standbys = Standbys()
    for number in (1, 2):
        standbys.asked(question(token(number), "BRO_x"), 0.0)
    assert standbys.present(0.0) == ["BRO_x", "BRO_x"]


def test_who_only_looks_does_not_stand_by() -> None:
    """As ``cbw doctor``, and a standby of an earlier version."""
    standbys = Standbys()
    for data in (b"", b"x", token(1)):
        standbys.asked(data, 0.0)
    assert standbys.present(0.0) == []


def test_whatever_is_asked_takes_little() -> None:
    standbys = Standbys()
    for number in range(STANDBYS_MAX + 5):
        standbys.asked(token(number) + b"\xff" * 1_000_000, float(number) / 1000)
    present = standbys.present(0.03)
    assert len(present) == STANDBYS_MAX and {len(name) for name in present} == {STANDBY_NAME_CHARS_MAX}
