"""When a standby broker may take a journal over: its owner has fallen silent, as far as the servers between them can tell."""

from __future__ import annotations

ASK_S = 0.5
"""A standby asks the owner so often whether it lives."""
SILENT_S = 2.0
"""An owner that has not answered for so long, while its connection still stands, is frozen or cut off."""
GONE_S = 1.0
"""An owner whose connection is gone has ended, unless it has another one within this time: it may be changing servers."""


class Takeover:
    """Is told what came of each question, and says whether the journal may be taken. That is no more than courtesy: whoever
    takes it wrongly loses nothing, but makes the owner end for no reason."""

    def __init__(self) -> None:
        self._gone_since: float | None = None
        self._silent_since: float | None = None

    def answered(self) -> None:
        """The owner lives."""
        self._gone_since = self._silent_since = None

    def nobody(self, now: float, *, is_given_back: bool) -> bool:
        """Nobody is there to be asked. ``is_given_back``: the last owner has said that it ends."""
        if is_given_back:
            return True
        if self._gone_since is None:
            self._gone_since = now
        self._silent_since = None
        return now - self._gone_since >= GONE_S

    def silent(self, now: float, asked_at: float, *, is_connected: bool) -> bool:
        """The question, asked at ``asked_at``, was not answered in time. Whoever is not connected can tell nothing."""
        self._gone_since = None
        if not is_connected:
            self._silent_since = None
            return False
        if self._silent_since is None:
            self._silent_since = asked_at
        return now - self._silent_since >= SILENT_S
