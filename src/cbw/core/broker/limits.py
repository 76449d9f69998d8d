"""What the broker allows."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker allows. The settings of the same names in :mod:`cbw.settings` say why each has its default."""

    requests_max: int = 1_000_000
    requests_bytes_max: int = 1 << 30
    services_max: int = 50_000
    body_bytes_max: int = 64 << 20
    parked_bytes_max: int = 256 << 20
    dead_max: int = 10_000
    dead_bytes_max: int = 64 << 20
    attempts_max: int = 3
    liveness_s: float = 3.0
    answer_timeout_s: float = 2.0
    absence_s: float = 60.0
    answers_keep_s: float = 600.0
    results_keep_s: float = 86400.0
    results_bytes_max: int = 256 << 20
    plain_ttl_s: float | None = None
    send_tracebacks: bool = False
    unserved_s: float | None = None

    def why_full(self, count: int, size: int) -> str:
        """Why there is no room beside ``count`` requests with bodies of ``size`` bytes, in words for clients."""
        if count >= self.requests_max:
            return f"{count} requests are here already (--requests-max)"
        return f"{size} bytes of requests are here already (--requests-bytes-max)"

    def excess(self, count: int, size: int, more: int) -> float:
        """How many of ``count`` requests with ``size`` bytes of bodies have to end before there is room for ``more`` bytes."""
        excess_bytes = size + more - self.requests_bytes_max
        return max(1, count + 1 - self.requests_max, excess_bytes * count / max(1, size))
