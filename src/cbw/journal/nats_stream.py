"""One JetStream stream, as a journal needs it, over nats-py: who owns it, what is at its end, appends that are fenced."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from cbw.errors import JournalBroken, JournalFull, JournalTooOldServer, JournalUnreachable
from cbw.journal.nats_credentials import NatsCredentials
from cbw.journal.nats_place import NatsPlace
from cbw.journal.standbys import Standbys
from cbw.journal.stream_journal import PublishReply, Room, StreamEnd

FIRST_CONNECT_S = 5.0
"""For a first connection, name servers included."""
REPLY_S = 2.0
"""For one answer of the servers. They elect a new leader in 4 to 9 s (measured), so whoever needs one asks again."""
MESSAGE_BYTES_MAX = 1 << 20
"""Of one message: the servers' own default limit."""
ROOM_MESSAGES, MESSAGE_BYTES_MIN = 128, 64 << 10
"""A stream with a limit has room for at least so many messages, which need not be smaller than that."""
READ_BYTES = 8 << 20
"""Messages that are read at a time have about this size together."""
READ_MAX = 500
"""Messages that are read at a time, at most, however small they are."""
VERSIONS = ((2, 12, 8), (2, 14, 0))
"""The oldest server of the 2.12 line and the oldest of all others that fence appends that are in flight: before, two brokers
could both write at one position (nats-server #8057)."""
WATCH_S = 1.0
"""Interval between two looks at how much room there is: an operator may have given more, or others may have taken it."""
_WRONG_SEQUENCE = 10071
_NO_CLUSTER = 10074
_STORE_FAILED = 10077
_NO_ROOM = (10023, 10028, 10047)
_FULL = ("maximum bytes exceeded", "maximum messages exceeded", "no space left", "insufficient")

T = TypeVar("T")


