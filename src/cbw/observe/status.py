"""Health and metrics of every role, over HTTP: ``/livez``, ``/readyz``, ``/metrics``, ``/status.json``.

The server runs in threads of its own and never touches the data of a role's loop: it asks the loop, which answers between
two turns (:class:`Inquiry`). A loop that does not answer within a second counts as dead.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hmac
import http.server
import socket
import socketserver
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import msgspec

from cbw.core.histogram import bucket_quantile
from cbw.errors import CannotBind
from cbw.observe.flood import FloodWatch
from cbw.observe.inquiry import LOOP_ANSWER_S, Ask
from cbw.observe.page import Page
from cbw.observe.page_language import language_of
from cbw.visible import visible_json

SAMPLE_S = 1.0
"""Interval between two samples of the counters: the shortest of :data:`WINDOWS_S`."""
WINDOWS_S = (1, 10, 60)
"""The windows over which rates are computed, in seconds."""
HTTP_TIMEOUT_S = 5.0
"""Longest silence of an HTTP peer in the middle of a request, before its connection is closed."""
CONNECTION_S = 10.0
"""Longest life of an HTTP connection: a peer that sends a byte now and then would otherwise hold its thread for hours."""
NO_DESCRIPTOR_S = 0.2
"""Time until a connection is tried again for which there was no file descriptor."""
CONNECTIONS_MAX = 32
"""Open HTTP connections, each of which has a thread; beyond it the oldest is closed, so that probes get through."""
REFUSED_S = 0.001
"""Pause after a request that was refused, so that a flood of them leaves the processor to others."""
_TOO_MANY = b"HTTP/1.0 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
QUESTION_BYTES_MAX = 1 << 20
"""Largest question to a broker's own services over HTTP, in bytes."""
READY_SERVICES_MAX = 10
"""Services that one probe may ask for: each is a question to the broker's loop, and a path has room for thousands."""
_CONTROL = "/control/"
_PROBES = ("/livez", "/readyz")
"""Pages for everybody, also if the others want a token: probes of an engine have none. They tell only why a role is not ready."""
_json = msgspec.json.Encoder().encode


_SAMPLES_MAX = int(max(WINDOWS_S) / (SAMPLE_S / 2)) + 1
"""Samples of the longest window, which may come twice in :data:`SAMPLE_S`."""


class Rates:
    """How fast a role's counters rise, and the latencies of the last minute, from samples taken each second."""

    def __init__(self, now: float) -> None:
        self._samples: deque[tuple[float, dict[str, int], list[int]]] = deque(maxlen=_SAMPLES_MAX)
        self._samples.append((now, {}, []))

    def sample(self, status: dict[str, Any], now: float) -> None:
        """Remember the counters of ``status``."""
        if now - self._samples[-1][0] >= SAMPLE_S / 2:
            self._samples.append((now, status.get("counts", {}), status.get("latency", {}).get("counts", [])))

    def rates(self, status: dict[str, Any], now: float) -> dict[str, dict[str, float]]:
        """The rise per second of each counter, over each window."""
        counts: dict[str, int] = status.get("counts", {})
        before = {window: self._before(now - window) for window in WINDOWS_S}
        return {
            name: {
                f"{window}s": (count - sample[1].get(name, 0)) / max(now - sample[0], 1e-3)
                for window, sample in before.items()
            }
            for name, count in counts.items()
        }

    def latencies(self, status: dict[str, Any], now: float) -> dict[str, float | None]:
        """Quantiles of the latencies of the last minute, in seconds."""
        counts: list[int] = status.get("latency", {}).get("counts", [])
        sample = self._before(now - max(WINDOWS_S))
        if sample[2]:
            counts = [count - before for count, before in zip(counts, sample[2], strict=True)]
        return {f"p{share}": bucket_quantile(counts, share / 100) for share in (50, 90, 99)}

    def _before(self, at: float) -> tuple[float, dict[str, int], list[int]]:
        """The newest sample that was taken at or before ``at``, or the oldest of all."""
        found = self._samples[0]
        for sample in tuple(self._samples):  # the sampling thread may add one
            if sample[0] > at:
                break
            found = sample
        return found


