"""The worker's core: its session with the broker, how many tasks it asks for, which answers it owes, how it leaves.

A task that the broker has sent is *in hand* until it is answered or given back. Whether its handler has begun is known
only by the pool that runs the handlers: to give tasks back, the core asks the pool, and hears later what it gave.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any

from cbw.core import messages
from cbw.core.agenda import Agenda
from cbw.core.hello import Patience, is_about_keys
from cbw.core.messages import Status
from cbw.core.parts import SUCCEEDED
from cbw.core.worker import events
from cbw.core.worker.outgoing import OutgoingStreams, fitting, too_large
from cbw.core.worker.time_limits import TimeLimits

WORKER_BEAT_S = 1.0
"""Seconds between two beats, and between two hellos that were not answered. A broker takes a worker for lost after three
beats that are missing."""
OVERSLEPT_S = 2 * WORKER_BEAT_S
"""A worker that has not been stepped for this long was frozen: its timers are set for every beat, at the latest."""
WORKER_RECONNECT_S = 0.5
"""Seconds between two tries to make a connection when no file descriptors are left: others may close some meanwhile."""
PREFETCH_S = 0.002
"""A worker asks for this much work beyond what it runs, in seconds of its handlers' time: about the time that an answer
and the next task are on their way."""
PREFETCH_MAX = 1000
"""Most tasks that are asked for beyond each one that can run at once, however quick the handlers are."""
LATE_ANSWERS_MAX = 1000
"""Most answers to tasks of an earlier session that are kept to be sent in the next one. The broker does not use them (the
tasks went to others), but its trace shows that they came; the oldest are dropped first."""
SERVICE_TIME_WEIGHT = 0.2
"""Weight of a new measurement of the handlers' time that is shorter than the last ones; a longer one counts at once."""
CREDIT_CHANGE = 0.25
"""A new credit is worth a message to the broker if it differs from the last one by this fraction."""


class Registration(Enum):
    """Where the worker is in its conversation with the broker."""

    DISCONNECTED = "no connection"
    GREETING = "connected; the hello is sent, or will be sent again, and was not answered with a welcome"
    REGISTERED = "welcomed: the broker sends tasks"
    ENDED = "the worker has left, or is refused for good"


TRANSITIONS: dict[Registration, tuple[Registration, ...]] = {
    Registration.DISCONNECTED: (Registration.DISCONNECTED, Registration.GREETING, Registration.ENDED),
    Registration.GREETING: (
        Registration.GREETING,
        Registration.REGISTERED,
        Registration.DISCONNECTED,
        Registration.ENDED,
    ),
    Registration.REGISTERED: (
        Registration.REGISTERED,
        Registration.GREETING,
        Registration.DISCONNECTED,
        Registration.ENDED,
    ),
    Registration.ENDED: (),
}