class Stream:
    """The stream of the journal ``place.name``. All methods belong to one event loop."""

    def __init__(self, place: NatsPlace, client: Client, jetstream: JetStreamContext) -> None:
        self._place = place
        self._client = client
        self._jetstream = jetstream
        self.name = f"CBW_{place.name}"
        self.batches = f"cbw.journal.{place.name}.batches"
        self.owners = f"cbw.journal.{place.name}.owner"
        self._question = f"cbw.owner.{place.name}"
        self._watching: asyncio.Task[None] | None = None
        self.room = Room()
        """As of the last look, and less what was appended since."""
        self.standbys = Standbys()
        """Those that have asked since :meth:`answer_for`."""

    @classmethod
    async def connect(cls, place: NatsPlace, name: str, *, makes: bool = True) -> Stream:
        """Connect, and make the stream if it is missing and ``makes`` is true.

        Raises:
            JournalUnreachable: no server answers, or it lets nobody in who has no better credentials.
            JournalTooOldServer: it may not keep what it promises.
        """
        problems: list[Exception] = []

        async def note(error: Exception) -> None:
            problems[:] = [error]

        options: dict[str, Any] = {"reconnect_time_wait": 0.25}  # which is declared as a whole number
        if place.credentials:
            credentials = NatsCredentials(place.credentials)
            options |= {"user_jwt_cb": credentials.jwt, "signature_cb": credentials.sign}
        if (tls := place.tls()) is not None:
            options["tls"] = tls
        client = Client()
        connecting = client.connect(
            list(place.servers),
            name=name,
            error_cb=note,
            max_reconnect_attempts=-1,
            connect_timeout=1,
            ping_interval=2,
            max_outstanding_pings=2,
            **options,
        )
        try:
            await _within(FIRST_CONNECT_S, connecting)
            if not client.is_connected:  # it is content with a server that hangs up on its first words
                raise NatsError("the server has hung up")
            stream = cls(place, client, client.jetstream(timeout=REPLY_S))
            stream._check_version()
            if makes:
                await stream._make()
        except (TimeoutError, OSError, ValueError, NatsError) as error:
            await _leave(client)
            why = problems[0] if problems else error
            raise JournalUnreachable(f"no NATS server at {place.hosts}: {why or type(why).__name__}") from None
        except BaseException:
            await _leave(client)
            raise
        return stream

    @property
    def _version(self) -> tuple[int, int, int]:
        version = self._client.connected_server_version
        return version.major, version.minor, version.patch

    def _check_version(self) -> None:
        number = self._version
        if number < VERSIONS[0] or VERSIONS[0][:2] < number[:2] < VERSIONS[1][:2]:
            raise JournalTooOldServer(
                f"the NATS server at {self._place.hosts} has version {self.version}, in which two brokers may both"
                " write at one position"
            )

    async def _make(self) -> None:
        if await self.replicas() is not None:
            return
        replicas = self._place.replicas or 3
        while True:
            config = api.StreamConfig(
                name=self.name,
                subjects=[self.batches, self.owners],
                storage=api.StorageType.FILE,
                discard=api.DiscardPolicy.NEW,
                num_replicas=replicas,
                description="the journal of a cbw broker",
            )
            try:
                await self._jetstream.add_stream(config)
                return
            except APIError as error:
                if error.err_code == _NO_CLUSTER and not self._place.replicas:
                    replicas = 1
                    continue
                raise JournalUnreachable(f"the stream {self.name} cannot be made: {error.description}") from None
            except (NatsError, TimeoutError) as error:
                raise JournalUnreachable(f"JetStream does not answer at {self._place.hosts}: {error}") from None

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to a server at present."""
        return self._client.is_connected

    @property
    def version(self) -> str:
        """The version of the server that is connected."""
        return ".".join(map(str, self._version))

    @property
    def bytes_max(self) -> int:
        """The most bytes of one message. What is needed no longer is dropped by whole messages: small ones in a small stream."""
        bytes_max = min(self._client.max_payload, MESSAGE_BYTES_MAX)
        if room := self.room.stream_bytes_max:
            return min(bytes_max, max(room // ROOM_MESSAGES, MESSAGE_BYTES_MIN))
        return bytes_max

    # --- whose it is

    async def answer_for(self, owner: str) -> None:
        """Tell whoever asks that ``owner`` lives, until :meth:`close`."""

        async def answer(message: Msg) -> None:
            self.standbys.asked(message.data, time.monotonic())
            await message.respond(owner.encode())

        await self._client.subscribe(self._question, cb=answer)

    async def watch_room(self) -> None:
        """Keep :attr:`room` up to date until :meth:`close`."""
        self._watching = asyncio.create_task(self._watch_room())

    async def _watch_room(self) -> None:
        while True:
            with contextlib.suppress(JournalUnreachable):
                await self.look_at_room()
            await asyncio.sleep(WATCH_S)

    async def look_at_room(self) -> Room:
        """Bring :attr:`room` up to date.

        Raises:
            JournalUnreachable: the servers do not tell.
        """
        with self._asking("cannot be read"):
            stream, account = await self._jetstream.stream_info(self.name), await self._jetstream.account_info()
        bytes_max, account_bytes_max = stream.config.max_bytes or 0, account.limits.max_storage or 0
        self.room = Room(stream.state.bytes, max(0, bytes_max), account.storage, max(0, account_bytes_max))
        return self.room

    async def ask_for_owner(self, timeout_s: float, question: bytes = b"") -> str | None:
        """The owner's name; empty: nobody is there to be asked; None: no answer came. A standby says with its
        :func:`~cbw.journal.standbys.question` who it is.
        """
        try:
            return (await self._client.request(self._question, question, timeout=timeout_s)).data.decode(
                errors="replace"
            )
        except NoRespondersError:
            return ""
        except (NatsError, TimeoutError):
            return None

    async def state(self) -> api.StreamState:
        """What the stream has, by number and bytes.

        Raises:
            JournalUnreachable: the servers do not tell.
        """
        with self._asking("cannot be read"):
            return (await self._jetstream.stream_info(self.name)).state

    async def last_sequence(self) -> int:
        """The sequence number of the last message.

        Raises:
            JournalUnreachable: the servers do not tell.
        """
        return (await self.state()).last_seq

    async def end(self) -> StreamEnd:
        """The end of the stream.

        Raises:
            JournalUnreachable: the servers do not tell.
        """
        state = await self.state()
        end = StreamEnd(state.first_seq, state.last_seq, state.bytes, state.messages)
        if not state.messages:
            return end
        with self._asking("cannot be read"):
            data = (await self._jetstream.get_msg(self.name, state.last_seq)).data
            owner = (await self._jetstream.get_last_msg(self.name, self.owners)).data
        return replace(end, data=data or b"", owner=owner or b"")

    async def replicas(self) -> tuple[int, int] | None:
        """How many servers keep it, and how many of them have all of it at present; None: there is no such stream.

        Raises:
            JournalUnreachable: the servers do not tell, such as those of a cluster that has no leader yet.
        """
        with self._asking("cannot be read"):
            try:
                info = await self._jetstream.stream_info(self.name)
            except NotFoundError:
                return None
        others = (info.cluster.replicas or []) if info.cluster is not None else []
        return info.config.num_replicas or 1, 1 + sum(bool(one.current) and not one.offline for one in others)

    @contextlib.contextmanager
    def _asking(self, fault: str) -> Iterator[None]:
        """Whatever goes wrong with the servers in this context is a :class:`JournalUnreachable`."""
        try:
            yield
        except (NatsError, TimeoutError) as error:
            raise JournalUnreachable(f"the stream {self.name} {fault}: {_why(error)}") from None

    # --- writing

    async def publish(self, subject: str, data: bytes, last: int) -> PublishReply:
        """See :meth:`.JournalStream.publish`."""
        try:
            await self._send(subject, data, last)
        except (NatsError, TimeoutError, OSError) as error:
            return self._reply(error)
        self.room = self.room.less(len(data))
        return PublishReply.STORED

    async def _send(self, subject: str, data: bytes, last: int) -> None:
        headers = {api.Header.EXPECTED_LAST_SEQUENCE.value: str(last), api.Header.EXPECTED_STREAM.value: self.name}
        async with asyncio.timeout(2 * REPLY_S):  # a server that stands still does not even take what is sent
            await self._jetstream.publish(subject, data, headers=headers)

    def _reply(self, error: Exception) -> PublishReply:
        """What ``error`` says of a message that was published."""
        if not isinstance(error, APIError):
            return PublishReply.NONE
        if error.err_code == _WRONG_SEQUENCE:
            return PublishReply.NOT_NEXT
        text = (error.description or "").lower()
        if error.err_code in _NO_ROOM or (error.err_code == _STORE_FAILED and any(words in text for words in _FULL)):
            raise JournalFull(
                f"the stream {self.name} has no room: {error.description}",
                advice="Make room for JetStream, or raise the limits of the stream or of the account.",
            )
        if error.code == 503:  # no leader at present
            return PublishReply.NONE
        raise JournalBroken(
            f"the stream {self.name} takes nothing more: {error.description}",
            advice="Look at the stream (nats stream info) and at the servers' log, then start the broker again.",
        )

    async def message_at(self, sequence: int) -> bytes | None:
        """The message at ``sequence``; None: the servers do not tell, or have none there."""
        try:
            return (await self._jetstream.get_msg(self.name, sequence)).data
        except (NatsError, TimeoutError):
            return None

    async def last_owner(self) -> int | None:
        """The sequence of the last message on the owner; None: the servers do not tell."""
        try:
            found = await self._jetstream.get_last_msg(self.name, self.owners)
        except (NatsError, TimeoutError):
            return None
        return found.seq or 0

    # --- reading, and making room

    async def read(self, first: int, until: int, average_bytes: int) -> list[tuple[int, bytes]]:
        """Some messages with their sequences, from ``first`` on and below ``until``; at least one.

        Raises:
            JournalUnreachable: the servers do not tell.
        """
        count = max(1, min(READ_MAX, READ_BYTES // max(1, average_bytes), until - first))
        config = api.ConsumerConfig(
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=first,
            ack_policy=api.AckPolicy.NONE,
            inactive_threshold=10.0,
            mem_storage=True,
        )
        with self._asking("cannot be read"):
            reader = await self._jetstream.pull_subscribe("", stream=self.name, config=config)
            try:
                found = await reader.fetch(count, timeout=REPLY_S)
            finally:
                with contextlib.suppress(NatsError, TimeoutError):
                    await reader.unsubscribe()
        return [(message.metadata.sequence.stream, message.data) for message in found]

    async def drop(self, before: int, subject: str | None = None) -> None:
        """Drop all messages with a sequence below ``before``, or those of them with this ``subject``.

        Raises:
            JournalUnreachable: it may not have been done.
        """
        with self._asking("was not made smaller"):
            await self._jetstream.purge_stream(self.name, seq=before, subject=subject)

    async def close(self) -> None:
        """End the connection."""
        if self._watching is not None:
            self._watching.cancel()
        await _leave(self._client)


async def _leave(client: Client) -> None:
    """End the connection, whatever state it is in: of one that the server has ended meanwhile, asyncio raises AttributeError."""
    with contextlib.suppress(NatsError, TimeoutError, OSError, AttributeError):
        await _within(REPLY_S, client.close())


async def _within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What comes of ``work``, which is cancelled when the time is over. Nobody waits for that: nats-py does not always heed it.

    Raises:
        TimeoutError: it was not done in time.
    """
    task = asyncio.create_task(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if not done:
            raise TimeoutError
        return task.result()
    finally:
        task.cancel()


def _why(error: BaseException) -> str:
    if isinstance(error, APIError):
        return str(error.description)
    if isinstance(error, (TimeoutError, NoStreamResponseError)):
        return "JetStream does not answer"
    return str(error) or type(error).__name__
