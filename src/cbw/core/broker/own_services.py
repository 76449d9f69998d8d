"""Services that the broker answers itself: Majordomo's management interface (RFC 8, ``mmi.*``), and its own control, ``cbw.*``.

A request for one of ``cbw.*`` is accepted and ends like any other, so its answer is stored and told again as theirs are. Its
body is JSON, and so is its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

from cbw.core.broker.outbox import Outbox
from cbw.core.broker.tables import ServiceRow
from cbw.core.messages import Answer, Request, Status, error_body

MMI = "mmi."
CONTROL = "cbw."
PREFIXES = (MMI, CONTROL)
"""Names of services that no worker may register begin with one of these."""
CONTROL_BYTES_MAX = 1 << 20
"""Largest body of a request for control, in bytes: thousands of ids fit."""
ANSWER_BYTES_MAX = 64 << 20
"""Most bytes that the broker answers itself within :data:`ANSWER_WINDOW_S`. A worker answers as fast as it can; the broker would
make more at once than anybody reads, and must not run out of memory for it (G9). More than that is refused with Busy."""
ANSWER_WINDOW_S = 1.0

Serve = Callable[[str, bytes], Answer]
"""Answers a request for one service: the client's name, and the body."""


class OwnServices:
    """What the broker answers itself, service by service. More are added by :meth:`add`."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._by_name: dict[str, Serve] = {}
        self._window_at = 0.0
        self._window_bytes = 0

    def add(self, services: Mapping[str, Serve]) -> None:
        """Answer these too."""
        self._by_name.update(services)

    @property
    def names(self) -> Container[str]:
        """Those that there are."""
        return self._by_name

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

    def answer(self, client: str, request: Request) -> Answer:
        """The answer to ``request``, whose service begins with :data:`CONTROL`."""
        serve = self._by_name.get(request.service)
        if serve is None:
            known = ", ".join(self._by_name)
            return bad_request(f"the broker has no service {request.service!r}; it has {known}")
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


def answer_mmi(name: str, body: bytes, services: Mapping[str, ServiceRow], own: Container[str]) -> bytes:
    """The answer to a request for the service ``name``, which begins with :data:`MMI`.

    ``mmi.service`` tells of the service that the body names: ``200`` if it has a worker or is one of the broker's ``own``, else
    ``404``. For anything else under the prefix, RFC 8 wants ``501``: not implemented.
    """
    if name != MMI + "service":
        return b"501"
    asked = bytes(body).decode(errors="replace")
    service = services.get(asked)
    return b"200" if asked in own or (service is not None and service.workers) else b"404"
