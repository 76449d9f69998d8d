"""What the broker allows."""

from __future__ import annotations

import msgspec

NAME_CHARS_MAX = 200
"""Longest id or service name. Names stand in every trace line and metric."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker allows. The settings of the same names in :mod:`cbw.settings` say why each has its default."""

    requests_max: int = 1_000_000
    requests_bytes_max: int = 1 << 30
    body_bytes_max: int = 64 << 20
    kept_bytes_max: int = 256 << 20
    attempts_max: int = 3
    liveness_s: float = 3.0
    answer_timeout_s: float = 2.0
    absence_s: float = 60.0
    plain_ttl_s: float | None = None


def is_name(name: str) -> bool:
    """Whether a peer may call itself so."""
    return 0 < len(name) <= NAME_CHARS_MAX
