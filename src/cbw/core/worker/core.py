"""The worker's core: its sessions with brokers, how many tasks it asks for, what its handlers may take, how it leaves.

Whether the handler of a task in hand has begun is known only by the pool that runs the handlers: to give tasks back, the core
asks the pool, and hears later what it gave.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cbw.core import messages
from cbw.core.agenda import Agenda
from cbw.core.hello import is_about_keys
from cbw.core.messages import OK
from cbw.core.parts import SUCCEEDED
from cbw.core.service_latencies import ServiceLatencies
from cbw.core.worker import events
from cbw.core.worker.broker_session import WORKER_BEAT_S, BrokerSession, Introduction, Registration
from cbw.core.worker.orders import Orders
from cbw.core.worker.outgoing import OutgoingStreams, too_large
from cbw.core.worker.shares import Shares
from cbw.core.worker.time_limits import TimeLimits

OVERSLEPT_S = 2 * WORKER_BEAT_S
"""A worker that has not been stepped for this long was frozen: its timers are set for every beat, at the latest."""
LOOK_UP_S = 2.0
"""Seconds between two look-ups of the brokers' names, so that one that joins is noticed within 5 s even if an answer is lost."""
PREFETCH_S = 0.002
"""A worker asks for this much work beyond what it runs, in seconds of its handlers' time: about the time that an answer
and the next task are on their way."""
PREFETCH_MAX = 1000
"""Most tasks that are asked for beyond each one that can run at once, however quick the handlers are."""
GIVE_BACK_S = 0.01
"""If none of its handlers has ended for so many seconds, a worker of several brokers gives back what has not begun. What it has
asked for beyond what it runs was to take :data:`PREFETCH_S`, and no broker knows that the tasks of another are in front."""
SERVICE_TIME_WEIGHT = 0.2
"""Weight of a new measurement of the handlers' time that is shorter than the last ones; a longer one counts at once."""
CREDIT_CHANGE = 0.25
"""A new credit is worth a message to the broker if it differs from the last one by this fraction."""


