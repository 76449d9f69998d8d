"""What a broker tells on its page, in the language of who looks: its own texts. Those of peers and of handlers stay as they are.

The words of the page itself, and the names of events and states, are in the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cbw.core.catalogue import DEAD_LETTER_KEPT, ERRORS_OF_THE_BROKER, FAILED
from cbw.language import translated

LANGUAGES = ("en", "es")
"""Those of the page, the usual one first. They are in no other order in its file."""
Told = dict[str, Any]


def language_of(accepted: str) -> str:
    """The language that the page has asked for by ``Accept-Language``; English if it is another."""
    return next((one for one in LANGUAGES if accepted.strip().lower().startswith(one)), LANGUAGES[0])


def live_in(language: str, live: Told) -> Told:
    """What the page shows again and again. ``live`` stays as it is."""
    if language == LANGUAGES[0]:
        return live
    status: Told = live["status"]
    status = status | _told(status, "reason", language)
    if status.get("journal"):
        status["journal"] = status["journal"] | _told(status["journal"], "problem", language)
    dead = [one | _told(one, "error", language) if _is_of_the_broker(one) else one for one in live["dead"]]
    return live | {"status": status, "dead": dead, "events": steps_in(language, live["events"])}


def why_in(language: str, told: Told) -> Told:
    """An answer of ``cbw.why``. The page says the sentence itself, from its clauses."""
    clauses = [
        one | {"about": one["about"] | _told(one["about"], "error", language)} if one["kind"] == "dead" else one
        for one in told["clauses"]
    ]
    return told | {"clauses": clauses, "story": steps_in(language, told["story"])}


def steps_in(language: str, steps: Sequence[Told]) -> list[Told]:
    """Events with their texts. Of a request that has failed, the text is what its handler has raised."""
    return [one if one["event"] == FAILED else one | {"text": _text_of(one, language)} for one in steps]


def _text_of(step: Told, language: str) -> str:
    name, seam, text = step["text"].partition(": ") if step["event"] == DEAD_LETTER_KEPT else ("", "", step["text"])
    return f"{name}{seam}{translated(text, language)}"


def _told(fields: Told, name: str, language: str) -> Told:
    return {name: translated(fields[name], language)} if fields.get(name) else {}


def _is_of_the_broker(letter: Told) -> bool:
    return letter["kind"] in ERRORS_OF_THE_BROKER
