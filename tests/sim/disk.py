"""The disk with the broker's journal: slow, full, or standing still now and then; and what a crash leaves on it.

As :class:`cbw.journal.writer.Writer` does, the port hands what has gathered to the disk as one append. When a broker dies,
what was only put is lost. The append under way is on the disk as a whole or not at all, as a transaction is; if the power
failed, any number of its first batches may be there instead, as on a journal without transactions. What is torn has the wrong
checksum and counts as missing. An append may be on the disk long before the broker is told so.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable

from .plan import JournalPlan
from .world import World

FULL_RETRY_S = 0.25
"""Between two attempts to write to a full disk."""
ODD_APPENDS = 0.02
"""Share of the appends that take a hundred times as long as others, or a second."""
CLOSE_S = 5.0
"""Seconds for which a broker that stops waits for its disk."""
UNKNOWN = "the journal does not say whether it has stored what was written last; asking again"


class Disk:
    """What survives a broker. ``watch`` is told each batch that is on it, as soon as no crash can take it away again."""

    def __init__(self, world: World, plan: JournalPlan, name: str, watch: Callable[[int], None]) -> None:
        self.world = world
        self.batches: dict[int, bytes] = {}
        self.next_position = 1
        self.troubled_at = -1e9
        """When it was slow or full last."""
        self.rng = random.Random(f"{name} {world.seed}")
        self._plan = plan
        self._watch = watch
        self._still_until = 0.0
        self._sluggish_until = 0.0
        self._full_until = 0.0

    def stand_still(self, seconds: float) -> None:
        """Nothing that is written now gets there within ``seconds``."""
        self._still_until = max(self._still_until, self.world.now + seconds)

    def be_sluggish(self, seconds: float) -> None:
        """Everything takes a thousand times as long, for so long."""
        self._sluggish_until = self.world.now + seconds

    def fill(self, seconds: float) -> None:
        """Somebody else has taken all space, for so long."""
        self._full_until = self.world.now + seconds

    def heal(self) -> None:
        """Be a good disk from now on."""
        self._still_until = self._sluggish_until = self._full_until = 0.0

    @property
    def is_full(self) -> bool:
        if self.world.now < self._full_until:
            self.troubled_at = self.world.now
            return True
        return False

    def draw_s(self) -> float:
        """How long the next append takes."""
        low, high = self._plan.append_s
        seconds = self.rng.uniform(low, high)
        if self.rng.random() < ODD_APPENDS:
            seconds = min(1.0, 100 * seconds)
        if self.world.now < self._sluggish_until:
            seconds = min(0.5, 1000 * seconds)
        seconds = max(seconds, self._still_until - self.world.now)
        if seconds > 0.5:
            self.troubled_at = self.world.now + seconds
        return seconds

    def store(self, batches: list[tuple[int, bytes]]) -> None:
        """These are there to stay."""
        for position, data in batches:
            assert position == self.next_position, f"batch {position} is written where {self.next_position} comes next"
            self.next_position += 1
            self.batches[position] = data
            self._watch(position)

    def drop(self, before: int, share: float) -> bool:
        """Drop ``share`` of the batches before this position, the oldest first; whether there are more."""
        old = [position for position in self.batches if position < before]
        for position in old[: 1 + int(len(old) * share)]:
            del self.batches[position]
        return any(position < before for position in self.batches)


class SimJournal:
    """A broker's port to the disk: :class:`cbw.core.port.JournalPort`. ``wake`` is called when there is news.

    ``on_put`` sees each batch that the broker hands over.
    """

    def __init__(self, disk: Disk, wake: Callable[[], None], on_put: Callable[[int, bytes], None]) -> None:
        self.stored = disk.next_position - 1
        self.problem = ""
        self.filled = 0.0
        self._disk = disk
        self._world = disk.world
        self._wake = wake
        self._on_put = on_put
        self._is_open = True
        self._next = disk.next_position
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._writing: list[tuple[int, bytes]] = []
        self._put_at: deque[float] = deque()  # of both
        self._is_on_disk = False
        self._is_retrying = False
        self._compactions: deque[tuple[int, int]] = deque()  # drop before this, once that is stored

    def put(self, position: int, batch: bytes) -> None:
        assert self._is_open and position == self._next, f"batch {position} was put where {self._next} comes next"
        self._next += 1
        self._on_put(position, batch)
        self._put_at.append(self._world.now)
        self._waiting.append((position, batch))
        self._begin()

    def compact(self, before: int) -> None:
        self._compactions.append((before, self._next - 1))

    @property
    def waited_since(self) -> float:
        """Since when the oldest batch waits that is not stored, as far as the broker knows; infinity: there is none."""
        return self._put_at[0] if self._put_at else math.inf

    def _begin(self) -> None:
        if not self._is_open or self._writing or self._is_retrying or not self._waiting:
            return
        disk, world = self._disk, self._world
        if disk.is_full:
            self._tell("the disk is full")
            self._is_retrying = True
            world.after(FULL_RETRY_S, self._retry)
            return
        self._tell("")
        self._writing, self._waiting = list(self._waiting), deque()
        self._is_on_disk = False
        seconds = disk.draw_s()
        world.after(seconds * disk.rng.choice([0.5, 0.9, 1.0, disk.rng.random()]), self._reached_disk)
        world.after(seconds, self._ended)
        if seconds > 1 and disk.rng.random() < 0.3:
            self._tell(UNKNOWN)

    def _retry(self) -> None:
        self._is_retrying = False
        self._begin()

    def _reached_disk(self) -> None:
        if self._is_open:
            self._is_on_disk = True
            self._disk.store(self._writing)

    def _ended(self) -> None:
        if not self._is_open:
            return
        self.stored = self._writing[-1][0]
        for _ in self._writing:
            self._put_at.popleft()
        self._writing = []
        self._wake()
        before = 0
        while self._compactions and self._compactions[0][1] <= self.stored:
            before = self._compactions.popleft()[0]
        if before:
            self._world.counts["journal compacted"] += 1
            self._drop(before)
        self._begin()
        if not self._waiting and not self._writing:
            self._tell("")

    def _drop(self, before: int) -> None:
        disk = self._disk
        if self._is_open and disk.drop(before, disk.rng.random()):
            self._world.after(disk.rng.uniform(0, 0.01), self._drop, before)

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            self._wake()

    def close(self) -> None:
        """The broker stops, in order: the disk gets what was put, unless it takes too long."""
        if self._disk.is_full or self._disk.draw_s() > CLOSE_S:
            self.die(is_silent=False)
            return
        self._is_open = False
        if not self._is_on_disk:
            self._disk.store(self._writing)
        self._disk.store(list(self._waiting))

    def die(self, *, is_silent: bool) -> None:
        """SIGKILL, or the power fails (silent)."""
        self._is_open = False
        if self._writing and not self._is_on_disk:
            rng = self._disk.rng
            whole = len(self._writing)
            kept = rng.randint(0, whole) if is_silent else rng.choice([0, whole])
            self._disk.store(self._writing[:kept])
            self._world.counts["journal batches lost"] += whole - kept
        self._world.counts["journal batches lost"] += len(self._waiting)
