"""Who speaks over which connection, and who is lost, whatever the order in which words and ends are noticed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cbw.transport.connections import DISPUTE_S, LAST_WORDS_S, Connections

NOW = 100.0
FD = 20


def made_up(number: int) -> bytes:
    """The identity that a ROUTER makes up for the so manieth connection."""
    return b"\0" + (number % (1 << 32)).to_bytes(4, "big")


A, B, C = (made_up(number) for number in range(1, 4))


@pytest.fixture
def known() -> Connections:
    return Connections()


def lost(known: Connections) -> list[bytes]:
    """Who is lost when all is read."""
    known.all_is_read()
    return known.take_lost(NOW)


def reuse(known: Connections) -> None:
    """The connection ends, and another one gets its descriptor."""
    known.ended(FD, NOW)
    known.accepted(FD)


def test_one_that_ends_is_lost(known: Connections) -> None:
    known.accepted(FD)
    assert not known.spoke(A, FD)
    assert lost(known) == []
    known.ended(FD, NOW)
    assert lost(known) == [A]
    assert lost(known) == []


def test_one_that_said_nothing_is_nobody(known: Connections) -> None:
    known.accepted(FD)
    known.ended(FD, NOW)
    assert lost(known) == []


@pytest.mark.parametrize("fd", [FD, FD + 1])
def test_words_over_two_connections_that_have_ended(known: Connections, fd: int) -> None:
    """Another program may have taken the identity. If a third comes, nobody knows whose it is until it has spoken."""
    known.accepted(FD)
    assert not known.spoke(b"R", FD)
    known.ended(FD, NOW)
    known.accepted(fd)
    known.ended(fd, NOW)
    known.accepted(FD + 2)
    assert known.spoke(b"R", fd)
    assert lost(known) == [b"R"]
    assert known.take_uncertain(NOW) == [(b"R", True)]
    assert not known.spoke(b"R", FD + 2)
    assert known.take_uncertain(NOW) == [(b"R", False)]
    known.take_uncertain(NOW + DISPUTE_S + 1)
    assert not known.has_disputes


def test_last_words_are_of_the_connection_that_was_lost(known: Connections) -> None:
    known.accepted(FD)
    known.accepted(FD + 1)
    known.spoke(b"R", FD)
    known.spoke(A, FD + 1)
    known.ended(FD, NOW)
    known.ended(FD + 1, NOW)
    assert not known.spoke(b"R", FD) and not known.spoke(A, FD + 1)
    assert not known.disputed


def test_the_identity_of_a_lost_peer_is_uncertain_while_its_last_words_are_waited_for(known: Connections) -> None:
    """Found by the simulation: another connection had it already, and got the reply to what the lost one had asked."""
    known.accepted(FD)
    known.spoke(b"R", FD)
    known.accepted(FD + 1)
    known.ended(FD, NOW)
    assert known.take_lost(NOW) == []
    assert known.take_uncertain(NOW) == [(b"R", True)]
    assert known.take_lost(NOW + 2 * LAST_WORDS_S) == [b"R"]
    assert known.has_disputes
    assert known.take_uncertain(NOW + 2 * LAST_WORDS_S) == [(b"R", False)]
    assert not known.has_disputes


def test_last_words_are_waited_for_but_not_for_long(known: Connections) -> None:
    known.accepted(FD)
    known.spoke(A, FD)
    known.ended(FD, NOW)
    assert known.take_lost(NOW) == []
    assert known.take_lost(NOW + LAST_WORDS_S / 2) == []
    assert known.take_lost(NOW + 2 * LAST_WORDS_S) == [A]


def test_the_only_words_of_one_that_has_gone(known: Connections) -> None:
    known.accepted(FD)
    known.ended(FD, NOW)
    known.spoke(A, FD)
    assert lost(known) == [A]


def test_last_words_are_not_those_of_the_next_with_its_descriptor(known: Connections) -> None:
    known.accepted(FD)
    known.spoke(A, FD)
    reuse(known)
    known.spoke(A, FD)
    assert lost(known) == [A]
    known.spoke(B, FD)
    assert lost(known) == []
    known.ended(FD, NOW)
    assert lost(known) == [B]


def displace(known: Connections) -> None:
    """The connection ``FD`` lives on, and ``FD + 1`` has its identity."""
    for fd in (FD, FD + 1):
        known.accepted(fd)
        known.spoke(b"R", fd)
    assert known.displaced(b"R") == [FD]


def test_an_identity_is_disputed_as_long_as_a_connection_is_held_that_had_it(known: Connections) -> None:
    displace(known)
    known.hold(FD)
    known.ended(FD, NOW)
    assert known.displaced(b"R") == []
    later = NOW + 2 * DISPUTE_S
    known.take_uncertain(later)
    known.accepted(FD)  # the next with its descriptor
    assert known.take_uncertain(later) == [(b"R", True)]
    known.ended(FD, later)
    known.released(b"R", later)
    known.all_is_read()
    known.take_uncertain(later + DISPUTE_S + 1)
    assert not known.has_disputes


def test_the_end_of_a_connection_whose_identity_is_disputed_no_more(known: Connections) -> None:
    """Words of the one that had lost it, after the one that had it was lost, and a dispute that has ended since."""
    displace(known)
    known.ended(FD + 1, NOW)
    known.spoke(b"R", FD)
    lost(known)
    known.take_uncertain(NOW + DISPUTE_S + 1)
    known.ended(FD, NOW + DISPUTE_S + 2)
    assert not known.disputed


@pytest.mark.parametrize("words", [(A, B), (B, A)])
def test_nor_the_only_words(known: Connections, words: tuple[bytes, bytes]) -> None:
    """Made-up identities count the connections, so it is known whose is the later one."""
    known.accepted(FD)
    reuse(known)
    for peer in words:
        known.spoke(peer, FD)
    assert lost(known) == [A]
    known.spoke(B, FD)
    known.ended(FD, NOW)
    assert lost(known) == [B]


def test_one_that_may_speak_over_another_connection_of_the_same_descriptor_is_replaced(known: Connections) -> None:
    """Found by the simulation: a program that threw its socket away got the answer to what it had asked with that one."""
    known.accepted(FD)
    reuse(known)
    reuse(known)
    assert not known.spoke(b"P", FD)
    assert known.spoke(b"P", FD), "over the first, or over the second"
    known.all_is_read()
    known.accepted(FD + 2)
    assert known.spoke(b"P", FD + 2)


def test_of_three_with_one_descriptor_the_last_lives(known: Connections) -> None:
    known.accepted(FD)
    reuse(known)
    reuse(known)
    for peer in (B, A, C):
        known.spoke(peer, FD)
    assert sorted(lost(known)) == [A, B]


def test_the_count_begins_again(known: Connections) -> None:
    last, first = made_up(-1), made_up(0)
    known.accepted(FD)
    reuse(known)
    known.spoke(first, FD)
    known.spoke(last, FD)
    assert lost(known) == [last]


@pytest.mark.parametrize("words", [(b"P", A), (A, b"P")])
def test_between_a_name_and_a_number_nobody_is_lost_before_it_is_certain(
    known: Connections, words: tuple[bytes, bytes]
) -> None:
    known.accepted(FD)
    reuse(known)
    for peer in words:
        known.spoke(peer, FD)
    assert lost(known) == []
    known.spoke(A, FD)
    assert lost(known) == [b"P"]
    assert not known.spoke(A, FD)
    known.ended(FD, NOW)
    assert lost(known) == [A]


def test_both_are_lost_if_it_never_becomes_certain(known: Connections) -> None:
    known.accepted(FD)
    reuse(known)
    known.spoke(b"P", FD)
    known.spoke(A, FD)
    known.ended(FD, NOW)
    assert lost(known) == [b"P", A]


def test_one_who_comes_back_with_the_same_descriptor(known: Connections) -> None:
    known.accepted(FD)
    known.spoke(b"P", FD)
    reuse(known)
    assert known.spoke(b"P", FD)
    assert lost(known) == []
    assert not known.spoke(b"P", FD)
    assert not known._uncertain
    known.ended(FD, NOW)
    assert lost(known) == [b"P"]


def test_last_words_of_a_name_do_not_keep_it_when_another_has_the_descriptor(known: Connections) -> None:
    known.accepted(FD)
    known.spoke(b"P", FD)
    reuse(known)
    known.spoke(b"P", FD)
    assert lost(known) == []
    known.spoke(B, FD)
    assert lost(known) == [b"P"]


def test_last_words_of_a_name_when_it_is_certain_who_has_the_descriptor(known: Connections) -> None:
    known.accepted(FD)
    known.spoke(b"P", FD)
    reuse(known)
    known.spoke(A, FD)
    known.spoke(b"P", FD)
    assert lost(known) == [b"P"]


def test_old_words_of_one_who_has_come_back_elsewhere(known: Connections) -> None:
    known.accepted(FD)
    known.spoke(b"P", FD)
    reuse(known)
    known.accepted(FD + 1)
    assert known.spoke(b"P", FD + 1)
    assert not known.spoke(b"P", FD)
    assert lost(known) == []
    assert not known.has_disputes
    known.ended(FD + 1, NOW)
    assert lost(known) == [b"P"]


def test_one_taken_to_be_elsewhere_was_never_there(known: Connections) -> None:
    known.accepted(FD)
    reuse(known)
    known.spoke(b"P", FD)
    known.all_is_read()
    known.accepted(FD + 1)
    assert known.spoke(b"P", FD + 1)
    assert not known.has_disputes
    known.spoke(A, FD)
    assert lost(known) == []


class TestTwoOfOneIdentity:
    @pytest.fixture
    def disputed(self, known: Connections) -> Connections:
        """One speaks over FD, then another of its name over FD + 1."""
        for fd in (FD, FD + 1):
            known.accepted(fd)
            known.spoke(b"P", fd)
        assert lost(known) == []
        return known

    def test_a_new_connection_may_be_that_of_the_first(self, disputed: Connections) -> None:
        assert disputed.has_disputes
        assert disputed.take_uncertain(NOW) == []
        disputed.accepted(FD + 2)
        assert disputed.take_uncertain(NOW) == [(b"P", True)]
        assert disputed.take_uncertain(NOW) == []
        disputed.spoke(C, FD + 2)
        assert disputed.take_uncertain(NOW) == [(b"P", False)]

    def test_what_the_first_still_says_is_nobodys(self, disputed: Connections) -> None:
        disputed.spoke(C, FD)
        assert lost(disputed) == [C]
        disputed.ended(FD, NOW)
        assert lost(disputed) == []

    def test_who_comes_back_and_speaks_is_certain_whatever_older_connections_keep_silent(
        self, disputed: Connections
    ) -> None:
        """Found by the simulation: its replies were withheld as long as a silent connection lived, older than its own."""
        disputed.ended(FD + 1, NOW)
        assert lost(disputed) == [b"P"]
        disputed.accepted(FD + 2)  # and says nothing, for ever
        assert disputed.take_uncertain(NOW) == [(b"P", True)]
        disputed.accepted(FD + 3)
        disputed.spoke(b"P", FD + 3)
        assert disputed.take_uncertain(NOW) == [(b"P", False)]

    def test_when_the_first_has_gone_it_may_come_back_for_a_while(self, disputed: Connections) -> None:
        disputed.ended(FD, NOW)
        disputed.take_uncertain(NOW + DISPUTE_S)
        assert disputed.has_disputes
        disputed.take_uncertain(NOW + DISPUTE_S + 1)
        assert not disputed.has_disputes


@dataclass
class Dialled:
    """A connection, as its two ends and the sockets between them have it."""

    fd: int
    peer: bytes
    unread: int = 0
    is_open: bool = True
    is_heard: bool = False  # in this life, and not told to be lost since


class Sockets(RuleBasedStateMachine):
    """Peers that come, speak and go, and a ROUTER that reads the monitor and their words in whatever order.

    As in libzmq one thread accepts, receives and ends: what was said is there before the news of the end is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known = Connections()
        self.dialled: list[Dialled] = []
        self.news: deque[tuple[str, int]] = deque()

    # --- the other side

    @rule(name=st.sampled_from([None, None, b"P", b"Q"]))
    def come(self, name: bytes | None) -> None:
        if name is not None and any(one.is_open and one.peer == name for one in self.dialled):
            return
        used = {one.fd for one in self.dialled if one.is_open}
        fd = min(set(range(FD, FD + 50)) - used)
        self.dialled.append(Dialled(fd, name or made_up(len(self.dialled))))
        self.news.append(("accepted", fd))

    @rule(which=st.integers(0))
    def say(self, which: int) -> None:
        if living := [one for one in self.dialled if one.is_open]:
            living[which % len(living)].unread += 1

    @rule(which=st.integers(0))
    def go(self, which: int) -> None:
        if living := [one for one in self.dialled if one.is_open]:
            one = living[which % len(living)]
            one.is_open = False
            self.news.append(("ended", one.fd))

    # --- the broker

    @rule()
    def watch(self) -> None:
        while self.news:
            event, fd = self.news.popleft()
            if event == "accepted":
                self.known.accepted(fd)
            else:
                self.known.ended(fd, NOW)

    @rule(order=st.lists(st.integers(0), max_size=4))
    def read(self, order: list[int]) -> None:
        """Some of what is there."""
        for number in order:
            if talkers := [one for one in self.dialled if one.unread]:
                self.hear(talkers[number % len(talkers)])
        self.take()

    @rule()
    def read_all(self) -> None:
        while talkers := [one for one in self.dialled if one.unread]:
            self.hear(talkers[0])
        self.watch()
        self.known.all_is_read()
        self.take()

    def hear(self, one: Dialled) -> None:
        one.unread -= 1
        self.watch()
        self.known.spoke(one.peer, one.fd)
        one.is_heard = True

    def take(self) -> None:
        for peer in self.known.take_lost(NOW):
            assert not any(one.is_open and one.is_heard and one.peer == peer for one in self.dialled), f"{peer!r} lives"
            for one in self.dialled:
                if one.peer == peer:
                    one.is_heard = False

    @invariant()
    def nothing_is_kept_of_the_dead(self) -> None:
        assert set(self.known._numbers) >= set(self.known._peers_of) | self.known._silent | self.known._uncertain
        assert set(self.known._fd_of.values()) == set(self.known._peers_of)

    def teardown(self) -> None:
        """When all have gone and all is read, all who spoke are lost."""
        for one in self.dialled:
            if one.is_open:
                self.news.append(("ended", one.fd))
                one.is_open = False
        self.read_all()
        assert not [one for one in self.dialled if one.is_heard]
        assert not (self.known._fd_of or self.known._numbers or self.known.certain)


TestSockets = pytest.mark.slow(Sockets.TestCase)
TestSockets.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
