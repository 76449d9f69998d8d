"""Answers in parts, and progress: what passes from a worker to a client while a request runs.

A part is passed on or it is gone: the broker keeps none. The client says for how many parts it has room, the broker passes that
on to the worker, and the handler waits there. So no more than that is ever on its way, however slowly a client reads.

Each part has its number and its attempt. A client that comes back says how many it has of which; if that is not what was sent, or
the worker is lost after it has sent any, the stream is *broken*: the request ends with an error, or begins anew if its client has
asked for that. After a restart of the broker, only the client knows whether it has any.

A stream takes a slot of its worker. If it can send nothing because its client is away, it ends without an answer: the client asks
again when it is back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cbw.core import catalogue
from cbw.core.agenda import Agenda
from cbw.core.broker.durations import Durations
from cbw.core.broker.events import Side
from cbw.core.broker.narrow_streams import NarrowStreams
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.states import Change, RequestState
from cbw.core.broker.tables import ClientRow, Entry, StreamRow, WorkerRow
from cbw.core.catalogue import EventName
from cbw.core.messages import (
    Answer,
    AnswerPart,
    Message,
    PartsWanted,
    ProgressMade,
    Status,
    StreamRequest,
    error_body,
)
from cbw.core.parts import BROKEN_STREAM, PARTS_FIRST, PARTS_MAX, PROGRESS_CHARS_MAX
from cbw.core.plain_messages import Envelope, Partial, PlainPartial

UNASKED_MAX = 1000
"""Most parts beyond what its client has room for that are passed on from a worker that cannot be told to wait."""
WANTED_MAX = 16 * PARTS_MAX
"""Most parts for which a client may say that it has room: the broker may have to keep them if it does not read."""
READ_LOOK_S = 0.02
"""Seconds between two looks whether plain clients have read what was sent to them."""
_NOBODY_READS = "its client is away, and its parts would be lost"
PROGRESS_MAX = 1000
"""Requests whose progress is kept for the status; the oldest are forgotten first."""


class LivingRequests(Protocol):
    """What is needed of the life of requests."""

    durations: Durations

    def tell(self, client: ClientRow, envelope: Envelope, answer: Answer, number: int = 0) -> None: ...

    def fence(self, worker: str, task: int, entry: Entry | None = None) -> None: ...

    def returned(self, entry: Entry, worker: WorkerRow, why: str) -> None: ...

    def cancel(self, entry: Entry, why: str, *, is_told: bool = False) -> None: ...

    def end(
        self,
        entry: Entry,
        change: Change,
        answer: Answer | None,
        name: EventName,
        worker: WorkerRow | None = None,
        text: str = "",
    ) -> None: ...


class Streams:
    """The streams of the requests that have not ended."""

    def __init__(self, outbox: Outbox, requests: LivingRequests, agenda: Agenda, unsent_bytes_max: int) -> None:
        self.waiting_for: Callable[[Side, bytes], Sequence[Message]] = lambda side, peer: ()
        """Tells what the driver could not send to a connection yet, and leaves it there."""
        self._progress: dict[Entry, ProgressMade] = {}
        self._held: dict[Entry, None] = {}  # of plain clients that have not read what was sent to them
        self._look = agenda.timer(self._look_again)
        self.narrow = NarrowStreams(agenda, unsent_bytes_max, self._grant)
        self._outbox = outbox
        self._requests = requests

    # --- their clients

    def asked(self, client: ClientRow, request: StreamRequest) -> bool:
        """``client`` asks for a stream; whether it is new here. If it is not, it goes on or is broken."""
        entry = client.entries.get(request.id)
        if entry is not None:
            if entry.state is not RequestState.ENDED:
                self._resume(entry, request)
            return False
        if request.id in client.parked or not request.received or request.restarts:
            return True
        why = f"the broker that knew the request was restarted, after {_parts(request.received)}"
        self._requests.tell(client, (), Answer(request.id, Status.BROKEN, error_body(BROKEN_STREAM, why)))
        return False

    def begin(self, client: ClientRow, request: StreamRequest) -> None:
        """Begin the stream of a request that has just been given to :meth:`Requests.accept`, if that has not refused it."""
        entry = client.entries.get(request.id)
        if entry is not None and entry.stream is None:
            entry.stream = _stream_of(request)

    def restore(self, entry: Entry, parts: int | None, restarts: bool, wants_progress: bool) -> None:
        """An earlier broker had accepted it."""
        entry.stream = _new_stream(parts, restarts, wants_progress)
        entry.stream.is_unheard = True

    def begin_plain(self, entry: Entry) -> None:
        """A client takes parts that cannot say for how many it has room."""
        entry.stream = StreamRow(PARTS_FIRST, PARTS_FIRST, PARTS_FIRST)

    def _resume(self, entry: Entry, request: StreamRequest) -> None:
        """Its client is back, and has ``received`` so many parts."""
        stream = entry.stream
        if stream is None:
            entry.stream = _stream_of(request)
            return
        was_unheard, stream.is_unheard = stream.is_unheard, False
        received = request.received
        is_earlier = received and (
            was_unheard or request.task not in (0, entry.task)
        )  # what it has is of an earlier attempt
        if stream.sent == received and not is_earlier:
            if request.parts is not None:
                self._want(entry, stream, request.parts)
        elif not (stream.restarts or (was_unheard and not received)):
            how = "when the broker was restarted" if was_unheard else "with a connection of the client"
            self.end_broken(entry, f"parts were lost {how}")
        elif stream.sent and entry.worker is not None:  # its answer is thrown away, and the next attempt begins
            self._begin_anew(entry, stream)

    def _begin_anew(self, entry: Entry, stream: StreamRow) -> None:
        worker = entry.worker
        assert worker is not None
        self._outbox.tell_unwanted(worker, entry.task)
        ended = worker.in_hand[entry.task] = _ended_copy(entry)  # its slot stays taken until the worker has answered
        if worker.suspect is entry:
            worker.suspect = ended
        _rewind(stream)
        self._requests.returned(entry, worker, "parts of its answer were lost, as its client was away")

    def wanted(self, client: ClientRow, message: PartsWanted) -> None:
        """``client`` has room for more parts."""
        entry = client.entries.get(message.id)
        if entry is None or entry.stream is None or entry.state is RequestState.ENDED:
            return
        if not message.task or (entry.worker is not None and message.task == entry.task):  # not of an earlier attempt
            self._want(entry, entry.stream, message.parts)

    def _want(self, entry: Entry, stream: StreamRow, parts: int) -> None:
        parts = min(parts, stream.sent + WANTED_MAX)
        if parts > stream.wanted:
            stream.wanted = parts
            if stream.is_narrow:
                self.narrow.wants_room(self._outbox.now)
            else:
                self._grant(entry, stream, parts)

    def _grant(self, entry: Entry, stream: StreamRow, parts: int) -> None:
        stream.granted = parts
        worker = entry.worker
        if worker is not None and worker.takes_streams:
            self._outbox.tell_worker(worker, PartsWanted(entry.task, parts))

    def unread(self, client: ClientRow) -> None:
        """``client`` is given up, as it has not read what was on its way to it."""
        for entry in client.entries.values():
            stream = entry.stream
            if stream is not None and not stream.wants_one and entry.state is not RequestState.ENDED:
                self.narrow.add(entry, stream)

    def left_alone(self, client: ClientRow) -> None:
        """``client`` has been away for a while: end what waits for it to read. When it is back it asks for that again."""
        for entry in list(client.entries.values()):
            if entry.stream is not None and entry.stream.is_full and entry.worker is not None:
                self._requests.cancel(entry, _NOBODY_READS)

    def room_at_first(self, stream: StreamRow) -> int:
        """Up to which part a worker that is given the task now may send before it hears of more room."""
        if stream.is_narrow:
            self.narrow.wants_room(self._outbox.now)
        return stream.granted

    # --- their workers

    def part_came(self, worker: WorkerRow, part: AnswerPart | Partial) -> None:
        """``worker`` has sent a part of an answer: passed on to a client that takes parts and is here."""
        entry = worker.in_hand.get(part.id)
        if entry is None or entry.state is RequestState.ENDED:
            self._requests.fence(worker.name, part.id, entry)
            return
        stream, client = entry.stream, entry.client
        if stream is None or stream.wants_one:
            self._outbox.counts["partials_dropped"] += 1
            return
        number = part.number if type(part) is AnswerPart else stream.sent + 1
        if number != stream.sent + 1:
            self.end_broken(entry, f"parts were lost with a connection of {worker.name}")
        elif client.dialect.has_sessions and number > stream.granted + (0 if worker.takes_streams else UNASKED_MAX):
            self._outbox.count_bad(Side.WORKER, worker.name, "parts that nobody has room for")
            self.end_broken(entry, f"its client has room for {stream.granted} parts, and {worker.name} sent more")
        else:
            stream.sent, stream.largest = number, max(stream.largest, len(part.body))
            self._pass_on(entry, stream, number, part.body)

    def _pass_on(self, entry: Entry, stream: StreamRow, number: int, body: bytes) -> None:
        client, outbox = entry.client, self._outbox
        if client.is_away or stream.is_unheard:
            outbox.counts["partials_dropped"] += 1
            if client.is_away and client.dialect.has_sessions:
                self._requests.cancel(entry, _NOBODY_READS)
        elif client.dialect.has_sessions:
            outbox.tell_client(client, AnswerPart(entry.request.id, number, body, entry.task))
        else:
            outbox.tell_client(client, PlainPartial(entry.envelope, body))
        if not client.dialect.has_sessions and stream.wanted - number < PARTS_FIRST // 2:
            self._held[entry] = None
            self._look.set_by(outbox.now)

    def _look_again(self, now: float) -> None:
        """Plain clients cannot say for how many parts they have room: they have it if nothing waits for them."""
        held, self._held = self._held, {}
        for entry in held:
            stream = entry.stream
            if entry.state is RequestState.ENDED or stream is None:
                continue
            if self.waiting_for(Side.CLIENT, entry.client.peer):
                self._held[entry] = None
                self._look.set_by(now + READ_LOOK_S)
            else:
                self._want(entry, stream, stream.sent + PARTS_FIRST)

    def ended(self, worker: WorkerRow, entry: Entry, answer: Answer) -> None:
        """``worker`` has sent all parts."""
        stream = entry.stream
        if stream is not None and stream.is_unheard and stream.sent and not stream.restarts:
            self.end_broken(entry, "parts were lost when the broker was restarted", worker)
            return
        if not entry.client.dialect.has_sessions:
            answer = Answer(0, Status.OK, b"")
        self._requests.end(entry, Change.ANSWERED, answer, catalogue.ANSWERED, worker)

    # --- what breaks them

    def breaks(self, entry: Entry) -> bool:
        """The attempt at ``entry`` is over: whether there can be no other. If there can, its parts begin anew."""
        stream = entry.stream
        if stream is None:
            return False
        may_restart = stream.restarts or stream.wants_one or not entry.client.dialect.has_sessions
        if stream.sent and not may_restart and not stream.is_unheard:
            return True
        _rewind(stream)
        return False

    def end_broken(self, entry: Entry, why: str, worker: WorkerRow | None = None) -> None:
        """Its client gets no more parts, and is told ``why``."""
        sent = entry.stream.sent if entry.stream is not None else 0
        text = f"the answer broke off after {_parts(sent)}: {why}"
        if entry.worker is not None and worker is None:
            self._outbox.tell_unwanted(entry.worker, entry.task)
        answer = Answer(0, Status.BROKEN, error_body(BROKEN_STREAM, text))
        self._requests.durations.fail(entry.request.service, self._outbox.now)
        self._requests.end(entry, Change.BROKEN, answer, catalogue.FAILED, worker or entry.worker, text)

    # --- progress

    def progressed(self, worker: WorkerRow, message: ProgressMade) -> None:
        """The handler of one of the tasks of ``worker`` has told how far it is."""
        entry = worker.in_hand.get(message.id)
        if entry is None or entry.state is RequestState.ENDED:
            return
        message.text = message.text[:PROGRESS_CHARS_MAX]
        self._progress.pop(entry, None)
        self._progress[entry] = message
        if len(self._progress) > PROGRESS_MAX:
            del self._progress[next(iter(self._progress))]
        client, stream = entry.client, entry.stream
        if stream is not None and stream.wants_progress and not client.is_away:
            told = ProgressMade(entry.request.id, message.done, message.total, message.text)
            self._outbox.tell_client(client, told)

    @property
    def progress(self) -> dict[Entry, ProgressMade]:
        """How far the handlers of running requests are that have told it."""
        running = (RequestState.RUNNING, RequestState.ALONE)
        self._progress = {e: made for e, made in self._progress.items() if e.state in running and e.task == made.id}
        return self._progress


def _stream_of(request: StreamRequest) -> StreamRow:
    """The stream that ``request`` asks for. What it says of its room is about parts that it has, if it has any."""
    parts = request.parts if request.parts is None or not request.received else min(request.parts, PARTS_FIRST)
    return _new_stream(parts, request.restarts, request.wants_progress)


def _new_stream(parts: int | None, restarts: bool, wants_progress: bool) -> StreamRow:
    first = min(max(0, parts or 0), WANTED_MAX)
    return StreamRow(first, first, first, restarts, wants_progress, wants_one=parts is None)


def _rewind(stream: StreamRow) -> None:
    stream.sent, stream.wanted = 0, stream.first
    stream.granted = 0 if stream.is_narrow else stream.first


def _ended_copy(entry: Entry) -> Entry:
    """What stands in the hand of a worker whose answer to ``entry`` is not wanted any more."""
    return Entry(
        entry.request,
        entry.client,
        RequestState.ENDED,
        entry.accepted_at,
        envelope=entry.envelope,
        attempt=entry.attempt,
        task=entry.task,
        worker=entry.worker,
        name=entry.name,
        handed_out_at=entry.handed_out_at,
    )


def _parts(count: int) -> str:
    return "1 part" if count == 1 else f"{count} parts"
