"""A verification as a document to hand in: one HTML page, or a text in Markdown. Both say the same.

The page asks nobody for anything: no script, no font, no picture from elsewhere, and a policy of its own that forbids it.
All names and texts come from peers and are escaped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path

import msgspec

from cbw.verify import picture
from cbw.verify.timeline import Moment, Scene, Timeline
from cbw.verify.verdict import Figure, Verdict
from cbw.version import __version__
from cbw.visible import visible

PROMISES = {
    "own-replies": "Each client gets the answers to its own requests and nobody else's, and each answer once.",
    "no-idle-while-waiting": "No worker is free while a request waits that it could serve.",
    "killed-worker": "A request whose worker is killed is answered by another one.",
    "frozen-worker": "A request whose worker stands still is answered by another one; the late answer counts for nothing, "
    "and the worker is used again.",
    "cut-off-worker": "A request whose worker is cut off from the network is answered by another one; the worker is used again.",
    "killed-broker": "The clients of a broker that is killed get all their answers, once.",
    "restarted-broker": "The clients of a broker that is restarted get all their answers, once.",
    "frozen-broker": "The clients of a broker that stands still get all their answers from others, once.",
    "cut-off-broker": "The clients of a broker that is cut off get all their answers from others, once.",
    "standby-takes-over": "When the owner of a journal is killed a standby goes on, and all requests are answered once.",
    "fenced-zombie": "A broker that has lost its journal to a standby ends.",
    "work-shared": "The workers serve each of several brokers.",
    "least-recently-used": "Of several free workers the one that has been free for longest gets the request.",
    "one-at-a-time": "A worker gets its next task when it has answered the one before.",
    "bad-frames": "Messages that no program of the lab sends do not keep the broker from serving others.",
    "complete-log": "The log tells the whole story of each request, and counts what it lacks.",
}
"""What each check is about, by its name."""

LEGEND = (
    ("done", "an attempt"),
    ("answered", "the attempt whose answer counted"),
    ("late", "an attempt whose answer came too late"),
    ("lost", "an attempt that was lost"),
    ("down", "out of order"),
)


_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


class Report(msgspec.Struct):
    """What is told about one verification.

    ``subject`` is what was verified, ``command`` how, ``unseen`` what this way of verifying could not see, one sentence each.
    ``made_at`` is in seconds since 1970.
    """

    subject: str
    command: str
    verdicts: Sequence[Verdict]
    timeline: Timeline
    unseen: Sequence[str]
    made_at: float

    @property
    def headline(self) -> str:
        """The result in a sentence."""
        broken = [verdict.name for verdict in self.verdicts if not verdict.passed]
        tried = [verdict for verdict in self.verdicts if verdict.result != "not tried"]
        if broken:
            return f"{len(broken)} of {len(tried)} promises broken: {', '.join(broken)}"
        return f"All {len(tried)} promises that were tried were kept" if tried else "Nothing could be judged"

    @property
    def result(self) -> str:
        """The result in a word: kept, broken, or not tried."""
        results = [verdict.result for verdict in self.verdicts]
        return next((word for word in ("broken", "kept") if word in results), "not tried")

    @property
    def facts(self) -> dict[str, str]:
        """What stands at the head of the document."""
        facts = {"verified": self.subject, "command": self.command}
        if self.timeline.first_at is not None:
            facts["began"] = _moment(self.timeline.first_at)
            facts["took"] = f"{self.timeline.last_at - self.timeline.first_at:.1f} s"
        return facts | {"report of": _moment(self.made_at), "made by": f"cbw {__version__}"}


def html(report: Report) -> str:
    """The report as a page that needs nothing else."""
    facts = "".join(f"<dt>{_text(name)}</dt><dd>{_value(name, value)}</dd>" for name, value in report.facts.items())
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>cbw verify: {_text(report.headline)}</title>\n<style>{_style()}</style></head>\n<body><main>",
        f'<h1 class="{_class(report.result)}">{_text(report.headline)}</h1>',
        f"<dl>{facts}</dl>",
        "<h2>What was seen</h2>",
        '<table class="checks"><thead><tr><th scope="col">check</th><th scope="col">result</th>'
        '<th scope="col">figures and evidence</th></tr></thead><tbody>',
        *map(_check, report.verdicts),
        "</tbody></table>",
        "<h2>What was done</h2>",
        _moments(report.timeline.deeds, report.timeline.first_at or 0.0),
        "<h2>Time lines</h2>",
    ]
    if report.timeline.scenes:
        signs = "".join(f'<li><i class="{name}"></i>{meaning}</li>' for name, meaning in LEGEND)
        parts.append(f'<p class="soft">Seconds are counted from the harm.</p><ul class="legend soft">{signs}</ul>')
        parts += [_figure(scene, number) for number, scene in enumerate(report.timeline.scenes, 1)]
    else:
        parts.append("<p>The records tell of no attempt of a worker.</p>")
    if report.unseen:
        parts.append("<h2>What could not be seen</h2>")
        parts.append(f"<ul>{''.join(f'<li>{_text(line)}</li>' for line in report.unseen)}</ul>")
    return "\n".join([*parts, "</main></body></html>\n"])


@cache
def _style() -> str:
    return Path(__file__).with_name("report.css").read_text(encoding="utf-8")


def _check(verdict: Verdict) -> str:
    evidence = "".join(f"<li>{_text(line)}</li>" for line in verdict.evidence)
    return (
        f'<tr><th scope="row"><span>{_text(verdict.name)}</span></th>'
        f'<td class="{_class(verdict.result)}"><b>{verdict.result}</b></td>'
        f'<td><div class="soft">{_text(PROMISES.get(verdict.name, ""))}</div>{_text(verdict.summary)}'
        f"{f'<ul>{evidence}</ul>' if evidence else ''}"
        f'<div class="soft figures">{_text(_figures(verdict.figures))}</div></td></tr>'
    )


def _figure(scene: Scene, number: int) -> str:
    zero = scene.harmed_at if scene.harmed_at is not None else scene.begins_at
    _, hidden = picture.rows_of(scene)
    return (
        f"<figure><h3>{_text(scene.title)}</h3>"
        f'<div class="wide" tabindex="0" role="group" aria-label="picture {number}">{picture.svg(scene, number)}</div>'
        f"{f'<p class=soft>{hidden} more workers are not shown.</p>' if hidden else ''}"
        f"{_moments(scene.moments, zero)}"
        f"{f'<p class=soft>{scene.left_out} more events are not shown.</p>' if scene.left_out else ''}</figure>"
    )


def _moments(moments: Sequence[Moment], zero: float) -> str:
    if not moments:
        return ""
    rows = "".join(
        f'<tr><td class="at">{moment.at - zero:+.3f} s</td><td>{_text(moment.text)}</td></tr>' for moment in moments
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _value(name: str, value: str) -> str:
    return f"<code>{_text(value)}</code>" if name == "command" else _text(value)


def _class(result: str) -> str:
    return result.replace(" ", "-")


def _text(text: str) -> str:
    return escape(visible(text))


def markdown(report: Report) -> str:
    """The report as Markdown, with pictures made of characters."""
    lines = [f"# {_plain(report.headline)}", ""]
    lines += [f"- {name}: {_plain(value)}" for name, value in report.facts.items()]
    lines += ["", "## What was seen", "", "| check | result | figures and evidence |", "| --- | --- | --- |"]
    for verdict in report.verdicts:
        says = [PROMISES.get(verdict.name, ""), verdict.summary, *verdict.evidence, _figures(verdict.figures)]
        lines.append(f"| {verdict.name} | **{verdict.result}** | {'<br>'.join(map(_plain, filter(None, says)))} |")
    lines += ["", "## What was done", ""]
    lines += [
        f"- {_offset(moment, report.timeline.first_at or 0.0)} {_plain(moment.text)}"
        for moment in report.timeline.deeds
    ]
    lines += ["", "## Time lines", ""]
    if report.timeline.scenes:
        lines.append(
            "Seconds are counted from the harm, which is at `|`. `=` an attempt, `#` the attempt whose answer counted, `~` one "
            "whose answer came too late, `x` one that was lost, `-` one that had not ended, `.` out of order."
        )
    for scene in report.timeline.scenes:
        zero = scene.harmed_at if scene.harmed_at is not None else scene.begins_at
        lines += ["", f"### {_plain(scene.title)}", "", *(f"    {line}" for line in picture.characters(scene)), ""]
        lines += [f"- {_offset(moment, zero)} {_plain(moment.text)}" for moment in scene.moments]
    if report.unseen:
        lines += ["", "## What could not be seen", "", *(f"- {_plain(line)}" for line in report.unseen)]
    return "\n".join([*lines, ""])


def _plain(text: str) -> str:
    """``text`` so that no character of it means anything in Markdown, nor in the HTML that it may hold."""
    safe = escape(visible(text), quote=False)
    return "".join(f"\\{sign}" if sign in "\\`*_[]|~#" else sign for sign in safe)


def _offset(moment: Moment, zero: float) -> str:
    return f"{moment.at - zero:+.3f} s"


def _figures(figures: dict[str, Figure]) -> str:
    shown = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in figures.items()}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items() if value is not None)


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
