"""The page of a broker for people: one file, which asks again and again for what is new, and the way to the broker's services."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from cbw.core.messages import Answer, Status, error_of
from cbw.language import translated
from cbw.observe.history import History
from cbw.observe.page_language import LANGUAGES, live_in, why_in
from cbw.visible import visible_json

FRESH_S = 0.7
"""How long an answer is good for all who look in one language: five viewers cost a broker what one does."""
ROWS_SHOWN = 10
"""Requests and dead letters that are shown of each kind."""
PAGE_FILE = Path(__file__).with_name("page.html")
CODES: Mapping[Status, int] = {Status.OK: 200, Status.NOT_ALLOWED: 401, Status.BAD_REQUEST: 400, Status.FAILED: 404}
"""What becomes of an answer in HTTP; anything else is 503."""
_encode = msgspec.json.Encoder().encode


class Operated(Protocol):
    """A broker that is looked into and steered from another thread."""

    def status(self) -> dict[str, Any] | None:
        """Its status; None if it is stuck."""

    def operate(self, service: str, body: bytes, who: str, *, may_act: bool) -> Answer | None:
        """Ask one of its own services; None if it is stuck. Without ``may_act`` only what everybody may look at is answered."""

    def events(self) -> list[dict[str, Any]]:
        """What has happened last, oldest first."""


class Page:
    """The page of ``broker``. Asked for by any thread."""

    def __init__(self, broker: Operated) -> None:
        self._broker = broker
        self._lock = threading.Lock()
        self._live: dict[str, tuple[float, bytes]] = {}
        self._history = History()
        text = PAGE_FILE.read_text()
        self.html = text.encode()
        self.policy = "; ".join(
            (
                "default-src 'none'",
                "connect-src 'self'",
                f"script-src {_hashes(text, 'script')}",
                f"style-src {_hashes(text, 'style')}",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            )
        )
        """The Content-Security-Policy: what is in the file, and nothing else."""

    def sample(self, status: Mapping[str, Any]) -> None:
        """Remember the figures of ``status``; called once a second."""
        self._history.sample(status, time.monotonic(), self._broker.events())

    def live(self, language: str = LANGUAGES[0]) -> bytes | None:
        """What is to be shown now in that language, as JSON; None if the broker is stuck."""
        with self._lock:
            now = time.monotonic()
            made_at, made = self._live.get(language, (0.0, b""))
            if made and now - made_at <= FRESH_S:
                return made
            status = self._broker.status()
            if status is None:
                return None
            more = {"waiting": self._rows("waiting"), "running": self._rows("running"), "dead": self._dead()}
            shown = {"status": status, **more, **self._history.shown(now), "events": self._broker.events()}
            made = visible_json(_encode(live_in(language, shown)))
            self._live[language] = now, made
            return made

    def why_unserved(self, service: str) -> str:
        """Why no request for ``service`` would be handed out now to a worker, or when one has answered; empty: it would."""
        found = self._ask("cbw.workers", {"service": service, "takes_requests": True, "limit": 1})
        return "" if found.get("matching") else f"no worker that serves {service!r} is ready"

    def _rows(self, state: str) -> list[Any]:
        found: list[Any] = self._ask("cbw.requests", {"state": state, "limit": ROWS_SHOWN, "why": True}).get(
            "requests", []
        )
        return found

    def _dead(self) -> list[Any]:
        found: list[Any] = self._ask("cbw.dead.list", {"limit": ROWS_SHOWN}).get("letters", [])
        return found

    def _ask(self, service: str, fields: dict[str, Any]) -> dict[str, Any]:
        answer = self._broker.operate(service, _encode(fields), "page", may_act=False)
        if answer is None or answer.status is not Status.OK:
            return {}
        found: dict[str, Any] = msgspec.json.decode(answer.body)
        return found

    def control(
        self, service: str, body: bytes, who: str, *, may_act: bool, language: str = LANGUAGES[0]
    ) -> tuple[int, bytes]:
        """Ask one of the broker's own services: a code of HTTP, and JSON, with texts for people in that language."""
        answer = self._broker.operate(service, body, who, may_act=may_act)
        if answer is None:
            return 503, _encode({"text": "the broker does not answer"})
        if answer.status is Status.OK:
            told = bytes(answer.body)
            if service == "cbw.why" and language != LANGUAGES[0]:
                told = _encode(why_in(language, msgspec.json.decode(told)))
            return 200, visible_json(told)
        kind, text = error_of(answer.body)
        return CODES.get(answer.status, 503), visible_json(_encode({"kind": kind, "text": translated(text, language)}))


def _hashes(text: str, tag: str) -> str:
    """The sources of a policy that allow what stands in each ``tag`` of the page."""
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in found)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
