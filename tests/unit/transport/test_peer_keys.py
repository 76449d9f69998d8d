"""Whose keys the peers of a socket have shown, and which connections end when a key is taken back. Without a socket."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import zmq

from cbw.core.key import FOR_CLIENTS, Key
from cbw.keys.allowed import Allowed, write
from cbw.keys.refusals import RefusedPeers
from cbw.transport import peer_keys
from cbw.transport.peer_keys import FORGET_S, PeerKeys

ACCEPTED, ENDED = int(zmq.EVENT_ACCEPTED), int(zmq.EVENT_DISCONNECTED)
ANNA, EVE = "a" * 40, "e" * 40


class Frame:
    """A message over a connection with this key."""

    def __init__(self, public: str) -> None:
        self.public = public

    def get(self, name: str) -> str:
        assert name == "User-Id"
        return self.public


class OpenGate:
    """Lets all in that are allowed."""

    def __init__(self, path: Path) -> None:
        write(path, [Key("client", ANNA, "anna"), Key("client", EVE, "eve"), Key("worker", "w" * 40, "w")])
        self.allowed = Allowed(path)
        self.refusals = RefusedPeers()

    def key_of(self, public: str, port: str) -> Key | None:
        key = self.allowed.get(public)
        return key if key is not None and key.opens(port) else None


class Port:
    """The keys at the port for clients, and which descriptors were cut off."""

    def __init__(self, gate: Any) -> None:
        self.keys = PeerKeys(gate, FOR_CLIENTS)
        self.refusals: RefusedPeers = gate.refusals
        self.cut: set[int] = set()

    def connect(self, descriptor: int) -> None:
        self.keys.heard(ACCEPTED, descriptor, 0.0)

    def end(self, descriptor: int, now: float = 0.0) -> None:
        self.keys.heard(ENDED, descriptor, now)

    def speak(self, peer: bytes, descriptor: int, public: str) -> None:
        frame: Any = Frame(public)
        self.keys.spoke(peer, descriptor, frame, 0.0)

    def revoke(self, *publics: str) -> set[int]:
        self.cut.clear()
        self.keys.cut_off(publics)
        return self.cut

    def name_of(self, peer: bytes) -> str:
        key = self.keys.key_of(peer)
        return key.name if key is not None else ""


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Port:
    port = Port(OpenGate(tmp_path / "allowed"))

    def cut_off(descriptors: Iterable[int]) -> None:
        port.cut.update(descriptors)

    monkeypatch.setattr(peer_keys, "cut_off", cut_off)
    return port


def test_who_speaks_has_a_key(port: Port) -> None:
    port.connect(7)
    port.speak(b"\0aaaa", 7, ANNA)
    port.speak(b"\0wwww", 8, "w" * 40)
    assert port.name_of(b"\0aaaa") == "anna"
    assert port.name_of(b"\0wwww") == "", "a worker's key does not open this port"
    assert port.name_of(b"\0xxxx") == "", "it has never spoken"


def test_what_is_read_after_the_end_still_has_a_key(port: Port) -> None:
    port.connect(7)
    port.speak(b"\0aaaa", 7, ANNA)
    port.end(7, 1.0)
    assert port.name_of(b"\0aaaa") == "anna"
    port.connect(8)
    port.end(8, 1.0 + FORGET_S + 1.0)
    assert port.name_of(b"\0aaaa") == "", "nothing of it can be unread any more"


def test_a_descriptor_that_is_another_connections_now(port: Port) -> None:
    port.connect(7)
    port.speak(b"\0aaaa", 7, ANNA)
    port.end(7)
    port.connect(7)
    port.speak(b"\0eeee", 7, EVE)
    assert (port.name_of(b"\0aaaa"), port.name_of(b"\0eeee")) == ("anna", "eve")
    assert port.revoke(ANNA) == set() and port.revoke(EVE) == {7}


def test_a_key_that_is_taken_back(port: Port) -> None:
    for descriptor in (7, 8, 9):
        port.connect(descriptor)
    port.speak(b"\0aaaa", 7, ANNA)
    port.speak(b"\0eeee", 8, EVE)
    assert port.revoke(ANNA) == {7, 9}, "its own, and the one of which nobody knows whose it is"


def test_an_identity_belongs_to_one_key(port: Port) -> None:
    port.connect(7)
    port.connect(8)
    port.speak(b"REQ-1", 7, ANNA)
    port.speak(b"REQ-1", 8, EVE)
    assert port.cut == {7, 8}, "the owner has to connect again to get it back"
    (told,) = port.refusals.take()
    assert "eve sets the identity b'REQ-1'" in told
    port.cut.clear()
    port.connect(9)
    port.speak(b"REQ-1", 9, ANNA)
    assert not port.cut


def test_one_key_cannot_take_all_identities(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_keys, "IDENTITIES_MAX", 10)
    assert port.keys.own(b"REQ-1", "anna")
    for number in range(1000):
        port.keys.own(b"%d" % number, "eve")
    assert not port.keys.own(b"REQ-1", "eve"), "it is still anna's"
    assert port.keys.own(b"0", "anna"), "the oldest of eve's is free again"
    assert len(port.keys._owners) == 12


def test_a_name_in_the_log_belongs_to_one_key(port: Port) -> None:
    port.speak(b"\0aaaa", 7, ANNA)
    port.speak(b"\0eeee", 8, EVE)
    assert port.keys.may_speak_as(b"\0aaaa", "W1") and port.keys.may_speak_as(b"\0aaaa", "W1")
    assert not port.keys.may_speak_as(b"\0eeee", "W1") and not port.keys.may_speak_as(b"\0xxxx", "W2")
