"""Who stands by for a journal: each standby asks twice a second whether the owner lives, and says its name with that."""

from __future__ import annotations

from cbw.journal.takeover import ASK_S

GONE_AFTER_S = 6 * ASK_S
"""A standby whose last question is older has ended, or is cut off: so many of its questions are missing."""
STANDBYS_MAX = 20
"""Standbys that are remembered, those that have asked last: everybody who may use the servers can ask."""
STANDBY_NAME_CHARS_MAX = 200
"""Longest name that is kept, in characters: names of machines are shorter."""
STANDBY_TOKEN_BYTES = 8
"""In front of the name, so that two standbys of one name are two."""


def question(token: bytes, name: str) -> bytes:
    """What a standby asks with. Whoever stands by for nobody asks with nothing."""
    assert len(token) == STANDBY_TOKEN_BYTES
    return token + name.encode()


class Standbys:
    """Is told of each question, and tells who has asked lately."""

    def __init__(self) -> None:
        self._asked: dict[bytes, tuple[str, float]] = {}  # by token; who asked last is last

    def asked(self, data: bytes, now: float) -> None:
        """Somebody has asked at ``now`` with ``data``, which may be anything."""
        token, name = (
            data[:STANDBY_TOKEN_BYTES],
            data[STANDBY_TOKEN_BYTES:].decode(errors="replace")[:STANDBY_NAME_CHARS_MAX],
        )
        if not name:
            return  # it only looks, or is of an earlier version
        self._asked.pop(token, None)
        self._asked[token] = name, now
        if len(self._asked) > STANDBYS_MAX:
            del self._asked[next(iter(self._asked))]

    def present(self, now: float) -> list[str]:
        """The names of those that stand by, sorted. Safe from any thread."""
        return sorted(name for name, at in tuple(self._asked.values()) if now - at < GONE_AFTER_S)
