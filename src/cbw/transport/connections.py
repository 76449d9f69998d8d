"""Which peer of a ROUTER speaks over which connection, and which of them are lost: from descriptors, which are reused at once.

Two things are known of a connection: the monitor says when its descriptor was accepted and when it ended, and each message
tells the descriptor it came over. What a peer said before its connection ended may be read after the news of its end, and
after the news of another connection with the same descriptor. So a message is for certain one of the living connection only if
none with its descriptor has ended since everything was last read. Until then whoever speaks may be the one that lives, and no
peer is lost for the words of another.

An identity that begins with zero was made up by the ROUTER: it stands for one connection, and the later of two has the larger
number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Set as AbstractSet

DISPUTE_S = 60.0
"""Time after two connections had one identity in which the one that lost it may come back and take it again."""
LAST_WORDS_S = 0.05
"""Time for which a broker that has much to read supposes that a lost peer has said more than was read: see ``take_lost``."""
_NOBODY: AbstractSet[bytes | None] = frozenset()
_HALF = 1 << 31


class Connections:
    """The connections of one ROUTER."""

    def __init__(self) -> None:
        self.count = 0
        """Those that were made so far."""
        self.lost: list[bytes] = []
        """Peers that are lost, and not taken yet."""
        self.is_all_read = True
        """Whether all is read that was said over connections whose end has been told."""
        self.certain: set[bytes] = set()
        """Made-up identities that are known to live: nothing that they say changes anything."""
        self._numbers: dict[int, int] = {}  # of the living connections, by descriptor: how many were made before
        self._silent: set[int] = set()  # those that have said nothing yet
        self._peers_of: dict[int, list[bytes]] = {}  # who speaks over it, or may
        self._fd_of: dict[bytes, int] = {}
        self._last_fd_of: dict[bytes, int] = {}  # of those in ``lost``
        self._uncertain: set[int] = set()  # those of which it is not certain who speaks over them
        self._ended: dict[int, set[bytes | None]] = {}  # ended, but not all is read: whose they were; None: not known
        self._displaced: dict[int, bytes] = {}  # those that live on without their identity, which another has taken
        self._held: Counter[bytes] = Counter()  # such ones that the ROUTER has let go of, by what identity they had
        self.disputed: dict[bytes, tuple[int, float]] = {}  # the connection that has it, by its number; until when
        self._told_uncertain: dict[bytes, None] = {}
        self._ended_at = 0.0  # when the latest end was told
        self._lost_at: float | None = None  # since when somebody is in ``lost``

    # --- facts

    def accepted(self, fd: int) -> None:
        """A connection was made."""
        self.count += 1
        self._numbers[fd] = self.count
        self._silent.add(fd)

    def ended(self, fd: int, now: float) -> None:
        """A connection ended."""
        self._ended_at = now
        self._numbers.pop(fd, None)
        displaced = self._displaced.pop(fd, None)
        if displaced is not None:  # nothing that it said is still to be read: a ROUTER drops that
            self._end_dispute(displaced, now)
            return
        peers = self._peers_of.pop(fd, [])
        is_known = bool(peers) and fd not in self._uncertain
        self.is_all_read = False
        self._ended.setdefault(fd, set()).update(peers if is_known else [*peers, None])
        self._silent.discard(fd)
        self._uncertain.discard(fd)
        for peer in peers:
            self._lose(peer)

    def hold(self, fd: int) -> None:
        """A displaced connection is to live on when the ROUTER lets go of it, which :meth:`ended` will tell, until
        :meth:`released`.
        """
        self._held[self._displaced[fd]] += 1

    def released(self, peer: bytes, now: float) -> None:
        """A connection that was held, and was ``peer``'s, has ended."""
        self._held[peer] -= 1
        self._held += Counter()  # without those of which there are none
        self._end_dispute(peer, now)

    def spoke(self, peer: bytes, fd: int) -> bool:
        """``peer`` has said something over a connection; whether it spoke over another one before, or may have.

        The monitor must have been read after the message.
        """
        before = self._fd_of.get(peer)
        if before == fd and fd not in self._uncertain:
            return False
        was_known = before is not None or peer in self.lost
        ended = self._ended.get(fd, _NOBODY)
        is_certain = peer not in ended and None not in ended
        if not self._may_live(peer, fd, before, ended, is_certain):
            if not was_known:  # and that is all that it will ever have said
                self._lose(peer)
                return False
            return before is None and self._is_from_another(peer, fd, ended)
        if before is not None and before != fd:
            self._leave(peer, before, fd)
        elif peer in self.disputed:  # it is back, over a newer connection than the one that it was disputed over
            self.disputed[peer] = self._numbers[fd], self.disputed[peer][1]
        here = [other for other in self._peers_of.get(fd, ()) if other != peer]
        wrong = [other for other in here if is_certain or _is_later(peer, other)]
        for other in wrong:
            self._lose(other)
        self._fd_of[peer] = fd
        self._peers_of[fd] = [*(other for other in here if other not in wrong), peer]
        self._silent.discard(fd)
        if is_certain:
            self._uncertain.discard(fd)
            if peer[0] == 0:
                self.certain.add(peer)
        else:
            self._uncertain.add(fd)
        # A descriptor that has just ended may be another connection's now, and both have spoken: nothing tells which did.
        return was_known and (before != fd or not is_certain)

    def all_is_read(self) -> None:
        """Note that there is nothing more to be read, and was nothing since the monitor was read last."""
        self.is_all_read = True
        self._ended.clear()

    # --- questions

    def descriptor_of(self, peer: bytes) -> int | None:
        """The connection that ``peer`` speaks over; None: it has none, or its version of ZMTP does not tell."""
        return self._fd_of.get(peer)

    def take_lost(self, now: float) -> list[bytes]:
        """The peers that were lost since the last call. Handle what was read before this.

        Until all is read, their last words may be among what is not; but nobody waits for those longer than
        ``LAST_WORDS_S``.
        """
        if self.lost and not self.is_all_read:
            self._lost_at = self._lost_at or now
            if now - self._lost_at < LAST_WORDS_S:
                return []
        self._lost_at = None
        lost, self.lost = self.lost, []
        self._last_fd_of.clear()
        return [peer for peer in dict.fromkeys(lost) if peer not in self._fd_of]

    def displaced(self, peer: bytes) -> list[int]:
        """The connections that live on without the identity ``peer``, which another has taken."""
        return [fd for fd, displaced in self._displaced.items() if displaced == peer]

    def number_of(self, fd: int) -> int | None:
        """How many connections were made before the living one that has this descriptor; None: there is none."""
        return self._numbers.get(fd)

    @property
    def has_disputes(self) -> bool:
        """Whether it was or is in doubt who has an identity, so that :meth:`take_uncertain` has something to look at."""
        return bool(self.disputed or self.lost or self._told_uncertain)

    @property
    def dispute_ends_at(self) -> float:
        """After which time :meth:`take_uncertain` has an identity to tell of that is certain again, whoever is silent."""
        return min((until for _, until in self.disputed.values()), default=math.inf)

    def take_uncertain(self, now: float) -> list[tuple[bytes, bool]]:
        """Identities of which it is in doubt since the last call who has them, and (False) those with no doubt any more.

        A ROUTER does not tell whose a new connection is before it speaks. As long as one has said nothing, it may be that
        of a program which lost its identity to another one, and has taken it back by connecting again. (Its old one may
        seem to live, if the network broke in silence.) And as long as :meth:`take_lost` waits for last words, a new one may
        have the identity of the lost.
        """
        newest = max((self._numbers[fd] for fd in self._silent), default=0)
        for peer in [peer for peer, (_, until) in self.disputed.items() if now > until]:
            del self.disputed[peer]
        uncertain = dict.fromkeys(peer for peer, (number, _) in self.disputed.items() if newest > number)
        uncertain.update((peer, None) for peer in self.lost if peer[0] and peer not in self._fd_of)
        before, self._told_uncertain = self._told_uncertain, uncertain
        changes = [(peer, True) for peer in uncertain if peer not in before]
        return changes + [(peer, False) for peer in before if peer not in uncertain]

    # --- inside

    def _may_live(
        self,
        peer: bytes,
        fd: int,
        before: int | None,
        ended: AbstractSet[bytes | None],
        is_certain: bool,
    ) -> bool:
        """Whether the living connection with that descriptor may be the peer's, which has said something over one that has it."""
        if fd not in self._numbers or fd in self._displaced:
            return False
        if is_certain:
            return True
        if before is not None and before != fd:  # it lives elsewhere: those were words from its time before
            return before in self._uncertain
        here = self._peers_of.get(fd, ())
        if here and fd not in self._uncertain:
            return False
        return not (peer[0] == 0 and (peer in ended or any(_is_later(other, peer) for other in here)))

    def _is_from_another(self, peer: bytes, fd: int, ended: AbstractSet[bytes | None]) -> bool:
        """Whether the lost ``peer`` has said something over another connection, which ended as well, than the one it was lost
        with. Then the two may be of different programs, and a third may connect: until it speaks, the identity is uncertain.
        """
        if peer[0] == 0 or (self._last_fd_of.get(peer) == fd and None not in ended):
            return False
        self._last_fd_of[peer] = fd
        self.disputed[peer] = 0, self._ended_at + DISPUTE_S
        return True

    def _leave(self, peer: bytes, before: int, fd: int) -> None:
        """``peer`` speaks over another connection than before, and it is certain or likely that it has left that one."""
        self._peers_of[before].remove(peer)
        if self._peers_of[before]:
            return
        del self._peers_of[before]
        if before in self._uncertain:  # it never was there
            self._uncertain.discard(before)
            self._silent.add(before)
        else:
            self._displaced[before] = peer
            self.disputed[peer] = self._numbers[fd], math.inf

    def _end_dispute(self, peer: bytes, now: float) -> None:
        """A connection that was ``peer``'s before another has ended. It was the last of them: soon nothing is disputed."""
        if peer in self.disputed and peer not in self._held and peer not in self._displaced.values():
            self.disputed[peer] = self.disputed[peer][0], now + DISPUTE_S

    def _lose(self, peer: bytes) -> None:
        fd = self._fd_of.pop(peer, None)
        if fd is not None:
            self._last_fd_of[peer] = fd
        self.certain.discard(peer)
        self.lost.append(peer)
        self.is_all_read = False


def _is_later(peer: bytes, other: bytes) -> bool:
    """Whether both identities are made up, and the connection of ``peer`` is the later one. (The ROUTER counts in 32 bits.)"""
    if peer[0] or other[0]:
        return False
    return 0 < (int.from_bytes(peer[1:], "big") - int.from_bytes(other[1:], "big")) % (2 * _HALF) < _HALF
