"""What ``docs/reference/wire.md`` asks of a client: a hello first, each request once and as it was asked for, and patience."""

from __future__ import annotations

from collections.abc import Iterable

from cbw.core import messages
from cbw.core.client.retries import HINT_MAX_S, HINT_MIN_S, HINT_USUAL_S
from cbw.core.messages import Status

from .plan import Job, Wish
from .world import ViolationError

EXACTNESS_S = 1e-6
Asked = messages.Request | messages.Start | messages.Collect


class ClientManners:
    """Of one start of a client: compares what it says with what its program has asked for, and with what it has heard."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._asked: dict[
            int, tuple[Job | Wish, float]
        ] = {}  # what each number means, and when the program has said so
        self._has_greeted = self._has_left = self._was_held_up = False
        self._broker: messages.Welcome | None = None
        self._are_stored = False  # its answers, by a broker that it has met
        self._said: dict[int, None] = {}  # since the last hello
        self._not_before: dict[int, float] = {}  # the broker was too busy for these
        self._came: dict[int, None] = {}  # answers of which no broker was told that they have come
        self._rooms: dict[int, tuple[int, int]] = {}  # of streams: the attempt, and for how many of its parts

    def asked(self, number: int, job: Job | Wish, now: float) -> None:
        """Its program wants that."""
        self._asked[number] = job, now

    def connected(self) -> None:
        """It has another connection."""
        self._has_greeted = False
        self._forget()

    def _forget(self) -> None:
        self._broker = None
        self._was_held_up = False
        self._said.clear()
        self._not_before.clear()
        self._rooms.clear()

    def heard(self, batch: Iterable[messages.Message], now: float) -> None:
        """It has read that."""
        for message in batch:
            match message:
                case messages.Welcome():
                    self._broker = message
                    self._are_stored |= message.stores_answers
                case messages.Answer(status=Status.BUSY):
                    hint_s = HINT_USUAL_S if message.retry_after_s is None else message.retry_after_s
                    self._not_before.setdefault(message.id, now + min(max(hint_s, HINT_MIN_S), HINT_MAX_S))
                    self._said.pop(message.id, None)
                    self._came[message.id] = None
                case messages.Answer(status=status) if status is not Status.STOPPING:
                    self._came[message.id] = None

    def held_up(self) -> None:
        """There was no room for all that it has said: some goes out later, with the times of before."""
        self._was_held_up = True

    def says(self, batch: Iterable[messages.Message], now: float) -> None:
        """
        Raises:
            ViolationError: it must not say that, or not yet, or its program has asked for something else.
        """
        for message in batch:
            self._need(not self._has_left, f"says {message} after its goodbye")
            is_hello = isinstance(message, messages.ClientHello)
            self._need(is_hello or self._has_greeted, f"says {message} before its hello")
            match message:
                case messages.ClientHello():
                    self._has_greeted = True
                    self._forget()
                case messages.Request() | messages.Start() | messages.Collect():
                    self._asks(message, now)
                case messages.Cancel(id=number):
                    self._need(number in self._asked, f"cancels {number}, which it has not asked for")
                    self._need(not message.is_late or self._is_late(number, now), f"says that {number} is late")
                case messages.Received(requests=numbers):
                    self._need(self._are_stored, "tells what it has received, and nobody stores it")
                    for number in numbers:
                        self._need(number in self._came, f"says that it has got the answer to {number}")
                case messages.PartsWanted():
                    self._wants(message)
                case messages.Goodbye():
                    self._has_left = True

    def _asks(self, message: Asked, now: float) -> None:
        number = message.id
        job, asked_at = self._asked.get(number, (None, now))
        if job is None:
            raise ViolationError(f"wire: {self._name} asks for {message}, and its program does not")
        self._need(number not in self._said, f"says request {number} twice after one hello")
        self._said[number] = None
        early_s = self._not_before.pop(number, now) - now
        self._need(early_s < EXACTNESS_S, f"asks for {number} again {early_s:.3f} s too early")
        self._need(
            self._broker is not None or type(message) is messages.Request, f"asks an unknown broker for {message}"
        )
        if isinstance(message, messages.StreamRequest) and message.parts is not None:
            self._rooms[number] = message.task, message.parts
        if isinstance(job, Wish):
            is_so = isinstance(message, messages.Start) == job.is_start and not isinstance(message, messages.Request)
            self._need(is_so and message.ticket == job.ticket, f"says {message} for {job.token}")  # type: ignore[union-attr]
        else:
            self._is_as_wanted(message, job, asked_at, now)

    def _is_as_wanted(self, message: Asked, job: Job, asked_at: float, now: float) -> None:
        if not isinstance(message, messages.Request):
            raise ViolationError(f"wire: {self._name} says {message} for {job.token}")
        said = message.service, message.priority, message.headers
        self._need(said == (job.service, job.priority, job.headers), f"says {said} of {job.token}")
        self._need((message.ttl is None) == (job.ttl_s is None), f"gives {job.token} {message.ttl} s of {job.ttl_s} s")
        for shown, wanted in ((message.ttl, job.ttl_s), (message.delay_s, job.delay_s or None)):
            left_s = 0.0 if wanted is None else asked_at + wanted - now
            more_s = (shown or 0.0) - left_s
            is_so = more_s > -EXACTNESS_S and (more_s < EXACTNESS_S or left_s < 0 or self._was_held_up)
            self._need(is_so or wanted is None, f"says {shown} s of {job.token}, of which {left_s:.6f} s are left")

    def _is_late(self, number: int, now: float) -> bool:
        job, asked_at = self._asked[number]
        return job.ttl_s is not None and now >= asked_at + job.ttl_s - EXACTNESS_S

    def _wants(self, message: messages.PartsWanted) -> None:
        task, parts = self._rooms.get(message.id, (0, -1))
        self._need(parts >= 0, f"has room for parts of {message.id}, which it has not asked for")
        self._need(task != message.task or message.parts > parts, f"has room for {message.parts} parts after {parts}")
        self._rooms[message.id] = message.task, message.parts

    def _need(self, is_kept: bool, text: str) -> None:
        if not is_kept:
            raise ViolationError(f"wire: {self._name} {text}")
