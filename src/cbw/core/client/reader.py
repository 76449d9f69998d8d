"""How far one answer in parts has come to a client, and for how many more parts its program has room."""

from __future__ import annotations

from cbw.core.messages import AnswerPart, StreamRequest
from cbw.core.parts import PARTS_FIRST, PARTS_MAX, PARTS_ROOM_BYTES


class Reader:
    """Reads the answer to one request. Parts are numbered from 1; part 1 once more says that the answer begins anew."""

    __slots__ = ("_largest", "_taken", "received", "task", "wanted")

    def __init__(self) -> None:
        self.received = 0
        self.wanted = PARTS_FIRST
        """The number of the last part that the broker was told there is room for."""
        self.task = 0  # the attempt that the parts are of
        self._taken = 0  # below 0: parts of an earlier attempt are still to be taken
        self._largest = 1

    def came(self, part: AnswerPart) -> bool:
        """``part`` has come; whether its program is to get it.

        If others are missing they were lost with a connection. Then the request is being sent again, and the broker sees by what
        it says has been ``received`` that the answer is broken, or begins anew.
        """
        if part.number == 1:
            self._taken, self.wanted, self.task = self._taken - self.received, PARTS_FIRST, part.task
        elif part.number != self.received + 1 or part.task != self.task:
            return False
        self.received = part.number
        self._largest = max(self._largest, len(part.body))
        return True

    def took(self, count: int) -> bool:
        """Its program has taken so many parts more; whether the broker is to be told that more are ``wanted``."""
        self._taken += count
        room = min(PARTS_MAX, max(1, PARTS_ROOM_BYTES // self._largest))
        if self._taken + room - self.wanted < (room + 1) // 2:
            return False
        self.wanted = self._taken + room
        return True

    def ask_again(self, request: StreamRequest) -> None:
        """``request`` is about to be sent, perhaps once more."""
        request.received, request.parts, request.task = self.received, self.wanted, self.task