class WorkerCore:
    """Decides for one worker process. ``boot`` is new at each start, so that the broker can tell a restart from a reconnection,
    and ``proof`` the secret of that start. ``wants_names``, ``signatures`` and ``takes_streams`` are those of its hello.

    A worker that ``exits_when_stuck`` leaves when no handler can run any more, because all slots are held by handlers that have
    exceeded their time limits and have not ended.

    After each :meth:`step` the caller owes every order carried out, in this order, and another step by :attr:`wake_at`.
    """

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
    ) -> None:
        self.name, self.boot = name, boot
        self._introduction = (proof, wants_names, signatures, takes_streams)  # the end of each hello
        self.services = list(services)
        self.concurrency = concurrency
        self.credit = concurrency  # how many tasks are wanted in hand while everything is well
        self.registration = Registration.DISCONNECTED
        self.is_ended = self.has_met_broker = False
        self.broker: messages.Welcome | None = None  # what it said of itself, while the worker is registered
        self.refused: messages.Refused | None = None  # what the broker said if it refuses this worker for good
        self.in_hand: dict[int, None] = {}
        self.left_over: dict[int, None] = {}  # tasks of earlier sessions whose handlers still run
        self.tasks_done = self.tasks_failed = 0  # tasks that ended here, and those of them that ended with an error
        self.is_quick = False  # handlers run one at a time, and take less than two changes of threads
        self.is_pool_ready = True
        self.is_leaving = self.has_left_stuck = False  # stuck: because none of its handlers can run any more
        self.limits = TimeLimits()
        self._streams = OutgoingStreams()
        self._exits_when_stuck = exits_when_stuck
        self._agenda = Agenda()
        self._limit, self._next_word = map(self._agenda.timer, (self._look_at_limits, self._say_next_word))
        self._silence = self._agenda.timer(self._look_for_silence)
        self._grace, self._reconnect = map(self._agenda.timer, (self._grace_ended, self._connect_again))
        self._patience = Patience()
        self._stepped_at = self._heard_at = 0.0
        self._service_s: float | None = None
        self._credit_told = 0
        self._late: deque[messages.Answer] = deque(maxlen=LATE_ANSWERS_MAX)
        self._orders: list[events.Order] = []
        self._to_begin: list[messages.Task] = []
        self._to_take_back: list[int] = []
        self._to_cancel: list[int] = []
        self._to_grant: list[events.Order] = []
        self._to_send: list[messages.Message] = []
        self._on: dict[type, Callable[[Any, float], None]] = {
            events.Connected: self._connected,
            events.Disconnected: self._disconnected,
            events.ReconnectFailed: self._reconnect_failed,
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

    def step(self, facts: Iterable[events.Fact], now: float) -> list[events.Order]:
        """Take in ``facts``, do what is due at ``now`` (monotonic seconds, never going back), and say what to do."""
        if self.is_ended:  # nothing may undo the goodbye
            return []
        if now - self._stepped_at > OVERSLEPT_S and self.broker is not None:
            is_busy = bool(self.in_hand or self.left_over or self.limits.slots_held)
            self._orders.append(events.TellStoodStill(now - self._stepped_at, is_busy))
        for fact in facts:
            self._on[type(fact)](fact, now)
            if self.is_ended:
                return self._take_orders()
        self._agenda.run(now)
        if self.is_leaving and not self.in_hand:
            self._leave()
        self._stepped_at = now
        return self._take_orders()

    @property
    def wake_at(self) -> float:
        """When :meth:`step` wants to be called even if nothing happens; infinity: never."""
        return self._agenda.wake_at

    def _take_orders(self) -> list[events.Order]:
        """What was decided in this step. Tasks begin before anything else is wanted of them."""
        orders, self._orders = self._orders, []
        if self._to_begin:
            orders.append(events.Begin(self._to_begin))
            self._to_begin = []
        if self._to_take_back:
            orders.append(events.TakeBack(self._to_take_back))
            self._to_take_back = []
        orders += self._to_grant
        self._to_grant = []
        if self._to_cancel:
            orders.append(events.CancelTasks(self._to_cancel))
            self._to_cancel = []
        if self._to_send:
            orders.append(events.Send(self._to_send))
            self._to_send = []
        if self.is_ended:
            orders.append(events.End(self.refused))
        return orders

    # --- the connection

    def _enter(self, registration: Registration) -> None:
        assert registration in TRANSITIONS[self.registration], f"{self.registration} -> {registration}"
        self.registration = registration
        self.is_ended = registration is Registration.ENDED

    def _connected(self, _: events.Connected, now: float) -> None:
        self._reconnect.clear()
        self._patience.welcomed()
        self._end_session()
        self._say_hello(now)

    def _disconnected(self, _: events.Disconnected, now: float) -> None:
        self._lose_connection()

    def _lose_connection(self) -> None:
        self._next_word.clear()
        self._end_session()
        self._enter(Registration.DISCONNECTED)
        self._to_send.clear()

    def _look_for_silence(self, now: float) -> None:
        """Connect anew if the broker has been silent for longer than its liveness. Batches that arrive do not move this
        timer, as that would cost each of them; so it is often early."""
        if self.broker is None:
            return
        liveness_s = self.broker.liveness_s
        if now - self._heard_at <= liveness_s:
            self._silence.set(self._heard_at + liveness_s)
        elif now - self._stepped_at > OVERSLEPT_S:
            # The worker was frozen, so it was the worker that was silent. What the broker said meanwhile may not have been
            # read yet, and if it took the worker for lost it will say so when it hears the next beat.
            self._heard_at = now - liveness_s + WORKER_BEAT_S
            self._silence.set(now + WORKER_BEAT_S)
        else:
            self._lose_connection()
            self._connect_again(now)

    def _reconnect_failed(self, _: events.ReconnectFailed, now: float) -> None:
        self._reconnect.set(now + WORKER_RECONNECT_S)

    def _connect_again(self, now: float) -> None:
        self._orders.append(events.Reconnect())

    # --- the session

    def _batch_arrived(self, fact: events.BatchArrived, now: float) -> None:
        if self.registration is Registration.DISCONNECTED and not any(map(is_about_keys, fact.messages)):
            return  # it came over the connection that was lost
        self._heard_at = now
        wants_none = self.is_leaving or not self.is_pool_ready
        for message in fact.messages:
            if type(message) is not messages.Task and type(message) is not messages.StreamTask:
                self._take_word(message, now)
                if self.is_ended:
                    return
            elif self.broker is None:
                pass  # sent over an earlier connection, or before the broker heard our second hello: given to others since
            elif wants_none or ((self.left_over or self.limits.slots_held) and self._has_no_room_for(message.id)):
                self._to_send.append(messages.Returned([message.id]))  # sent before the broker knew
            elif message.id not in self.in_hand:
                self.in_hand[message.id] = None
                self._to_begin.append(message)
                if type(message) is messages.StreamTask:
                    self._streams.begun(message)
                    self.is_quick = False

    def _take_word(self, message: messages.Message, now: float) -> None:
        """Take in a message that is no task."""
        match message:
            case messages.Recall():
                self._to_take_back.extend(message.tasks)
            case messages.CancelTask():
                self._to_cancel.append(message.id)
            case messages.PartsWanted():
                self._to_grant.append(events.GrantParts(message.id, message.parts))
            case messages.Welcome():
                self._end_session()  # at a second hello the broker has put back what it sent after the first
                self._enter(Registration.REGISTERED)
                self.broker = message
                self.has_met_broker = True
                self._silence.set(now + message.liveness_s)
                self._patience.welcomed()
                self._go_on_with(message.tasks)
                self._tell_credit()
                self._send_late(message)
            case messages.HelloAgain():
                if self.broker is not None:  # otherwise a hello is on its way already
                    self._end_session()
                    self._say_hello(now)
            case messages.Goodbye():
                self._end_session()
                self._enter(Registration.GREETING)
            case messages.Refused():
                self._was_refused(message, now)

    def _go_on_with(self, tasks: list[int]) -> None:
        """The broker was restarted, has a journal, and wants the answers to these. What the pool has given back since the hello
        had not begun.
        """
        late = {answer.id for answer in self._late}
        returned: list[int] = []
        for task in tasks:
            if task in self.left_over:
                del self.left_over[task]
                self.in_hand[task] = None
            elif task not in late:
                returned.append(task)
        if returned:
            self._to_send.append(messages.Returned(returned))
        self._to_take_back = list(self.left_over)

    def _was_refused(self, refused: messages.Refused, now: float) -> None:
        retry_at = self._patience.retry_at(refused, now)
        if retry_at == math.inf:
            self.refused = refused
            self._enter(Registration.ENDED)
            return
        if self.broker is not None:
            self._end_session()
        self._enter(Registration.GREETING)
        self._next_word.set(retry_at)

    def _end_session(self) -> None:
        """Whatever is in hand belongs to others now: drop what has not begun; what has begun will be answered too late."""
        self.broker = None
        self._silence.clear()
        for task in self._to_begin:
            del self.in_hand[task.id]
        self._to_begin.clear()
        self._to_cancel += self._streams.of(self.in_hand)  # nobody can say any more that there is room for their parts
        self.left_over.update(self.in_hand)
        self.in_hand.clear()
        self._to_take_back = list(self.left_over)

    def _say_next_word(self, now: float) -> None:
        """A beat, or, as long as no welcome has come, a hello."""
        if self.registration is Registration.REGISTERED:
            self._next_word.set(now + WORKER_BEAT_S)
            self._to_send.append(messages.Beat())  # beside answers too: the broker answers a beat, and only that
        elif self.registration is Registration.GREETING:
            self._say_hello(now)

    def _say_hello(self, now: float) -> None:
        self._enter(Registration.GREETING)
        self._next_word.set(now + WORKER_BEAT_S)
        self._credit_told = self._credit_wanted
        begun = [*self._streams.others(self.left_over), *(answer.id for answer in self._late)]
        hello = messages.WorkerHello(
            self.name,
            self.boot,
            self.services,
            self.concurrency,
            self._credit_told,
            begun[:LATE_ANSWERS_MAX],
            *self._introduction,
        )
        self._to_send = [hello]

    # --- tasks that end

    def _tasks_finished(self, fact: events.TasksFinished, now: float) -> None:
        answers = fact.answers
        if self.limits.is_used:
            answers = [answer for answer in answers if not self.limits.ended(answer.id)]
        self._take_answers(answers)
        if fact.answers:
            self._measure(fact.busy_s / len(fact.answers))
            self._tell_credit()

    def _take_answers(self, answers: Sequence[messages.Answer]) -> None:
        """These tasks have ended: send the answers, or keep those that belong to an earlier session for the next one."""
        self.tasks_done += len(answers)
        streams = self._streams.tasks
        for answer in answers:
            is_stream = streams and streams.pop(answer.id, 0) is None
            if answer.status not in SUCCEEDED:
                self.tasks_failed += 1
            if answer.id in self.in_hand:
                del self.in_hand[answer.id]
                assert self.broker is not None
                self._to_send.append(fitting(answer, self.broker))
            else:  # of an earlier session
                self.left_over.pop(answer.id, None)
                if not is_stream:  # whose parts went nowhere
                    self._late.append(answer)
        if self._late and self.broker is not None:
            self._send_late(self.broker)

    def _tasks_returned(self, fact: events.TasksReturned, now: float) -> None:
        mine = [task for task in fact.tasks if task in self.in_hand]
        for task in mine:
            del self.in_hand[task]
        for task in fact.tasks:
            self.left_over.pop(task, None)
            self._streams.tasks.pop(task, None)
        if self.broker is not None:
            self._to_send.append(messages.Returned(mine))  # also if there are none: the broker has asked
            self._tell_credit()

    # --- tasks that take too long

    def _handler_called(self, fact: events.HandlerCalled, now: float) -> None:
        if fact.task in self.in_hand or fact.task in self.left_over:
            due_at = now + fact.limit_s
            self.limits.begun(fact.task, due_at)
            self._limit.set_by(due_at)

    def _look_at_limits(self, now: float) -> None:
        due, stuck = self.limits.take_due(now), self.limits.take_stuck(now)
        self._limit.set(self.limits.wake_at)
        if due:
            self._orders.append(events.EndOverdue(due))
        if not stuck:
            return
        self._orders.append(events.TellStuck(stuck))
        self._to_take_back.extend(self.in_hand)  # others can begin earlier what has not begun here
        if len(self.limits.stuck) >= self.concurrency and self._exits_when_stuck and not self.is_leaving:
            self.has_left_stuck = True
            self._stop_requested(events.StopRequested(now), now)

    def _tasks_overdue(self, fact: events.TasksOverdue, now: float) -> None:
        for answer in fact.answers:
            self.limits.answered(answer.id, now)
        self._answer_early(fact.answers)

    def _answer_early(self, answers: list[messages.Answer]) -> None:
        """Their handlers were told to end, and hold their slots until they do."""
        self._limit.set(self.limits.wake_at)
        self._take_answers(answers)
        self._tell_credit()

    def _answers_went_on(self, fact: events.AnswersWentOn, now: float) -> None:
        for message in fact.news:
            if self.broker is None or message.id not in self.in_hand:
                continue
            if (answer := too_large(message, self.broker)) is not None:
                self._to_cancel.append(message.id)
                self.limits.told_to_end(message.id, now)
                self._answer_early([answer])
            elif self.broker.takes_streams:
                self._to_send.append(message)

    def _send_late(self, broker: messages.Welcome) -> None:
        self._to_send.extend(fitting(answer, broker) for answer in self._late)
        self._late.clear()

    # --- how many tasks are wanted

    def _has_no_room_for(self, task: int) -> bool:
        return task in self.left_over or len(self.in_hand) >= self._credit_wanted

    @property
    def _credit_wanted(self) -> int:
        """How many tasks are wanted in hand. Handlers of an earlier session, and those that have exceeded their time limits, hold
        their slots: until they end, nothing is wanted beyond what can run."""
        if self.is_leaving or not self.is_pool_ready:
            return 0
        held = len(self.left_over) + self.limits.slots_held
        if held:
            return max(0, self.concurrency - held)
        return self.credit

    def _tell_credit(self) -> None:
        wanted = self._credit_wanted
        if self.broker is not None and wanted != self._credit_told:
            self._credit_told = wanted
            self._to_send.append(messages.Credit(wanted))

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
        self._tell_credit()

    def _pool_not_ready(self, _: events.PoolNotReady, now: float) -> None:
        self.is_pool_ready = False
        self._tell_credit()

    # --- leaving

    def _stop_requested(self, fact: events.StopRequested, now: float) -> None:
        self._grace.set_by(fact.by)
        if not self.is_leaving:
            self.is_leaving = True
            self._tell_credit()
            self._to_take_back.extend(self.in_hand)

    def _grace_ended(self, now: float) -> None:
        """What still runs has had its time. Its process ends with this one, so it may have begun and counts as an attempt."""
        if self.broker is not None:
            why = messages.error_body("stopped", "the worker was stopped")
            self._to_send.extend(messages.Answer(task, Status.CRASHED, why) for task in self.in_hand)
        self.in_hand.clear()

    def _leave(self) -> None:
        if self.registration is not Registration.DISCONNECTED:
            # Also before the welcome has come: tasks may be on their way behind it.
            self._to_send.append(messages.Goodbye())
        self._enter(Registration.ENDED)
