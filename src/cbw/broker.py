"""The broker: two ROUTERs around :class:`~cbw.core.broker.BrokerCore`, in one poll loop."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Any

import zmq

from cbw.core import events as e
from cbw.core import messages as m
from cbw.core.backlog import Backlog
from cbw.core.broker import BrokerCore, Limits
from cbw.core.overview import overview
from cbw.errors import BadMessage, CbwError
from cbw.net import Arrival, Router, Sent
from cbw.signals import stopping_unless_handled
from cbw.sleeper import Sleeper, Waker
from cbw.status import Inquiry, status_of
from cbw.trace import Trace
from cbw.wire import native, plain

TURN_MESSAGES = 512
"""Messages taken from one port before the broker decides: enough to batch well, few enough to stay quick. But of workers that
have one request among them one message: to ask whether there is another would delay their answer."""
UNREAD_RETRY_S = 0.01
UNTOLD_RETRY_S = 0.001
"""So soon the core is told of a lost peer whose last words may not have been read in this turn."""
DIALECTS_MAX = 10_000
"""Plain workers whose dialect is remembered; one that was forgotten and returns without a word is spoken to as one of the lab."""


class Broker:
    """Binds both ports at once (so a taken one is known), serves in :meth:`run`, ends by :meth:`stop`.

    Port 0 takes a free one; ``client_port`` and ``worker_port`` say which.

    Raises:
        CannotBind: a port is taken, or may not be used.
    """

    def __init__(
        self,
        client_port: int = 9998,
        worker_port: int = 9999,
        *,
        host: str = "*",
        name: str | None = None,
        limits: Limits | None = None,
        grace_s: float = 10.0,
        trace: Trace | None = None,
    ) -> None:
        self._trace = trace or Trace(is_printing=False)
        self._grace_s = grace_s
        boot = os.urandom(8)
        self.core = BrokerCore(
            name or f"BRO_{socket.gethostname()}",
            boot.hex(),
            limits or Limits(),
            first_task=int.from_bytes(boot[:5], "big") << 20,
            is_tracing=self._trace.wants_all,
        )
        self._waker = Waker()
        self._context: zmq.Context[Any] = zmq.Context()
        body_bytes_max = self.core.limits.body_bytes_max
        try:
            self._clients = Router(self._context, host, client_port, body_bytes_max=body_bytes_max)
            try:
                self._workers = Router(
                    self._context, host, worker_port, body_bytes_max=body_bytes_max, is_for_workers=True
                )
            except BaseException:
                self._clients.close()
                raise
        except CbwError:  # but not after a Ctrl-C: with a socket half made this would wait for ever
            self._context.term()
            raise
        self.client_port = self._clients.port
        self.worker_port = self._workers.port
        self._is_stop_wanted = False
        self.inquiry = Inquiry(self._waker.wake)
        self._started_at = time.monotonic()
        self._dialects: dict[bytes, plain.Dialect] = {}
        self._backlog = Backlog(self.core.limits.kept_bytes_max)
        self._sleeper = Sleeper(
            self._workers.socket, self._waker.fileno(), self._workers.monitor_news, self._clients.monitor_news
        )
        self._is_reading_clients = False
        self._read_clients(True)

    def stop(self) -> None:
        """Finish what runs, within the grace time, and end :meth:`run`. Safe from any thread and from signal handlers."""
        self._is_stop_wanted = True
        self._waker.wake()

    def run(self) -> None:
        """Serve until :meth:`stop`; SIGTERM and Ctrl-C call it, unless your program has handlers of its own for them."""
        if self._trace.wants_all:  # so that a trace of several runs can be told apart
            self._trace.write([e.Record(time.monotonic(), "started", "broker", self.core.name)])
        try:
            with stopping_unless_handled(self):
                self._serve()
        finally:
            self._clients.close()
            self._workers.close()
            self._context.term()
            self._waker.close()
            self._trace.close()

    def _serve(self) -> None:
        core, workers, clients = self.core, self._workers, self._clients
        waker = self._waker.fileno()
        is_serving = True
        while is_serving:
            facts: list[e.Event] = []
            news = self._sleeper.sleep(self._timeout_s())
            workers.woke(news)
            clients.woke(news)
            if waker in news:
                self._waker.clear()
            if self._is_stop_wanted:
                self._is_stop_wanted = False
                facts.append(e.StopRequested(time.monotonic() + self._grace_s))
            from_workers: list[e.Event] = []
            for arrival in workers.receive(1 if core.requests == 1 else TURN_MESSAGES):
                if arrival.excess:
                    self._refuse_excess(e.Side.WORKER, arrival, from_workers)
                else:
                    self._from_worker(arrival.peer, arrival.frames, from_workers)
            for arrival in clients.receive(TURN_MESSAGES) if self._is_reading_clients else ():
                if arrival.excess:
                    self._refuse_excess(e.Side.CLIENT, arrival, facts)
                else:
                    self._from_client(arrival.peer, arrival.frames, arrival.is_replaced, facts)
            if clients.connections.is_contested:
                facts = self._with_doubts(facts)
            # First what became of clients: an answer must not go to a connection that another program has now (G1).
            if clients.has_changes:
                self._connections(e.Side.CLIENT, clients, facts)
            facts += from_workers
            if workers.has_changes:
                self._connections(e.Side.WORKER, workers, facts)
            if self._backlog:
                self._retry(facts)
            is_serving = self._carry_out(core.step(facts, time.monotonic()))
            if self.inquiry.is_open:
                self.inquiry.answer(self._status())
            if core.records:
                records, core.records = core.records, []
                self._trace.write(records)

    def _status(self) -> dict[str, Any]:
        core, sender = self.core, self._trace.sender
        problem = "stopping" if core.is_stopping else ""
        return status_of(
            "broker",
            core.name,
            self._started_at,
            problem,
            boot=core.boot,
            ports={"clients": self.client_port, "workers": self.worker_port},
            log=sender.status() if sender is not None else None,
            **overview(core, time.monotonic()),
        )

    def _timeout_s(self) -> float:
        timeout_s = self.core.wake_at - time.monotonic()
        if self._backlog:
            timeout_s = min(timeout_s, UNREAD_RETRY_S)
        if self._workers.connections.lost or self._clients.connections.lost:
            timeout_s = min(timeout_s, UNTOLD_RETRY_S)
        return timeout_s

    # --- in: bytes to facts

    def _from_client(self, peer: bytes, frames: list[Any], is_replaced: bool, facts: list[e.Event]) -> None:
        is_native = frames[0][:3] == native.MAGIC_PREFIX
        try:
            if is_native:
                facts.append(e.ClientSaid(peer, native.from_client(frames)))
            else:
                envelope, body = plain.read_request([bytes(frame) for frame in frames])
                facts.append(e.PlainClientSaid(peer, envelope, body, is_replaced))
        except BadMessage as error:
            self._refuse(e.Side.CLIENT, peer, frames, str(error), facts)

    def _from_worker(self, peer: bytes, frames: list[Any], facts: list[e.Event]) -> None:
        is_native = frames[0][:3] == native.MAGIC_PREFIX
        try:
            if is_native:
                facts.append(e.WorkerSaid(peer, native.from_worker(frames)))
                return
            parts = [bytes(frame) for frame in frames]
            dialect = self._dialects.get(peer)
            try:
                registered = plain.read_registration(parts)
            except BadMessage:
                if dialect is None:
                    raise
                word = plain.read_worker(dialect, parts)
                facts.append(e.PlainWorkerSaid(peer, word.client, word.body))
            else:
                self._dialects.pop(peer, None)
                self._dialects[peer] = registered
                if len(self._dialects) > DIALECTS_MAX:
                    del self._dialects[next(iter(self._dialects))]
                facts.append(e.PlainWorkerRegistered(peer))
        except BadMessage as error:
            self._refuse(e.Side.WORKER, peer, frames, str(error), facts)

    def _refuse(self, side: e.Side, peer: bytes, frames: list[Any], why: str, facts: list[e.Event]) -> None:
        """Count bytes that are no message, and tell a CBW/1 peer why they are none."""
        if _is_for_the_other(side, frames):
            if side is e.Side.CLIENT:
                why = f"this port is for clients; workers connect to port {self.worker_port}"
            else:
                why = f"this port is for workers; clients connect to port {self.client_port}"
        facts.append(e.BadMessageArrived(side, peer, why))
        if frames[0][:3] == native.MAGIC_PREFIX:
            reason = m.Refusal.VERSION if frames[0] != native.MAGIC else m.Refusal.BAD_MESSAGE
            self._send(side, _refusal(side, peer, reason, why), facts)

    def _refuse_excess(self, side: e.Side, arrival: Arrival, facts: list[e.Event]) -> None:
        """Count a message that is too large, and tell its sender if there is a way to."""
        peer, frames, why = arrival.peer, arrival.frames, arrival.excess
        facts.append(e.BadMessageArrived(side, peer, why))
        if frames[0][:3] == native.MAGIC_PREFIX:
            self._send(side, _refusal(side, peer, m.Refusal.BAD_MESSAGE, why), facts)
        elif side is e.Side.CLIENT:
            with contextlib.suppress(BadMessage):  # then there is no envelope to answer in
                envelope, _ = plain.read_request([*map(bytes, frames[: plain.ENVELOPE_FRAMES_MAX + 1]), b""])
                answer = m.Answer(0, m.Status.TOO_BIG, m.error_body("too_big", why))
                self._send(side, e.SendPlainReply(peer, envelope, answer), facts)

    def _with_doubts(self, facts: list[e.Event]) -> list[e.Event]:
        """Doubts come before ``facts``, as answers among these must not go astray; their end comes after what ended them."""
        changes = [e.PeerDoubted(peer, is_doubted) for peer, is_doubted in self._clients.take_doubts()]
        return [*(c for c in changes if c.is_doubted), *facts, *(c for c in changes if not c.is_doubted)]

    def _connections(self, side: e.Side, router: Router, facts: list[e.Event]) -> None:
        for peer in router.take_lost():
            facts += [_undelivered(side, order) for order in self._backlog.forget(side, peer)]
            facts.append(e.PeerLost(side, peer))
            if peer[:1] == b"\0":
                self._dialects.pop(peer, None)
        if router.take_connected():
            facts.append(e.PeersConnected(side))

    # --- out: orders to bytes

    def _carry_out(self, orders: list[e.Event]) -> bool:
        """Do it; False: there is nothing more to do, ever."""
        undelivered: list[e.Event] = []
        for order in orders:
            kind = type(order)
            if kind is e.SendToWorker or kind is e.SendPlainTask:
                self._send(e.Side.WORKER, order, undelivered)
            elif kind is e.SendToClient or kind is e.SendPlainReply:
                self._send(e.Side.CLIENT, order, undelivered)
            elif kind is e.PauseClients:
                self._read_clients(False)
            elif kind is e.ResumeClients:
                self._read_clients(True)
            elif kind is e.Stop:
                return False
            else:
                raise TypeError(f"unknown order {order!r}")
        if undelivered:
            return self._carry_out(self.core.step(undelivered, time.monotonic()))
        return True

    def _read_clients(self, is_wanted: bool) -> None:
        if is_wanted and not self._is_reading_clients:
            self._sleeper.add(self._clients.socket)
        elif not is_wanted and self._is_reading_clients:
            self._sleeper.remove(self._clients.socket)
        self._is_reading_clients = is_wanted

    def _send(self, side: e.Side, order: Any, undelivered: list[e.Event]) -> None:
        rest = order
        if not (self._backlog and self._backlog.has(side, order.peer)):
            rest = self._try_to_send(side, order, undelivered)
        if rest is not None:
            self._backlog.add(side, rest, time.monotonic())

    def _try_to_send(self, side: e.Side, order: Any, undelivered: list[e.Event]) -> Any:
        """What of ``order`` is still to be sent because the peer does not read, or None."""
        router = self._workers if side is e.Side.WORKER else self._clients
        peer, kind = order.peer, type(order)
        sent = Sent.YES
        if kind is e.SendPlainTask:
            dialect = self._dialects.get(peer, plain.Dialect.LAB)
            sent = router.send(peer, plain.write_task(dialect, order.client, order.body))
        elif kind is e.SendPlainReply:
            sent = router.send(peer, plain.write_reply(order.envelope, plain.reply_body(order.answer)))
        else:
            count = 0
            for frames, size in native.encode(order.messages):
                sent = router.send(peer, frames, is_copied=len(frames) == 2)
                if sent is not Sent.YES:
                    break
                count += size
            if count and sent is not Sent.YES:
                order = kind(peer, order.messages[count:])
        if sent is Sent.YES:
            return None
        if sent is Sent.FULL:
            return order
        undelivered.append(_undelivered(side, order))
        return None

    def _retry(self, facts: list[e.Event]) -> None:
        facts += self._backlog.retry(time.monotonic(), lambda side, order: self._try_to_send(side, order, facts))


def _undelivered(side: e.Side, order: Any) -> e.Event:
    if type(order) is e.SendPlainReply:
        return e.ReplyUndelivered(order.peer, order.envelope, order.answer)
    return e.Undelivered(side, order.peer, [] if type(order) is e.SendPlainTask else order.messages)


def _refusal(side: e.Side, peer: bytes, reason: m.Refusal, why: str) -> e.Event:
    order = e.SendToClient if side is e.Side.CLIENT else e.SendToWorker
    return order(peer, [m.Refused(reason, why)])


def _is_for_the_other(side: e.Side, frames: list[Any]) -> bool:
    """Whether a message makes sense on the other port: an easy mistake, and worth a clear word."""
    try:
        (native.from_worker if side is e.Side.CLIENT else native.from_client)(frames)
    except BadMessage:
        return False
    return True
