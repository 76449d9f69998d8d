"""A worker's session with one broker: hello and beats, the tasks that it has from there, and the answers that it owes.

A task that the broker has sent is *in hand* until it is answered or given back. When the session ends, what runs is *left over*.
The broker's journal may come back at the same place, or at another one, where a standby has it, even before the worker has
noticed that the first broker is lost. So every hello names the tasks of all brokers, and whoever welcomes the worker says with
which it is to go on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from cbw.core import messages
from cbw.core.agenda import Agenda
from cbw.core.hello import Patience
from cbw.core.messages import Status
from cbw.core.worker import events
from cbw.core.worker.orders import Orders
from cbw.core.worker.outgoing import OutgoingStreams, fitting
from cbw.core.worker.shares import Share, Shares

WORKER_BEAT_S = 1.0
"""Seconds between two beats, and between two hellos that were not answered. A broker takes a worker for lost after three
beats that are missing."""
WORKER_RECONNECT_S = 0.5
"""Seconds between two tries to make a connection when no file descriptors are left: others may close some meanwhile."""
REFUSED_RETRY_S = 5.0
"""Seconds after which a worker says hello again to a broker that has refused it for good, as long as it serves others: the one
that had its name there may have gone."""
LATE_ANSWERS_MAX = 1000
"""Most answers to tasks of an earlier session that are kept to be sent in the next one. The broker does not use them (the
tasks went to others), but its trace shows that they came; the oldest are dropped first."""


LATE_KEPT_S = 60.0
"""Seconds for which the answers to tasks of a broker that is lost are kept: another one may go on with its journal."""


class Registration(Enum):
    """Where the worker is in its conversation with a broker."""

    DISCONNECTED = "no connection"
    GREETING = "connected; the hello is sent, or will be sent again, and was not answered with a welcome"
    REGISTERED = "welcomed: the broker sends tasks"
    SPARE = "the same broker has welcomed the worker over another connection"
    ENDED = "the worker has left, or is refused for good by all brokers"


TRANSITIONS: dict[Registration, tuple[Registration, ...]] = {
    Registration.DISCONNECTED: (
        Registration.DISCONNECTED,
        Registration.GREETING,
        Registration.SPARE,
        Registration.ENDED,
    ),
    Registration.GREETING: (
        Registration.GREETING,
        Registration.REGISTERED,
        Registration.DISCONNECTED,
        Registration.ENDED,
    ),
    Registration.REGISTERED: (
        Registration.REGISTERED,
        Registration.GREETING,
        Registration.SPARE,
        Registration.DISCONNECTED,
        Registration.ENDED,
    ),
    Registration.SPARE: (Registration.GREETING, Registration.DISCONNECTED, Registration.ENDED),
    Registration.ENDED: (Registration.GREETING,),
}


@dataclass(frozen=True)
class Introduction:
    """What every hello of a worker says. ``boot`` is new at each start, so that a broker can tell a restart from a reconnection,
    and ``proof`` the secret of that start. ``wants_names``, ``signatures`` and ``takes_streams`` are those of
    :class:`~cbw.core.messages.WorkerHello`.
    """

    name: str
    boot: str
    services: list[str]
    concurrency: int
    proof: bytes
    wants_names: bool
    signatures: dict[str, str] | None
    takes_streams: bool


class BrokerSession:
    """The session with the broker of connection ``number``, which is at ``place``.

    It is one of ``sessions``. What the pool is to do goes to ``orders``; ``shares`` says how many tasks this broker may have in
    hand here, and ``streams`` which of all tasks are answered in parts.
    """

    def __init__(
        self,
        number: int,
        place: str,
        introduction: Introduction,
        sessions: Mapping[int, BrokerSession],
        agenda: Agenda,
        orders: Orders,
        shares: Shares,
        streams: OutgoingStreams,
    ) -> None:
        self.number = number
        self.place = place
        self.registration = Registration.DISCONNECTED
        self.broker: messages.Welcome | None = None  # what it said of itself, while the worker is registered
        self.refused: messages.Refused | None = None  # what it said last, if it refuses this worker for good
        self.in_hand: dict[int, None] = {}
        self.left_over: dict[int, None] = {}  # tasks of earlier sessions whose handlers still run
        self.to_send: list[messages.Message] = []
        self.share = Share(self.in_hand)
        self._introduction = introduction
        self._sessions = sessions
        self._orders = orders
        self._shares = shares
        self._streams = streams
        self._next_word = agenda.timer(self._say_next_word)
        self._silence = agenda.timer(self._look_for_silence)
        self._reconnect = agenda.timer(self._connect_again)
        self._patience = Patience()
        self._heard_at = 0.0
        self._credit_told = 0
        self._sharing_told = False
        self._late: deque[messages.Answer] = deque(maxlen=LATE_ANSWERS_MAX)
        self._lost_at = 0.0
        self._used_instead: BrokerSession | None = None  # leads to the same broker

    # --- the connection

    def _enter(self, registration: Registration) -> None:
        assert registration in TRANSITIONS[self.registration], f"{self.registration} -> {registration}"
        self.registration = registration

    @property
    def is_ended(self) -> bool:
        """Whether all brokers refuse the worker for good, or the worker has left."""
        return self.registration is Registration.ENDED

    def connected(self, now: float) -> None:
        """A connection was made."""
        self._reconnect.clear()
        self._patience.welcomed()
        self.refused = None
        self._end(now)
        if self._used_instead is not None and self._used_instead.broker is not None:
            self._enter(Registration.SPARE)
        else:
            self.say_hello(now)

    def lost_connection(self, now: float) -> None:
        """The connection was lost. The broker gives the tasks of this worker to others."""
        self._next_word.clear()
        self._end(now)
        if not self.is_ended:
            self._enter(Registration.DISCONNECTED)
        self.to_send.clear()
        self._lost_at = now

    def reconnect_failed(self, now: float) -> None:
        """No descriptors are left."""
        self._reconnect.set(now + WORKER_RECONNECT_S)

    def overslept(self, now: float) -> None:
        """The worker was frozen, so it was the worker that was silent. What the broker said meanwhile may not have been read yet,
        and if it took the worker for lost it will say so when it hears the next beat."""
        if self.broker is not None:
            self._heard_at = max(self._heard_at, now - self.broker.liveness_s + WORKER_BEAT_S)

    def _look_for_silence(self, now: float) -> None:
        """Connect anew if the broker has been silent for longer than its liveness. Batches that arrive do not move this
        timer, as that would cost each of them; so it is often early."""
        if self.broker is None:
            return
        silent_at = self._heard_at + self.broker.liveness_s
        if now <= silent_at:
            self._silence.set(silent_at)
        else:
            self.lost_connection(now)
            self._connect_again(now)

    def _connect_again(self, now: float) -> None:
        self._orders.first.append(events.Reconnect(self.number))

    # --- what the broker says

    def heard(self, now: float) -> None:
        """Note that the broker has said something."""
        self._heard_at = now

    def take_word(self, message: messages.Message, now: float) -> None:
        """Take in a message that is no task."""
        match message:
            case messages.Recall():
                self._orders.take_back.extend(message.tasks)
            case messages.CancelTask():
                self._orders.cancel.append(message.id)
            case messages.PartsWanted():
                self._orders.grant.append(events.GrantParts(message.id, message.parts))
            case messages.Demand():
                if self.broker is not None:
                    self._shares.demanded(self.share, message.service, message.waiting, now)
            case messages.Welcome():
                self._welcomed(message, now)
            case messages.HelloAgain():
                if self.broker is not None:  # otherwise a hello is on its way already, or another connection is used
                    self._end(now)
                    self.say_hello(now)
            case messages.Goodbye():
                self._end(now)
                self._enter(Registration.GREETING)
            case messages.Refused():
                self._was_refused(message, now)

    def _welcomed(self, welcome: messages.Welcome, now: float) -> None:
        self._end(now)  # at a second hello the broker has put back what it sent after the first
        self._enter(Registration.REGISTERED)
        self.broker, self.refused = welcome, None
        self._silence.set(now + welcome.liveness_s)
        self._patience.welcomed()
        self._go_on_with(welcome.tasks)
        self._shares.join(self.share, now)
        self.tell_credit()
        self._send_late()

    def _go_on_with(self, tasks: list[int]) -> None:
        """The broker was restarted, has a journal, and wants the answers to these. What the pool has given back since the hello
        had not begun.
        """
        for other in self._sessions.values():
            if other is not self and tasks:
                other.hand_over(tasks, self)
        late = {answer.id for answer in self._late}
        returned: list[int] = []
        for task in tasks:
            if task in self.left_over:
                del self.left_over[task]
                self.in_hand[task] = None
            elif task not in late:
                returned.append(task)
        if returned:
            self.give_back(returned)
        self._want_back()

    def _was_refused(self, refused: messages.Refused, now: float) -> None:
        retry_at = self._patience.retry_at(refused, now)
        if self.broker is not None:
            self._end(now)
        if retry_at == math.inf:
            self.refused = refused
            if all(session.refused is not None or session.is_ended for session in self._sessions.values()):
                self._close_all()
                return
            retry_at = now + REFUSED_RETRY_S
        self._enter(Registration.GREETING)
        self._next_word.set(retry_at)

    def _close_all(self) -> None:
        for session in self._sessions.values():
            if not session.is_ended:
                session.close()

    def _end(self, now: float) -> None:
        """Whatever is in hand belongs to others now: drop what has not begun; what has begun will be answered too late."""
        if self.broker is not None:
            self.broker = None
            self._shares.leave(self.share, now)
        self._silence.clear()
        begin, self._orders.begin = self._orders.begin, []
        for task in begin:
            if task.id in self.in_hand:
                del self.in_hand[task.id]
            else:  # another broker's
                self._orders.begin.append(task)
        self._orders.cancel += self._streams.of(
            self.in_hand
        )  # nobody can say any more that there is room for their parts
        self.left_over.update(self.in_hand)
        self.in_hand.clear()
        self._want_back()

    def _want_back(self) -> None:
        """Ask the pool for the tasks of this broker's earlier sessions, and for no others."""
        orders = self._orders
        orders.take_back = [*(task for task in orders.take_back if self._shares.is_in_hand(task)), *self.left_over]

    def step_aside(self, other: BrokerSession, now: float) -> None:
        """End this session: its broker has welcomed the worker over the connection of ``other``, and has forgotten this one."""
        self._used_instead = other
        self._next_word.clear()
        self._end(now)
        self.to_send.clear()
        self._enter(Registration.SPARE)

    def step_in(self, now: float) -> None:
        """Say hello if this connection leads to a broker that is not reached over another one any more."""
        if self.registration is Registration.SPARE and (
            self._used_instead is None or self._used_instead.broker is None
        ):
            self.say_hello(now)

    def close(self) -> None:
        """Say and hear nothing more."""
        self._next_word.clear()
        self._silence.clear()
        self._enter(Registration.ENDED)

    def leave(self) -> None:
        """Say goodbye; nothing is in hand any more."""
        if self.registration in (Registration.GREETING, Registration.REGISTERED):
            # Also before the welcome has come: tasks may be on their way behind it.
            self.to_send.append(messages.Goodbye())
        if not self.is_ended:
            self.close()

    def is_over(self, now: float) -> bool:
        """Whether there is no connection, and nothing of this broker runs here or waits for it."""
        if self.registration not in (Registration.DISCONNECTED, Registration.ENDED) or self.left_over:
            return False
        return not self._late or now - self._lost_at > LATE_KEPT_S

    # --- what the worker says

    def _say_next_word(self, now: float) -> None:
        """A beat, or, as long as no welcome has come, a hello."""
        if self.registration is Registration.REGISTERED:
            self._next_word.set(now + WORKER_BEAT_S)
            self.to_send.append(messages.Beat())  # beside answers too: the broker answers a beat, and only that
        elif self.registration is Registration.GREETING:
            self.say_hello(now)

    def say_hello(self, now: float) -> None:
        """Say who the worker is, and what it has begun."""
        self._enter(Registration.GREETING)
        self._next_word.set(now + WORKER_BEAT_S)
        credit = self._shares.greeting
        self._credit_told, self._sharing_told = credit, False
        others = [other for other in self._sessions.values() if other is not self]
        begun = [task for session in (self, *others) for task in session.tasks]
        who = self._introduction
        hello = messages.WorkerHello(
            who.name,
            who.boot,
            who.services,
            who.concurrency,
            credit,
            begun[:LATE_ANSWERS_MAX],
            who.proof,
            who.wants_names,
            who.signatures,
            who.takes_streams,
        )
        self.to_send = [hello]

    def tell_credit(self) -> None:
        """Say how many tasks are wanted in hand, if that has changed."""
        offered, is_shared = self.share.offered, self._shares.are_several
        if (offered != self._credit_told or is_shared is not self._sharing_told) and self.broker is not None:
            self._credit_told, self._sharing_told = offered, is_shared
            self.to_send.append(messages.Credit(offered, is_shared))

    # --- tasks

    @property
    def tasks(self) -> list[int]:
        """The tasks that came from this broker, and whose answers it has not got. Not those answered in parts, as some of the
        parts have gone nowhere."""
        unfinished = self._streams.others({**self.in_hand, **self.left_over})
        return [*unfinished, *(answer.id for answer in self._late)]

    def hand_over(self, tasks: list[int], successor: BrokerSession) -> None:
        """The broker of ``successor`` goes on with these, if they came from this one."""
        for task in tasks:
            if self.has(task):
                self.in_hand.pop(task, None)
                self.left_over.pop(task, None)
                successor.left_over[task] = None
        wanted = [answer for answer in self._late if answer.id in tasks]
        for answer in wanted:
            self._late.remove(answer)
        successor.take_late(wanted)

    def take_late(self, answers: list[messages.Answer]) -> None:
        """Answers that this broker wants, to tasks that it goes on with."""
        self._late.extend(answers)

    def has(self, task: int) -> bool:
        """Whether ``task`` came from this broker, and its handler has not ended."""
        return task in self.in_hand or task in self.left_over

    def give_back(self, tasks: list[int]) -> None:
        """Tell the broker that these have not begun and will not."""
        self.to_send.append(messages.Returned(tasks))

    def give_up(self) -> None:
        """The process ends with its handlers: what is in hand may have begun, and will not be answered."""
        why = messages.error_body("stopped", "the worker was stopped")
        crashed = (messages.Answer(task, Status.CRASHED, why) for task in self.in_hand)
        self.to_send.extend(crashed)
        self.in_hand.clear()

    def answer(self, answers: Iterable[messages.Answer]) -> None:
        """Tasks that came from this broker have ended: send the answers, or keep those of an earlier session for the next one."""
        in_hand, broker, streams = self.in_hand, self.broker, self._streams.tasks
        for answer in answers:
            is_stream = bool(streams) and streams.pop(answer.id, 0) is None
            if answer.id in in_hand and broker is not None:
                del in_hand[answer.id]
                self.to_send.append(fitting(answer, broker))
            else:
                self.left_over.pop(answer.id, None)
                if not is_stream:  # whose parts went nowhere
                    self._late.append(answer)
        if self._late:
            self._send_late()

    def _send_late(self) -> None:
        if self.broker is not None:
            self.to_send.extend([fitting(answer, self.broker) for answer in self._late])
            self._late.clear()
