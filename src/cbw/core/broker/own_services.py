"""Services that the broker answers itself: Majordomo's management interface (RFC 8, ``mmi.*``), and its own control, ``cbw.*``.

A request for one of ``cbw.*`` is accepted and ends like any other, and the answer to an act is stored and told again as theirs
are. A look changes nothing and may be asked for again, so it is never stored, and is answered while nothing can be. Its body is
JSON, and so is its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import msgspec

from cbw.core.broker.outbox import Outbox
from cbw.core.broker.tables import ClientRow, ServiceRow
from cbw.core.key import ANYBODY
from cbw.core.messages import ELSEWHERE, MANAGEMENT, Answer, Request, Status, error_body

IS_SERVED = f"{MANAGEMENT}service"
"""Tells whether anybody serves the service that the body names."""
CONTROL_BYTES_MAX = 1 << 20
"""Largest body of a request for control, in bytes: thousands of ids fit."""
ANSWER_BYTES_MAX = 64 << 20
"""Most bytes that the broker answers itself within :data:`ANSWER_WINDOW_S`. A worker answers as fast as it can; the broker would
make more at once than anybody reads, and must not run out of memory for it (G9). More than that is refused with Busy."""
ANSWER_WINDOW_S = 1.0

Serve = Callable[[ClientRow, bytes], Answer]
"""Answers a request for one service: of that client, with that body."""
T = TypeVar("T")


class OwnServices:
    """What the broker answers itself, service by service. More are added by :meth:`add`."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.why_not_act: Callable[[bytes], str] = lambda peer: ""
        """Why a peer that may ask the broker's own services may only look; empty: it may act, too."""
        self._by_name: dict[str, Serve] = {}
        self._acts: dict[str, None] = {}
        self._window_at = 0.0
        self._window_bytes = 0

    def add(self, services: Mapping[str, Serve], acts: Mapping[str, Serve] | None = None) -> None:
        """Answer these too. ``acts`` change something, and are not for everybody."""
        self._by_name.update(services)
        self._by_name.update(acts or {})
        self._acts.update(dict.fromkeys(acts or ()))

    @property
    def names(self) -> Collection[str]:
        """The names of all services of the broker's own."""
        return self._by_name

    def is_act(self, service: str) -> bool:
        """Whether ``service`` changes something, rather than only looks."""
        return service in self._acts

    @property
    def problem(self) -> str:
        """Why nothing is answered at the moment, in words for clients; empty: it is."""
        now = self._outbox.now
        if now - self._window_at > ANSWER_WINDOW_S:
            self._window_at, self._window_bytes = now, 0
        if self._window_bytes > ANSWER_BYTES_MAX:
            return (
                f"the broker answers no more than {ANSWER_BYTES_MAX} bytes itself in {ANSWER_WINDOW_S:g} s; ask again"
            )
        return ""

    def answer(self, client: ClientRow, request: Request) -> Answer:
        """The answer to ``request``, whose service is one of the broker's own.

        RFC 8 wants ``501``, not implemented, for a service of its kind that the broker does not have.
        """
        serve = self._by_name.get(request.service)
        if serve is None and request.service.startswith(MANAGEMENT):
            return Answer(0, Status.OK, b"501")
        if serve is None:
            known = ", ".join(self._by_name)
            return bad_request(f"the broker has no service {request.service!r}; it has {known}")
        is_anybody = client.key is ANYBODY
        if is_anybody and self.is_act(request.service) and (why := self.why_not_act(client.peer)):
            return Answer(0, Status.NOT_ALLOWED, error_body(ELSEWHERE, f"{request.service} is refused: {why}"))
        if len(request.body) > CONTROL_BYTES_MAX:
            return bad_request(
                f"{len(request.body)} bytes are too many for {request.service}: at most {CONTROL_BYTES_MAX}"
            )
        answer = serve(client, bytes(request.body))
        self._window_bytes += len(answer.body)
        return answer


def bad_request(text: str) -> Answer:
    """The request makes no sense, because of ``text``."""
    return Answer(0, Status.BAD_REQUEST, error_body("bad_request", text))


def not_found(text: str) -> Answer:
    """What was asked for by its name is not here."""
    return Answer(0, Status.FAILED, error_body("NotFound", text))


def json_answer(value: Any) -> Answer:
    """The answer ``value``, in JSON."""
    return Answer(0, Status.OK, msgspec.json.encode(value))


def reading(name: str, query: type[T], serve: Callable[[ClientRow, T], Answer]) -> Serve:
    """``serve`` for the service ``name``, whose requests are read as ``query``."""
    decode = msgspec.json.Decoder(query).decode

    def read_and_serve(client: ClientRow, body: bytes) -> Answer:
        try:
            asked = decode(body or b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            fields = ", ".join(query.__struct_fields__)  # type: ignore[attr-defined]
            return bad_request(f"{name} wants a JSON object with some of the fields {fields}: {error}")
        return serve(client, asked)

    return read_and_serve


def telling_if_served(services: Mapping[str, ServiceRow], own: Collection[str]) -> Serve:
    """Answers :data:`IS_SERVED`: ``200`` if the service has a worker or is one of the broker's ``own``, else ``404``.

    A client whose key is not good for a service learns nothing of it: ``404``.
    """

    def serve(client: ClientRow, body: bytes) -> Answer:
        asked = body.decode(errors="replace")
        service = services.get(asked)
        is_served = asked in own or (service is not None and bool(service.workers))
        return Answer(0, Status.OK, b"200" if is_served and client.key.may_ask(asked) else b"404")

    return serve
