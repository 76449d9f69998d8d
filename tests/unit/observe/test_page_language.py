"""What the page of a broker tells in Spanish: the broker's own texts, and no words of peers and handlers."""

from __future__ import annotations

from typing import Any

import pytest

from cbw.core.messages import Answer, Status, error_body
from cbw.observe.page import Page
from cbw.observe.page_language import language_of, live_in, why_in

LOST = "1 worker failed at it; the last was W1: lost its connection"
PERDIDO = "ha fallado con 1 trabajador; el último ha sido W1: ha perdido su conexión"


class FakeBroker:
    """One of which a worker was lost, and that answers every request by the same."""

    def __init__(self, answer: Answer) -> None:
        self.looked = 0
        self._answer = answer

    def status(self) -> dict[str, Any]:
        self.looked += 1
        return {"reason": ""}

    def operate(self, service: str, body: bytes, who: str, *, may_act: bool) -> Answer:
        return self._answer

    def events(self) -> list[dict[str, Any]]:
        return [step("worker_lost", "lost its connection")]


def step(event: str, text: str) -> dict[str, Any]:
    return {"event": event, "worker": "W1", "text": text}


def live(**more: Any) -> dict[str, Any]:
    return {"status": {"reason": "", "journal": None}, "dead": [], "events": [], **more}


@pytest.mark.parametrize(
    ("accepted", "language"), [("es", "es"), ("es-MX, en;q=0.5", "es"), ("en", "en"), ("", "en"), ("fr", "en")]
)
def test_the_page_says_which_language_it_wants(accepted: str, language: str) -> None:
    assert language_of(accepted) == language


@pytest.mark.parametrize(
    ("event", "english", "spanish"),
    [
        ("worker_lost", "lost its connection", "ha perdido su conexión"),
        ("attempt_failed", "silent for 3 s", "en silencio durante 3 s"),
        ("refused", "the key anna is not good for the service 't'", "la clave anna no vale para el servicio 't'"),
        ("dead_letter_kept", f"B-1: {LOST}", f"B-1: {PERDIDO}"),
        ("retried", "in 2 s, after KeyError: lost its connection", "dentro de 2 s, después de KeyError: lost its connection"),
        ("failed", "lost its connection", "lost its connection"),
        ("worker_ready", "echo, render", "echo, render"),
        ("stopping", "", ""),
    ],
)  # fmt: skip
def test_events_and_steps_of_a_story(event: str, english: str, spanish: str) -> None:
    """What a handler has raised is its own, also where it says the same as the broker."""
    told = live(events=[step(event, english)])
    assert live_in("es", told)["events"] == [step(event, spanish)]
    assert why_in("es", {"clauses": [], "story": told["events"]})["story"] == [step(event, spanish)]
    assert live_in("en", told) == told == live(events=[step(event, english)])


def test_an_error_of_a_dead_letter_is_the_brokers_or_the_handlers() -> None:
    dead = [{"kind": kind, "error": LOST} for kind in ("gave_up", "ValueError")]
    assert [one["error"] for one in live_in("es", live(dead=dead))["dead"]] == [PERDIDO, LOST]
    clauses = [{"kind": "dead", "about": {"error": LOST, "id": "1"}}, {"kind": "failed_once", "about": {"error": LOST}}]
    told = why_in("es", {"clauses": clauses, "story": []})["clauses"]
    assert [one["about"]["error"] for one in told] == [PERDIDO, LOST]


def test_what_the_journal_and_a_broker_that_stands_by_wait_for() -> None:
    status = {"reason": "it reads its journal", "journal": {"problem": "the broker is stopping", "kind": "file"}}
    told = live_in("es", live(status=status))["status"]
    assert told == {"reason": "lee su diario", "journal": {"problem": "el bróker se está deteniendo", "kind": "file"}}
    assert status["reason"] == "it reads its journal"


def test_a_refusal_and_a_cache_for_each_language() -> None:
    text = "the key anna is not good for the service 't'"
    broker = FakeBroker(Answer(0, Status.NOT_ALLOWED, error_body("not_allowed", text)))
    page = Page(broker)
    assert text.encode() in page.control("cbw.pause", b"{}", "me", may_act=True)[1]
    assert "la clave anna no vale" in page.control("cbw.pause", b"{}", "me", may_act=True, language="es")[1].decode()
    assert b"lost its connection" in (page.live() or b"")
    assert "ha perdido su conexión" in (page.live("es") or b"").decode()
    assert b"lost its connection" in (page.live("en") or b"") and broker.looked == 2
