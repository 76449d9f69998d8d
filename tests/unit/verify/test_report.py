"""The document that tells of a verification."""

from __future__ import annotations

import inspect

from cbw.verify import checks
from cbw.verify.checks import judge
from cbw.verify.report import PROMISES, Report, html, markdown
from cbw.verify.timeline import Timeline

from .records import begun, done, got, hurt, sent, started

HOSTILE = "<img/src=x|onerror=alert(1)>`*_\x1b[31m"


def report_of(worker: str) -> Report:
    timeline = Timeline()
    records = [
        started(0.0), sent(0.1, "A/1"), begun(0.2, worker, "A/1", 1), hurt(0.3, "killed", worker, "A/1"),
        begun(0.4, "W2", "A/1", 2), done(0.5, "W2", "A/1", 2), got(0.6, "A/1", "A/1 W2"),
        sent(5.0, "A/2"), got(5.1, "A/2", "A/1 W2"),
    ]  # fmt: skip
    verdicts = judge(timeline.watching(records))
    return Report(f"the broker {worker}", "cbw verify", verdicts, timeline, [f"What {worker} thinks."], 0.0)


def test_every_check_says_what_it_is_about() -> None:
    every = judge([started(0.0), hurt(0.0, "deployed", "", "")])
    assert {verdict.name for verdict in every} <= PROMISES.keys()
    assert all(f"{name}" for name in PROMISES) and "PROMISES" not in inspect.getsource(checks)


def test_the_result_comes_first() -> None:
    report = report_of("W1")
    assert (report.result, report.headline) == ("broken", "1 of 3 promises broken: own-replies")
    assert markdown(report).splitlines()[0] == f"# {report.headline}"
    assert f'<h1 class="broken">{report.headline}</h1>' in html(report)


def test_both_forms_say_the_same() -> None:
    report = report_of("W1")
    for text in (html(report), markdown(report).replace("\\", "")):
        for said in (
            "the broker W1", "killed-worker", "own-replies", "not tried", "W1 was killed while it worked on A/1", "W2 began A/1",
            "A got the answer of W2 to A/1", "What W1 thinks.", "1970-01-01 00:00:00 UTC", "the verification began",
        ):  # fmt: skip
            assert said in text, said


def test_what_peers_said_is_text() -> None:
    report = report_of(HOSTILE)
    for text in (html(report), markdown(report)):
        assert "<img" not in text and "\x1b" not in text
    row = next(line for line in markdown(report).splitlines() if line.startswith("| killed-worker"))
    assert row.replace("\\|", "").count("|") == 4, "a table has the columns that it has"


def test_the_page_asks_for_nothing() -> None:
    page = html(report_of("W1"))
    assert "default-src 'none'" in page
    for sign in ("<script", "<link", "src=", "url(", "@import", "http"):
        assert sign not in page.replace('http-equiv="Content', ""), sign
