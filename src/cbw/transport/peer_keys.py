"""Which keys the peers of one bound socket have shown, and over which connections, so that these can be cut off."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

import zmq

from cbw.core.key import Key
from cbw.transport.curve import HANDSHAKE_FAILED, describe_failure
from cbw.transport.descriptors import cut_off
from cbw.transport.gate import Gate, address_of

FORGET_S = 10.0
"""Seconds for which the key of a peer is kept after its connection has ended: as long as something that it said may be unread."""
IDENTITIES_MAX = 10_000
"""Identities and names that are kept for each key; the oldest is then free for others."""
USER_ID = "User-Id"
"""The property of a message under which libzmq tells what the gate has said of its sender: the public half of its key."""


class _Shown(NamedTuple):
    public: str
    descriptor: int


class PeerKeys:
    """The keys that the peers of one socket have shown, which ``gate`` guards as ``port``. Tell it what the monitor tells.

    An identity that a peer sets belongs to the key that used it first. ZAP does not tell who sets which, and a ROUTER hands it to
    the newest connection: so one with another key is cut off as soon as it speaks, together with the one that has lost its
    identity, whose program connects again.
    """

    def __init__(self, gate: Gate, port: str) -> None:
        self.gate = gate
        self.port = port
        self._addresses: dict[int, str] = {}  # of living connections, by their descriptors
        self._peers: dict[int, list[bytes]] = {}  # who has spoken over them
        self._shown: dict[bytes, _Shown] = {}
        self._left: deque[tuple[float, bytes, _Shown]] = deque()
        self._owners: dict[bytes, str] = {}  # the names of the keys to which identities belong
        self._identities: dict[str, dict[bytes, None]] = {}  # the same by name, oldest first
        self._failure = ""  # of the handshake whose connection ends next

    # --- facts

    def heard(self, event: int, value: int, now: float) -> None:
        """The socket's monitor has told this."""
        if event == zmq.EVENT_ACCEPTED:
            self._addresses[value] = address_of(value)
        elif event == zmq.EVENT_DISCONNECTED:
            self._ended(value, now)
        elif event & HANDSHAKE_FAILED:  # and the next connection that ends is its own
            self._failure = describe_failure(event, value)

    def _ended(self, descriptor: int, now: float) -> None:
        address = self._addresses.pop(descriptor, "a peer")
        if self._failure:
            self.gate.refusals.note(address, self._failure, now)
            self._failure = ""
        for peer in self._peers.pop(descriptor, ()):
            self._left.append((now, peer, self._shown[peer]))
        while self._left and self._left[0][0] < now - FORGET_S:
            _, peer, shown = self._left.popleft()
            if self._shown.get(peer) is shown:
                del self._shown[peer]

    def spoke(self, peer: bytes, descriptor: int, frame: zmq.Frame, now: float) -> None:
        """``peer`` has sent a message, of which ``frame`` is one, over a connection that it may not have used before."""
        before = self._shown.get(peer)
        if before is not None and before.descriptor == descriptor:
            return
        shown = self._shown[peer] = _Shown(str(frame.get(USER_ID)), descriptor)
        if before is not None and peer in (peers := self._peers.get(before.descriptor, [])):
            peers.remove(peer)
        key = self.gate.key_of(shown.public, self.port)
        if key is not None and peer[0] and not self.own(peer, key.name):
            why = f"{key.name} sets the identity {peer[:100]!r}, which belongs to another key"
            self.gate.refusals.note(self._addresses.get(descriptor, "a peer"), why, now)
            cut_off([descriptor] if before is None else [before.descriptor, descriptor])
        if descriptor in self._addresses:
            self._peers.setdefault(descriptor, []).append(peer)
        else:
            self._left.append((now, peer, shown))

    def own(self, identity: bytes, name: str) -> bool:
        """Note that ``identity`` belongs to the key ``name``; False: it is another's."""
        owner = self._owners.setdefault(identity, name)
        if owner == name:
            mine = self._identities.setdefault(name, {})
            mine.pop(identity, None)
            mine[identity] = None
            if len(mine) > IDENTITIES_MAX:
                oldest = next(iter(mine))
                del mine[oldest], self._owners[oldest]
        return owner == name

    def may_speak_as(self, peer: bytes, name: str) -> bool:
        """Whether the key of ``peer`` is the first that was used under this name; then the name belongs to it."""
        key = self.key_of(peer)
        return key is not None and self.own(name.encode(), key.name)

    # --- questions, and the end of connections

    def key_of(self, peer: bytes) -> Key | None:
        """The key of a peer that has spoken; None: it is not allowed any more."""
        shown = self._shown.get(peer)
        return self.gate.key_of(shown.public, self.port) if shown is not None else None

    def cut_off(self, publics: Iterable[str]) -> None:
        """End the connections of these keys, and those over which nobody has spoken: whose they are is not known.

        Whoever is still allowed connects again.
        """
        wanted = set(publics)
        known = {descriptor for descriptor, peers in self._peers.items() if peers}
        revoked = {d for d in known if any(self._shown[peer].public in wanted for peer in self._peers[d])}
        cut_off(revoked | (self._addresses.keys() - known))


def gate_options(keys: PeerKeys | None) -> tuple[tuple[int, Any], ...]:
    """The options of the socket; none without keys."""
    return keys.gate.options(keys.port) if keys is not None else ()
