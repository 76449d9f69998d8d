"""Words that stand alone, as headings and states, are in the catalogue of messages, each in its context, and no others are."""

from __future__ import annotations

import pytest
from supply.messages import CATALOGUE, read_catalogue

from cbw.cli import dead, logs, ps, requests, services, top_view, verify
from cbw.core import catalogue
from cbw.core.broker.reasons import REASONS
from cbw.core.broker.verdict import SENTENCES
from cbw.language import WORDS_OF_FIELDS, translated, word
from cbw.logs.stats import FAILURES
from cbw.observe.metrics import STATES

THE_SAME = {"p50", "p99", "error", "bytes", "id", "log", "P50", "P99"}
"""Words of both languages."""
TOP = [*top_view.KEYS.values(), top_view.KEYS_OF_ALL, top_view.GO_BACK, "the broker"]
USED: dict[str, set[str]] = {
    **{context: set(words) for context, words in WORDS_OF_FIELDS.items()},
    "table": {
        *ps.SERVICE_COLUMNS, *ps.WORKER_COLUMNS, *services.LISTED_COLUMNS, *(name for name, _ in requests.CELLS),
        *dead.DEAD_COLUMNS, *logs.SERVICE_STATS, *logs.WORKER_STATS, *logs.CLIENT_STATS, *verify.VERDICT_COLUMNS,
        *("setting", "value", "from"), ps.AT,
    },
    "state": {*STATES, "waiting", "running", "delayed", "paused", ps.NOBODY_SERVES, "unserved"},
    "service": {"(nameless)"},
    "result": {*verify._COLOURS, "not seen"},
    "stats": {*logs.STATS_LABELS, *logs.LACKS, "complete"},
    "end": {"answered", "open", *(name.replace("_", " ") for name in FAILURES)},
    "top": {
        *TOP, *(name for _, columns, _ in top_view.TABLES for name, *_ in columns),
        *(name for _, name in top_view.SUMMARY),
    },
    "top table": {name for name, _, _ in top_view.TABLES},
    "why": {*REASONS.values(), "service {name}", "the nameless service", "and"},
    "step": {
        *("accepted", "handed out", "attempt failed", "delayed", "gave up"),
        *("{time} ago", "1 time before", "{count} times before"),
    },
    "dead": {*dead.DEAD_LABELS},
    "verdict": {*SENTENCES.values(), "; similar: {similar}", "the nameless service"},
}  # fmt: skip


def in_catalogue() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for message, translation in read_catalogue(CATALOGUE.read_text(encoding="utf-8")).items():
        context, mark, text = message.partition("\4")
        if mark:
            found.setdefault(context, {})[text] = translation
    return found


def test_each_word_is_in_the_catalogue_and_no_other() -> None:
    assert {context: set(words) for context, words in in_catalogue().items()} == {
        context: words - THE_SAME for context, words in USED.items()
    }
    assert catalogue.GAVE_UP in FAILURES


def test_headings_and_states_fit_where_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a table of ``cbw top``, whose columns are as wide in each language; the mark of the order may be left out."""
    monkeypatch.setenv("CBW_LANG", "es")
    for _, columns, _ in top_view.TABLES:
        for name, width, *_ in columns:
            assert len(word(name, "top")) < width, name
            if name == "STATE":
                states = (
                    {"waiting", "running", "delayed"} if columns is top_view.REQUEST_TABLE else {*STATES, "unserved"}
                )
                assert all(len(word(state, "state")) < width for state in states)
    assert all(len(word(result, "result")) <= verify.RESULT_CELLS for result in USED["result"])
    for name, *_ in top_view.TABLES:
        spanish = f"{word(name, 'top table')} {word(top_view.KEYS[name], 'top')}  {word(top_view.KEYS_OF_ALL, 'top')}"
        english = f"{name} {top_view.KEYS[name]}  {top_view.KEYS_OF_ALL}"
        assert len(spanish) <= max(len(english), top_view.WIDTH_MIN - 4), spanish


def test_headings_of_one_table_differ() -> None:
    words = in_catalogue()["table"]
    for columns in (ps.SERVICE_COLUMNS, ps.WORKER_COLUMNS, services.LISTED_COLUMNS, dead.DEAD_COLUMNS):
        assert len({words.get(name, name) for name in columns}) == len(columns)


def test_a_word_of_a_peer_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the same as one of ours."""
    monkeypatch.setenv("CBW_LANG", "es")
    assert word("busy", "state") == "ocupado" and translated("busy") == "busy"
    assert word("hello", "state") == "hello"
    assert translated("KeyError: failed") == "KeyError: failed"
