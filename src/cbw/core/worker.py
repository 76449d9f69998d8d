"""The worker's decisions: its standing with the broker, how much it wants in hand, how it leaves.

Whether a task has begun is known by the pool that runs the handlers, so recalls go there and come back as a fact.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence

from cbw.core import messages as m
from cbw.core.hello import Patience
from cbw.core.messages import Status

BEAT_S = 1.0
AHEAD_S = 0.002
"""A worker wants this much work ahead (of its own measured service time): about what an answer and the next task take."""
AHEAD_MAX = 1000
"""At most so many tasks ahead for each one that it can run."""
LATE_MAX = 1000
"""Late answers that are kept for the next connection, to be fenced off by the broker where its trace shows them."""
SERVICE_TIME_WEIGHT = 0.2
"""Weight of a new measurement that is faster than the last ones; a slower one counts at once."""
CREDIT_CHANGE = 0.25
"""A new credit is worth a message if it differs by this fraction."""


class WorkerCore:
    """Registers, keeps the connection alive, asks for work, answers, leaves.

    After each call the shell owes: begin what :meth:`take_tasks` gives, ask the pool for ``to_take_back`` and tell
    :meth:`returned`, cancel ``to_cancel``, open a new connection if ``is_reconnect_wanted``, and send what
    :meth:`take_messages` gives; and a :meth:`tick` by :attr:`wake_at`.
    """

    def __init__(self, name: str, boot: str, services: Sequence[str], concurrency: int) -> None:
        self.name = name
        self.boot = boot
        self.services = list(services)
        self.concurrency = concurrency
        self.credit = concurrency
        self.broker: m.Welcome | None = None
        self.refused: m.Refused | None = None
        self.in_hand: dict[int, None] = {}
        self.left_over: dict[int, None] = {}  # of sessions that are over, but their handlers still run
        self.done = self.failed = 0  # tasks that ended here, and those of them that ended with an error
        self.is_quick = False  # handlers take less, one after another, than a change of threads would cost
        self.is_able = True
        self.is_leaving = False
        self.is_done = False
        self.is_reconnect_wanted = False
        self.to_take_back: list[int] = []
        self.to_cancel: list[int] = []
        self._late: deque[m.Answer] = deque(maxlen=LATE_MAX)
        self._is_connected = False
        self._service_s: float | None = None
        self._tasks: list[m.Task] = []
        self._out: list[m.Message] = []
        self._credit_told = 0
        self._beat_at = 0.0
        self._heard_at = 0.0
        self._ticked_at = 0.0
        self._hello_at = math.inf
        self._patience = Patience()
        self._leave_by = math.inf

    # --- facts

    def connected(self, now: float) -> None:
        """The connection is there."""
        if self.is_done:
            return
        self._is_connected = True
        self._heard_at = now
        self._patience.welcomed()
        self._forget_session()
        self._say_hello(now)

    def disconnected(self, now: float) -> None:
        """The connection is gone: the broker gives what we had to others."""
        self._is_connected = False
        self._hello_at = math.inf
        self._forget_session()
        self._finish_leaving(now)

    def received(self, messages: Iterable[m.Message], now: float) -> None:
        """The broker sent a batch. Tasks before its welcome were sent over an earlier connection: they are void."""
        if self.is_done:  # nothing may undo our goodbye
            return
        self._heard_at = now
        for message in messages:
            if type(message) is m.Task:
                if self.broker is None:
                    continue
                if self._wants_none or (self.left_over and self._has_no_room_for(message.id)):
                    self._out.append(m.Returned([message.id]))  # sent before the broker knew
                elif message.id not in self.in_hand:
                    self.in_hand[message.id] = None
                    self._tasks.append(message)
            elif type(message) is m.Recall:
                self.to_take_back.extend(message.tasks)
            elif type(message) is m.CancelTask:
                self.to_cancel.append(message.id)
            elif type(message) is m.Welcome:
                self._forget_session()  # if this answers a second hello, the broker has put back what we got after the first
                self.broker = message
                self._patience.welcomed()
                self._tell_credit()
                self._send_late()
            elif type(message) is m.HelloAgain:
                if self.broker is not None:  # otherwise our hello is on its way already
                    self._forget_session()
                    self._say_hello(now)
            elif type(message) is m.Goodbye:
                self._forget_session()
            elif type(message) is m.Refused:
                self._was_refused(message, now)

    def finished(self, answers: Sequence[m.Answer], busy_s: float, now: float) -> None:
        """Handlers are done with tasks; together they took ``busy_s`` seconds of handler time."""
        self.done += len(answers)
        for answer in answers:
            if answer.status is not m.Status.OK:
                self.failed += 1
            if answer.id in self.in_hand:
                del self.in_hand[answer.id]
                self._out.append(self._fitting(answer))
            else:  # of a session that is over: the broker will fence it off, and its trace will tell
                self.left_over.pop(answer.id, None)
                self._late.append(answer)
        if self._late and self.broker is not None:
            self._send_late()
        if answers:
            self._measure(busy_s / len(answers))
            self._tell_credit()
        self._finish_leaving(now)

    def returned(self, tasks: Sequence[int], now: float) -> None:
        """The pool gave these tasks back, none of which it has begun. Also owed (empty) when it has none to give."""
        mine = [task for task in tasks if task in self.in_hand]
        for task in mine:
            del self.in_hand[task]
        for task in tasks:
            self.left_over.pop(task, None)
        if self.broker is not None:
            self._out.append(m.Returned(mine))
            self._tell_credit()
        self._finish_leaving(now)

    def able(self, is_able: bool) -> None:
        """Whether the pool can run anything now. While it cannot, nothing is wanted."""
        if is_able is not self.is_able:
            self.is_able = is_able
            self._tell_credit()

    def stop_requested(self, now: float, by: float) -> None:
        """Leave: take nothing more, give back what has not begun, finish what has until ``by``."""
        self._leave_by = min(self._leave_by, by)
        if not self.is_leaving:
            self.is_leaving = True
            self._tell_credit()
            self.to_take_back.extend(self.in_hand)
        self._finish_leaving(now)

    def tick(self, now: float) -> None:
        """Time has passed."""
        if now >= self._hello_at:
            self._say_hello(now)
        has_overslept = now - self._ticked_at > 2 * BEAT_S
        self._ticked_at = now
        if self.broker is not None:
            if has_overslept:  # we were frozen, so it is we who were silent: let the broker speak first
                self._heard_at = max(self._heard_at, now - self.broker.liveness_s + BEAT_S)
                self._say_beat(now)
            elif now - self._heard_at > self.broker.liveness_s:
                self._is_connected = False
                self._forget_session()
                self.is_reconnect_wanted = True
            elif now - self._beat_at >= BEAT_S:
                self._say_beat(now)
        elif self._is_connected and self._hello_at == math.inf and now - self._beat_at >= BEAT_S:
            self._say_hello(now)  # the last one went unanswered
        self._finish_leaving(now)

    # --- what the shell asks

    @property
    def wake_at(self) -> float:
        """When :meth:`tick` is due; infinity: never."""
        return min(
            self._beat_at + BEAT_S if self._is_connected else math.inf,
            self._hello_at,
            self._heard_at + self.broker.liveness_s if self.broker is not None else math.inf,
            self._leave_by,
        )

    def take_tasks(self) -> list[m.Task]:
        """What is to be begun."""
        tasks, self._tasks = self._tasks, []
        return tasks

    def take_messages(self) -> list[m.Message]:
        """What is to be sent now."""
        out = self._out
        if out:
            self._out = []
        return out

    # --- inside

    def _say_hello(self, now: float) -> None:
        self._hello_at = math.inf
        self._beat_at = now
        self._credit_told = self._credit_wanted
        self._out = [m.WorkerHello(self.name, self.boot, self.services, self.concurrency, self._credit_told)]

    def _say_beat(self, now: float) -> None:
        """Also while we answer: the broker may have nothing to say, and to a beat it answers."""
        self._beat_at = now
        self._out.append(m.Beat())

    def _send_late(self) -> None:
        self._out.extend(map(self._fitting, self._late))
        self._late.clear()

    def _fitting(self, answer: m.Answer) -> m.Answer:
        """``answer``, or an error in its place if the broker would end the connection over its size."""
        assert self.broker is not None
        size, limit = len(answer.body), self.broker.body_bytes_max
        if size <= limit:
            return answer
        text = f"the answer has {size} bytes; the broker allows {limit} (--body-bytes-max)"
        return m.Answer(answer.id, Status.FAILED, m.error_body("TooBig", text))

    def _forget_session(self) -> None:
        """What we have in hand is no longer ours: what has not begun is dropped, what has will be answered too late."""
        self.broker = None
        for task in self._tasks:
            del self.in_hand[task.id]
        self._tasks.clear()
        self.left_over.update(self.in_hand)
        self.in_hand.clear()
        self._out.clear()
        self.to_take_back = list(self.left_over)

    @property
    def _wants_none(self) -> bool:
        return self.is_leaving or not self.is_able

    def _has_no_room_for(self, task: int) -> bool:
        return task in self.left_over or len(self.in_hand) >= self._credit_wanted

    @property
    def _credit_wanted(self) -> int:
        """Handlers that run on for an earlier session have their slots, and nothing ahead is wanted until they end."""
        if self._wants_none:
            return 0
        return max(0, self.concurrency - len(self.left_over)) if self.left_over else self.credit

    def _tell_credit(self) -> None:
        wanted = self._credit_wanted
        if self.broker is not None and wanted != self._credit_told:
            self._credit_told = wanted
            self._out.append(m.Credit(wanted))

    def _measure(self, service_s: float) -> None:
        known = self._service_s
        if known is None or service_s > known:
            self._service_s = service_s
        else:
            self._service_s = known + SERVICE_TIME_WEIGHT * (service_s - known)
        self.is_quick = self.concurrency == 1 and self._service_s < AHEAD_S
        ahead = min(AHEAD_MAX, int(AHEAD_S / max(self._service_s, 1e-9)))
        credit = self.concurrency * (1 + ahead)
        if abs(credit - self.credit) > CREDIT_CHANGE * self.credit or (ahead == 0) != (self.credit == self.concurrency):
            self.credit = credit

    def _was_refused(self, refused: m.Refused, now: float) -> None:
        self._hello_at = self._patience.retry_at(refused, now)
        if self._hello_at == math.inf:
            self.refused = refused
            self.is_done = True

    def _finish_leaving(self, now: float) -> None:
        if not self.is_leaving or self.is_done or (self.in_hand and now < self._leave_by):
            return
        if self.broker is not None:
            # What still runs is over its grace: its process ends with ours, so it may have begun and counts.
            self._out.extend(
                m.Answer(task, Status.CRASHED, m.error_body("stopped", "the worker was stopped"))
                for task in self.in_hand
            )
        if self._is_connected:  # also if the welcome is still on its way, with tasks behind it
            self._out.append(m.Goodbye())
        self.is_done = True