class StatusServer:
    """Serves the status that ``ask`` returns, on ``port`` of the address ``listen``, until :meth:`close`.

    With a ``token``, all but the probes and the empty page is only for who shows it (``Authorization: Bearer TOKEN``). Without
    one, nobody acts on a broker by its ``page``.

    Raises:
        CannotBind: the port is taken, or this user may not use it.
    """

    def __init__(self, ask: Ask, listen: str, port: int, token: str = "", page: Page | None = None) -> None:
        self._ask = ask
        self.page = page
        self._token = token.encode()
        self._rates = Rates(time.monotonic())
        self._is_over = threading.Event()
        pages = self

        class Handler(_Handler):
            server_pages: ClassVar[StatusServer] = pages

        try:
            self._server = _Server(("" if listen == "*" else listen.strip("[]"), port), Handler)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise CannotBind(
                f"status port {port} cannot be used: {reason}",
                advice="Give another --status-port (CBW_STATUS_PORT), or 0 for none.",
            ) from None
        self.port: int = self._server.server_address[1]
        for work, name in ((self._server.serve_forever, "status"), (self._sample, "status samples")):
            threading.Thread(target=work, name=name, daemon=True).start()

    def close(self) -> None:
        """Close the port within half a second, in a thread of its own: a role that ends does not wait for it."""
        self._is_over.set()
        threading.Thread(target=self._end, name="status end", daemon=True).start()

    def _end(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _sample(self) -> None:
        while not self._is_over.wait(SAMPLE_S):
            status = self._ask()
            if status is not None:
                self._rates.sample(status, time.monotonic())
                if self.page is not None:
                    self.page.sample(status)

    def is_allowed(self, path: str, authorization: str) -> bool:
        """Whether who sends this header may see the page. How long the answer takes tells nothing of the token."""
        scheme, _, shown = authorization.partition(" ")
        is_shown = hmac.compare_digest(shown.strip().encode(), self._token) and scheme.lower() == "bearer"
        return is_shown or not self._token or path in _PROBES or path == "/"

    @property
    def has_token(self) -> bool:
        """Whether whoever is allowed has shown a token."""
        return bool(self._token)

    # --- the pages

    def livez(self) -> tuple[int, bytes, str]:
        """The page that says whether the loop runs."""
        return _stuck() if self._ask() is None else _text(200, "ok")

    def readyz(self, query: str = "") -> tuple[int, bytes, str]:
        """The page that says whether the role can do its work now; with ``service=NAME`` in ``query``, whether that is served."""
        asked = urllib.parse.parse_qs(query, keep_blank_values=True)
        if len(asked.get("service", ())) > READY_SERVICES_MAX:
            return _text(400, f"at most {READY_SERVICES_MAX} services can be asked for at once")
        if asked.keys() - {"service"}:
            return _text(400, f"{', '.join(sorted(asked.keys() - {'service'}))}: /readyz knows only ?service=NAME")
        status = self._ask()
        if status is None:
            return _stuck()
        reason: str = status["reason"]
        for service in () if reason else asked.get("service", ()):
            if self.page is None and "services" not in status:
                return _text(400, f"a {status['role']} serves nothing: ask a broker or a worker for ?service=NAME")
            reason = reason or self._why_unserved(status, service)
        return _text(503 if reason else 200, reason or "ok")

    def _why_unserved(self, status: dict[str, Any], service: str) -> str:
        if self.page is not None:
            return self.page.why_unserved(service)
        return "" if service in status["services"] else f"this worker does not serve {service!r}"

    def status_json(self) -> tuple[int, bytes, str]:
        """The page with the whole status, rates and latencies."""
        status = self._ask()
        if status is None:
            return _stuck()
        now = time.monotonic()
        self._rates.sample(status, now)
        more: dict[str, Any] = {"rates": self._rates.rates(status, now)}
        if "latency" in status:
            more["latency_s"] = self._rates.latencies(status, now)
        return 200, visible_json(_json({**status, **more})), "application/json"

    def live_json(self, language: str) -> tuple[int, bytes, str]:
        """What the page for people asks for again and again, in its language."""
        live = self.page.live(language) if self.page is not None else None
        return (200, live, "application/json") if live is not None else _stuck()

    def index(self) -> tuple[int, bytes, str]:
        """The page for people, without any data."""
        assert self.page is not None
        return 200, self.page.html, "text/html; charset=utf-8"

    def metrics(self) -> tuple[int, bytes, str]:
        """The page for Prometheus."""
        from cbw.observe.metrics import (
            page,
        )  # here: prometheus_client takes time to import, and most roles are not scraped

        status = self._ask()
        return (200, *page(status)) if status is not None else _stuck()


@contextlib.contextmanager
def serving(
    ask: Ask,
    listen: str,
    port: int,
    *,
    token: str = "",
    page: Page | None = None,
    on_unusable: Callable[[CannotBind], None] | None = None,
) -> Iterator[bool]:
    """Serve the status that ``ask`` returns as long as the context lasts, which is told whether it is served. Port 0 serves
    nothing. ``token`` and ``page`` are as for :class:`StatusServer`.

    Raises:
        CannotBind: the port cannot be used. With ``on_unusable`` this is called instead, and nothing is served.
    """
    server = None
    try:
        server = StatusServer(ask, listen, port, token, page) if port else None
    except CannotBind as error:
        if on_unusable is None:
            raise
        on_unusable(error)
    try:
        yield server is not None
    finally:
        if server is not None:
            server.close()


def _stuck() -> tuple[int, bytes, str]:
    """Every page, when the loop stands still. Not a second look: it may answer that one, and has stood still all the same."""
    return _text(503, f"the loop has not answered for {LOOP_ANSWER_S:g} s")


def _text(code: int, text: str) -> tuple[int, bytes, str]:
    return code, text.encode() + b"\n", "text/plain; charset=utf-8"


class _Handler(http.server.BaseHTTPRequestHandler):
    server_pages: ClassVar[StatusServer]
    timeout = HTTP_TIMEOUT_S
    server_version = "cbw"
    sys_version = ""

    def do_GET(self) -> None:
        pages = self.server_pages
        path, _, query = self.path.partition("?")
        known: dict[str, Callable[[], tuple[int, bytes, str]]] = {
            "/livez": pages.livez,
            "/readyz": functools.partial(pages.readyz, query),
            "/metrics": pages.metrics,
            "/status.json": pages.status_json,
        }
        if pages.page is not None:
            known |= {"/": pages.index, "/live.json": functools.partial(pages.live_json, self._language())}
        page = known.get(path)
        if page is None:
            code, body, kind = _text(404, "there are /livez, /readyz, /metrics and /status.json")
        elif not pages.is_allowed(path, self.headers.get("Authorization", "")):
            code, body, kind = _text(401, "this page is for who shows the token: Authorization: Bearer TOKEN")
        else:
            code, body, kind = page()
        self._answer(code, body, kind)

    def do_POST(self) -> None:
        pages = self.server_pages
        path, length = self.path.partition("?")[0], self.headers.get("Content-Length", "")
        is_json = self.headers.get_content_type() == "application/json"  # which no page of another site may send
        if pages.page is None or not path.startswith(_CONTROL):
            code, body = 404, b'{"text": "there is nothing to be asked here"}'
        elif not pages.is_allowed(path, self.headers.get("Authorization", "")):
            code, body = 401, b'{"text": "this is for who shows the token: Authorization: Bearer TOKEN"}'
        elif not is_json or not length.isdecimal() or int(length) > QUESTION_BYTES_MAX:
            code, body = 400, b'{"text": "JSON of at most 1 MiB is wanted, with its Content-Type and Content-Length"}'
        else:
            who, asked = f"page {self.client_address[0]}", self.rfile.read(int(length))
            code, body = pages.page.control(
                path.removeprefix(_CONTROL), asked, who, may_act=pages.has_token, language=self._language()
            )
        self._answer(code, body, "application/json")

    def _language(self) -> str:
        return language_of(self.headers.get("Accept-Language", ""))

    def _answer(self, code: int, body: bytes, kind: str) -> None:
        self.send_response(code)
        if code == 401:
            self.send_header("WWW-Authenticate", 'Bearer realm="cbw"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if kind.startswith("text/html") and self.server_pages.page is not None:
            self.send_header("Content-Security-Policy", self.server_pages.page.policy)
            self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - http.server finds it by this name

    def log_message(self, format: str, *args: Any) -> None:
        """No line on stderr for each request."""


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128  # a flood must not fill the queue that a probe waits in

    def __init__(self, address: tuple[str, int], handler: type[_Handler]) -> None:
        self._since: dict[Any, float] = {}  # open connections and when they were accepted
        self._floods = FloodWatch()
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without looking up the name of this host, as http.server does: that may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection. If there is no descriptor for it, wait a moment: the server would try again at once, for ever."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(NO_DESCRIPTOR_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._floods.is_flood(client_address[0], time.monotonic()):
            with contextlib.suppress(OSError):  # the peer is already gone
                request.send(_TOO_MANY)
            self.shutdown_request(request)
            time.sleep(REFUSED_S)
            return
        if len(self._since) >= CONNECTIONS_MAX:  # silent connections must not keep a probe out
            self._hang_up(next(iter(self._since)))
        self._since[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Close connections that last too long; their threads notice and end. Called twice a second by the server."""
        for request, since in list(self._since.items()):
            if time.monotonic() - since > CONNECTION_S:
                self._hang_up(request)

    def _hang_up(self, request: Any) -> None:
        self._since.pop(request, None)
        with contextlib.suppress(OSError):  # the peer is already gone
            request.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        self._since.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """No traceback for a peer that hangs up or sends garbage."""