class WorkerCore:
    """Decides for one worker process, which serves all brokers at once (see :mod:`cbw.core.worker.shares`).

    ``boot``, ``proof``, ``wants_names``, ``signatures`` and ``takes_streams`` are those of its :class:`.Introduction`. ``places``
    are the brokers that the caller connects to from the start, as connections 0, 1, …; with ``looks_up`` it is asked for more,
    again and again. A worker that ``exits_when_stuck`` leaves when no handler can run any more, because all slots are held by
    handlers that have exceeded their time limits and have not ended.

    After each :meth:`step` the caller owes every order carried out, in this order, and another step by :attr:`wake_at`.
    """

    hello_refused = ""
    """Why the last hello was not answered with a welcome."""

    def __init__(
        self,
        name: str,
        boot: str,
        services: Sequence[str],
        concurrency: int,
        proof: bytes = b"",
        *,
        exits_when_stuck: bool = False,
        wants_names: bool = False,
        signatures: dict[str, str] | None = None,
        takes_streams: bool = False,
        places: Sequence[str] = ("",),
        looks_up: bool = False,
    ) -> None:
        self.name, self.boot = name, boot
        self.services = list(services)
        self.concurrency = concurrency
        self.credit = concurrency  # how many tasks are wanted in hand while everything is well
        self.sessions: dict[int, BrokerSession] = {}
        self.is_ended = self.has_met_broker = False
        self.refused: messages.Refused | None = None  # what a broker said, if no broker lets this worker in
        self.tasks_done = self.tasks_failed = 0  # tasks that ended here, and those of them that ended with an error
        self.is_quick = False  # handlers run one at a time, and take less than two changes of threads
        self.is_pool_ready = True
        self.is_leaving = self.has_left_stuck = False  # stuck: because none of its handlers can run any more
        self.limits = TimeLimits()
        self.latencies = ServiceLatencies(services)  # of handlers
        abilities = (proof, wants_names, signatures, takes_streams)
        self._introduction = Introduction(name, boot, self.services, concurrency, *abilities)
        self._streams = OutgoingStreams()
        self._exits_when_stuck = exits_when_stuck
        self._agenda = Agenda()
        self._shares = Shares(self._agenda, self._credit_wanted)
        self._limit = self._agenda.timer(self._look_at_limits)
        self._stall = self._agenda.timer(self._stalled)
        self._is_stalled = False  # until a handler ends, nothing is wanted beyond what can run
        self._grace = self._agenda.timer(self._grace_ended)
        self._look_up = self._agenda.timer(self._look_for_brokers)
        self._stepped_at = 0.0
        self._service_s: float | None = None
        self._orders = Orders()
        self._on: dict[type, Callable[[Any, float], None]] = {
            events.Connected: self._connected,
            events.Disconnected: self._disconnected,
            events.ReconnectFailed: self._reconnect_failed,
            events.BrokersFound: self._brokers_found,
            events.BatchArrived: self._batch_arrived,
            events.TasksFinished: self._tasks_finished,
            events.TasksReturned: self._tasks_returned,
            events.HandlerCalled: self._handler_called,
            events.AnswersWentOn: self._answers_went_on,
            events.TasksOverdue: self._tasks_overdue,
            events.PoolReady: self._pool_ready,
            events.PoolNotReady: self._pool_not_ready,
            events.StopRequested: self._stop_requested,
        }
        for place in places:
            self._open(place)
        self._look_up.set(0.0 if looks_up else math.inf)

    def step(self, facts: Iterable[events.Fact], now: float) -> list[events.Order]:
        """Take in ``facts``, do what is due at ``now`` (monotonic seconds, never going back), and say what to do."""
        if self.is_ended:  # nothing may undo the goodbye
            return []
        if now - self._stepped_at > OVERSLEPT_S and self.is_registered:
            self._overslept(now)
        for fact in facts:
            self._on[type(fact)](fact, now)
            if self.is_ended:
                return self._take_orders()
        self._agenda.run(now)
        if self.is_leaving and not self.in_hand:
            self._leave()
        elif len(self.sessions) > 1:
            self._use_others(now)  # a timer may have ended a session, or changed what is offered
        self._stepped_at = now
        return self._take_orders()

    @property
    def wake_at(self) -> float:
        """When :meth:`step` wants to be called even if nothing happens; infinity: never."""
        return self._agenda.wake_at

    @property
    def is_registered(self) -> bool:
        """Whether a broker knows this worker."""
        return any(session.broker is not None for session in self.sessions.values())

    @property
    def brokers(self) -> list[messages.Welcome]:
        """What the brokers that know this worker have said of themselves."""
        return [session.broker for session in self.sessions.values() if session.broker is not None]

    @property
    def in_hand(self) -> list[int]:
        """The tasks that are to be answered or given back."""
        return [task for session in self.sessions.values() for task in session.in_hand]

    @property
    def left_over(self) -> list[int]:
        """Tasks that were others' before their handlers have ended."""
        return [task for session in self.sessions.values() for task in session.left_over]

    def _take_orders(self) -> list[events.Order]:
        """What was decided in this step."""
        orders = self._orders.take()
        for session in self.sessions.values():
            if session.to_send:
                orders.append(events.Send(session.to_send, session.number))
                session.to_send = []
        if self.is_ended:
            orders.append(events.End(self.refused))
        return orders

    def _overslept(self, now: float) -> None:
        is_busy = bool(self.in_hand or self.left_over or self.limits.slots_held)
        self._orders.first.append(events.TellStoodStill(now - self._stepped_at, is_busy))
        for session in self.sessions.values():
            session.overslept(now)

    # --- brokers

    def _open(self, place: str) -> BrokerSession:
        number = next(number for number in range(len(self.sessions) + 1) if number not in self.sessions)
        whole = (self._introduction, self.sessions, self._agenda, self._orders, self._shares, self._streams)
        session = BrokerSession(number, place, *whole)
        self.sessions[number] = session
        return session

    def _look_for_brokers(self, now: float) -> None:
        self._look_up.set(now + LOOK_UP_S)
        self._orders.first.append(events.LookUp())

    def _brokers_found(self, fact: events.BrokersFound, now: float) -> None:
        """Connect to those that are new. Who is not named any more is served as long as there is a connection."""
        known = {session.place for session in self.sessions.values()}
        for session in [*self.sessions.values()]:
            if session.place not in fact.places and session.is_over(now):
                del self.sessions[session.number]
                self._orders.first.append(events.Disconnect(session.number))
        for place in fact.places:
            if place not in known:
                self._orders.first.append(events.Connect(self._open(place).number, place))

    def _connected(self, fact: events.Connected, now: float) -> None:
        self.sessions[fact.connection].connected(now)

    def _disconnected(self, fact: events.Disconnected, now: float) -> None:
        self.sessions[fact.connection].lost_connection(now)
        self._use_others(now)

    def _use_others(self, now: float) -> None:
        """Sessions may be over: their brokers may be reached over other connections, and other brokers get their slots."""
        for session in self.sessions.values():
            session.step_in(now)
        self._tell_credit(now)

    def _reconnect_failed(self, fact: events.ReconnectFailed, now: float) -> None:
        self.sessions[fact.connection].reconnect_failed(now)

    def _batch_arrived(self, fact: events.BatchArrived, now: float) -> None:
        session = self.sessions[fact.connection]
        if session.broker is None and (
            session.is_ended
            or (session.registration is Registration.DISCONNECTED and not any(map(is_about_keys, fact.messages)))
        ):
            return  # it came over the connection that was lost
        session.heard(now)
        in_hand, begin = session.in_hand, self._orders.begin
        are_all_wanted = self._are_all_wanted(session)
        services: list[str] = []
        for message in fact.messages:
            if type(message) is not messages.Task and type(message) is not messages.StreamTask:
                if services:  # before a demand that comes behind them
                    self._took(session, services, now)
                    services = []
                self._take_word(session, message, now)
                if self.is_ended:
                    return
                begin = self._orders.begin
                are_all_wanted = self._are_all_wanted(session)
            elif session.broker is None:
                pass  # sent over an earlier connection, or before the broker heard our second hello: given to others since
            elif not are_all_wanted and self._has_no_room_for(message.id, session):
                session.give_back([message.id])  # sent before the broker knew
            elif message.id not in in_hand:
                in_hand[message.id] = None
                begin.append(message)
                if type(message) is messages.StreamTask:
                    self._streams.begun(message)
                    self.is_quick = False
                if not are_all_wanted:
                    services.append(message.service)
        if services:
            self._took(session, services, now)

    def _took(self, session: BrokerSession, services: list[str], now: float) -> None:
        """Tasks for these have come."""
        if self._shares.are_several:
            self._shares.took(session.share, services, now)
            if self._shares.in_hand > self.concurrency:
                self._stall.set_by(now + GIVE_BACK_S)

    def _take_word(self, session: BrokerSession, message: messages.Message, now: float) -> None:
        """Take in a message that is no task."""
        had_broker = session.broker is not None
        session.take_word(message, now)
        welcome = session.broker
        self.hello_refused = message.text if type(message) is messages.Refused else ""
        if type(message) is messages.Welcome and welcome is not None:
            self.has_met_broker = True
            for other in self.sessions.values():
                if other is not session and other.broker is not None and other.broker.boot == welcome.boot:
                    other.step_aside(session, now)
            self._tell_credit(now)
        elif welcome is None and had_broker:
            self._use_others(now)
        if session.is_ended and all(other.is_ended for other in self.sessions.values()):
            self.refused = session.refused
            self.is_ended = True

    # --- tasks that end

    def _tasks_finished(self, fact: events.TasksFinished, now: float) -> None:
        answers, credit = fact.answers, self.credit
        could_take_all = all(map(self._are_all_wanted, self.sessions.values()))
        self._is_stalled = False
        self.latencies.add(fact.took)
        if self.limits.is_used:
            answers = [answer for answer in answers if not self.limits.ended(answer.id)]
        self._take_answers(answers)
        if fact.answers:
            self._measure(fact.busy_s / len(fact.answers))
            if not could_take_all or self.credit != credit:
                self._tell_credit(now)
                if self._stall.is_set:
                    self._stall.set(now + GIVE_BACK_S)

    def _take_answers(self, answers: Sequence[messages.Answer]) -> None:
        """These tasks have ended: send the answers, or keep those that belong to an earlier session for the next one."""
        self.tasks_done += len(answers)
        for answer in answers:
            if answer.status is not OK and answer.status not in SUCCEEDED:
                self.tasks_failed += 1
        if len(self.sessions) == 1:
            (session,) = self.sessions.values()
            session.answer(answers)
            return
        for answer in answers:
            owner = self._session_of(answer.id)
            if owner is not None:
                owner.answer([answer])

    def _session_of(self, task: int) -> BrokerSession | None:
        """The session in which ``task`` came; None: its broker is not served any more."""
        for session in self.sessions.values():
            if session.has(task):
                return session
        return None

    def _tasks_returned(self, fact: events.TasksReturned, now: float) -> None:
        for session in self.sessions.values():
            mine = [task for task in fact.tasks if task in session.in_hand]
            for task in mine:
                del session.in_hand[task]
            for task in fact.tasks:
                session.left_over.pop(task, None)
                self._streams.tasks.pop(task, None)
            if session.broker is not None and (mine or not fact.tasks):
                session.give_back(mine)  # also if there are none: a broker has asked
        self._tell_credit(now)

    def _stalled(self, now: float) -> None:
        """No handler has ended for long: what has not begun could be with other workers, and its broker cannot know that."""
        are_several = sum(bool(session.in_hand) for session in self.sessions.values()) > 1
        if are_several and self._shares.in_hand > self.concurrency:
            self._is_stalled = True
            self._orders.take_back.extend(self.in_hand)
            self._tell_credit(now)

    # --- tasks that take too long

    def _handler_called(self, fact: events.HandlerCalled, now: float) -> None:
        if self._session_of(fact.task) is not None:
            due_at = now + fact.limit_s
            self.limits.begun(fact.task, due_at)
            self._limit.set_by(due_at)

    def _look_at_limits(self, now: float) -> None:
        due, stuck = self.limits.take_due(now), self.limits.take_stuck(now)
        self._limit.set(self.limits.wake_at)
        if due:
            self._orders.first.append(events.EndOverdue(due))
        if not stuck:
            return
        self._orders.first.append(events.TellStuck(stuck))
        self._orders.take_back.extend(self.in_hand)  # others can begin earlier what has not begun here
        if len(self.limits.stuck) >= self.concurrency and self._exits_when_stuck and not self.is_leaving:
            self.has_left_stuck = True
            self._stop_requested(events.StopRequested(now), now)

    def _tasks_overdue(self, fact: events.TasksOverdue, now: float) -> None:
        for answer in fact.answers:
            self.limits.answered(answer.id, now)
        self._answer_early(fact.answers, now)

    def _answer_early(self, answers: list[messages.Answer], now: float) -> None:
        """Their handlers were told to end, and hold their slots until they do."""
        self._limit.set(self.limits.wake_at)
        self._take_answers(answers)
        self._tell_credit(now)

    def _answers_went_on(self, fact: events.AnswersWentOn, now: float) -> None:
        for message in fact.news:
            session = self._session_of(message.id)
            if session is None or session.broker is None or message.id not in session.in_hand:
                continue
            if (answer := too_large(message, session.broker)) is not None:
                self._orders.cancel.append(message.id)
                self.limits.told_to_end(message.id, now)
                self._answer_early([answer], now)
            elif session.broker.takes_streams:
                session.to_send.append(message)

    # --- how many tasks are wanted

    def _are_all_wanted(self, session: BrokerSession) -> bool:
        """Whether there is room for every task of this broker, which is the only one and knows all that has changed here."""
        is_full = self.is_leaving or not self.is_pool_ready or session.left_over or self.limits.slots_held
        return not is_full and len(self.sessions) == 1

    def _has_no_room_for(self, task: int, session: BrokerSession) -> bool:
        """Whether ``task`` has to be given back: the broker did not know yet what has changed here."""
        if self.is_leaving or not self.is_pool_ready:
            return True
        if task in session.in_hand:
            return False
        # Brokers begin to count at random numbers, so two of them hardly ever use the same.
        return self._session_of(task) is not None or len(self.in_hand) >= self._credit_wanted()

    def _credit_wanted(self) -> int:
        """How many tasks are wanted in hand. Handlers of an earlier session, and those that have exceeded their time limits, hold
        their slots: until they end, nothing is wanted beyond what can run."""
        if self.is_leaving or not self.is_pool_ready:
            return 0
        held = self.limits.slots_held
        for session in self.sessions.values():
            held += len(session.left_over)
        if held or self._is_stalled:
            return max(0, self.concurrency - held)
        return self.credit

    def _tell_credit(self, now: float) -> None:
        self._shares.divide(now)
        for session in self.sessions.values():
            session.tell_credit()

    def _measure(self, service_s: float) -> None:
        known = self._service_s
        if known is None or service_s > known:
            self._service_s = service_s
        else:
            self._service_s = known + SERVICE_TIME_WEIGHT * (service_s - known)
        may_take_long = self.limits.were_used or self._streams.were_used
        self.is_quick = self.concurrency == 1 and self._service_s < PREFETCH_S and not may_take_long
        prefetched = min(PREFETCH_MAX, int(PREFETCH_S / max(self._service_s, 1e-9)))
        credit = self.concurrency * (1 + prefetched)
        has_changed = abs(credit - self.credit) > CREDIT_CHANGE * self.credit
        if has_changed or (prefetched == 0) != (self.credit == self.concurrency):
            self.credit = credit

    def _pool_ready(self, _: events.PoolReady, now: float) -> None:
        self.is_pool_ready = True
        self._tell_credit(now)

    def _pool_not_ready(self, _: events.PoolNotReady, now: float) -> None:
        self.is_pool_ready = False
        self._tell_credit(now)

    # --- leaving

    def _stop_requested(self, fact: events.StopRequested, now: float) -> None:
        self._grace.set_by(fact.by)
        if not self.is_leaving:
            self.is_leaving = True
            self._tell_credit(now)
            self._orders.take_back.extend(self.in_hand)

    def _grace_ended(self, now: float) -> None:
        """What still runs has had its time. Its process ends with this one, so it may have begun and counts as an attempt."""
        for session in self.sessions.values():
            session.give_up()

    def _leave(self) -> None:
        for session in self.sessions.values():
            session.leave()
        self.is_ended = True
