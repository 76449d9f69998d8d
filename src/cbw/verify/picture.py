"""A scene of a verification as a picture: SVG for a browser, characters for a text."""

from __future__ import annotations

import math
from html import escape
from typing import NamedTuple

from cbw.verify.timeline import Attempt, Outage, Scene
from cbw.visible import visible

WIDTH, LABEL, ROW = 960, 170, 26
"""Measures of the SVG, in its own units: the whole, the names at the left, the height of a row."""
TOP, BOTTOM = 30, 34
"""Room for what is written above and below the rows, in the same units."""
CHARACTERS = 64
"""Characters of the text picture, without the names at its left."""
ROWS_MAX = 30
"""Workers of one picture: beyond, it could not be read. Those that were hurt or answered come first."""
TICKS_MAX = 9
"""Marks of the axis of time."""
_LETTER = 7.0  # width of a letter, about, at the size of the labels
_SIGNS = {"open": "-", "done": "=", "answered": "#", "late": "~", "lost": "x"}


class _Row(NamedTuple):
    name: str
    attempts: list[Attempt]
    outages: list[Outage]


def rows_of(scene: Scene) -> tuple[list[_Row], int]:
    """The rows of a picture, the broker's first if it was hurt, and the number of workers that do not fit in."""
    concerned = {one.worker: None for one in scene.attempts if one.request in scene.requests}
    concerned |= {one.worker: None for one in scene.outages}
    workers = scene.workers
    shown = workers if len(workers) <= ROWS_MAX else sorted(workers, key=lambda name: name not in concerned)[:ROWS_MAX]
    names = ([""] if any(not one.worker for one in scene.outages) else []) + [name for name in workers if name in shown]
    rows = [
        _Row(
            name or "broker",
            [one for one in scene.attempts if name and one.worker == name],
            [one for one in scene.outages if one.worker == name],
        )
        for name in names
    ]
    return rows, len(workers) - len(shown)


def svg(scene: Scene, number: int) -> str:
    """The picture as an ``<svg>`` element, to stand in a page that defines the colours of its classes."""
    rows, _ = rows_of(scene)
    height = TOP + ROW * max(1, len(rows)) + BOTTOM
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="picture-{number}">',
        f'<title id="picture-{number}">{_text(scene.title)}: the attempts of each worker as bars over time</title>',
        *_axis(scene, height),
    ]
    for place, row in enumerate(rows):
        top = TOP + ROW * place
        parts.append(f'<text class="name" x="{LABEL - 8}" y="{top + 17}">{_text(_short(row.name))}</text>')
        parts.append(f'<line class="row" x1="{LABEL}" x2="{WIDTH}" y1="{top + ROW}" y2="{top + ROW}"/>')
        for outage in row.outages:
            left, right = _x(scene, outage.since), _x(scene, outage.until or scene.ends_at)
            parts.append(
                f'<rect class="down" x="{left:.1f}" y="{top + 1}" width="{right - left:.1f}" height="{ROW - 2}"/>'
            )
        parts += [_bar(scene, one, top) for one in row.attempts]
    if scene.harmed_at is not None:
        at = _x(scene, scene.harmed_at)
        parts.append(f'<line class="harm" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP - 6}" y2="{height - BOTTOM}"/>')
        parts.append(f'<text class="harm" x="{at:.1f}" y="{TOP - 12}">the harm</text>')
    return "\n".join([*parts, "</svg>"])


def _bar(scene: Scene, one: Attempt, top: int) -> str:
    ended_at = min(one.ended_at if one.ended_at is not None else scene.ends_at, scene.ends_at)
    left, right = _x(scene, one.begun_at), _x(scene, ended_at)
    width = max(1.5, right - left)
    about = f"{one.worker}: {one.request}, {one.fate}, {ended_at - one.begun_at:.3f} s"
    bar = f'<rect class="{one.fate}" x="{left:.1f}" y="{top + 5}" width="{width:.1f}" height="{ROW - 10}" rx="2">'
    bar += f"<title>{_text(about)}</title></rect>"
    says = one.request if one.fate in ("open", "done") else f"{one.request} {one.fate}"
    for label in (says, one.request):
        if len(label) * _LETTER + 6 < width:
            return f'{bar}<text class="on {one.fate}" x="{left + 4:.1f}" y="{top + 17}">{_text(label)}</text>'
    return bar


def _axis(scene: Scene, height: int) -> list[str]:
    """Seconds, counted from the harm."""
    zero = scene.harmed_at if scene.harmed_at is not None else scene.begins_at
    step = _step(scene.ends_at - scene.begins_at)
    first, last = math.ceil((scene.begins_at - zero) / step), math.floor((scene.ends_at - zero) / step)
    parts = []
    for number in range(first, last + 1):
        x = _x(scene, zero + number * step)
        anchor = "end" if x > WIDTH - 30 else "middle"
        parts.append(f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM + 5}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{height - 12}" text-anchor="{anchor}">{number * step:g} s</text>'
        )
    return parts


def _step(whole_s: float) -> float:
    """Seconds between two marks: 1, 2 or 5, or such a part or multiple of them by ten that there are few marks."""
    for power in range(-4, 6):
        for first in (1, 2, 5):
            step = float(f"{first}e{power}")
            if whole_s / step <= TICKS_MAX:
                return step
    return 1e6


def _seconds(seconds: float) -> str:
    return f"{seconds:+.2f}" if abs(seconds) >= 0.005 else "0"


def _x(scene: Scene, at: float) -> float:
    return LABEL + _share(scene, at) * (WIDTH - LABEL - 2)


def _share(scene: Scene, at: float) -> float:
    """Where ``at`` lies in the scene, from 0 to 1."""
    whole = scene.ends_at - scene.begins_at
    return min(1.0, max(0.0, (at - scene.begins_at) / whole)) if whole > 0 else 0.0


def _short(name: str) -> str:
    """The end of a long name tells more: replicas differ there."""
    longest = int((LABEL - 12) / _LETTER)
    return name if len(name) <= longest else "…" + name[1 - longest :]


def _text(text: str) -> str:
    return escape(visible(text))


def characters(scene: Scene) -> list[str]:
    """The picture as lines of a fixed width font: a row a worker, time to the right, ``|`` at the harm."""
    rows, _ = rows_of(scene)
    longest = max((len(_short(visible(row.name))) for row in rows), default=0)
    harm = None if scene.harmed_at is None else _column(scene, scene.harmed_at)
    lines = []
    for row in rows:
        cells = [" "] * CHARACTERS
        for outage in row.outages:
            first, last = _column(scene, outage.since), _column(scene, outage.until or scene.ends_at)
            cells[first : last + 1] = "." * (last + 1 - first)
        for one in row.attempts:
            ended_at = one.ended_at if one.ended_at is not None else scene.ends_at
            first, last = _column(scene, one.begun_at), _column(scene, ended_at)
            cells[first : last + 1] = _SIGNS[one.fate] * (last + 1 - first)
        if harm is not None:
            cells[harm] = "|"
        lines.append(f"{_short(visible(row.name)):<{longest}}  {''.join(cells).rstrip()}")
    zero = scene.harmed_at if scene.harmed_at is not None else scene.begins_at
    begin, end = f"{_seconds(scene.begins_at - zero)} s", f"{_seconds(scene.ends_at - zero)} s"
    lines.append(f"{'':<{longest}}  {begin}{end:>{CHARACTERS - len(begin)}}")
    return lines


def _column(scene: Scene, at: float) -> int:
    return min(CHARACTERS - 1, int(_share(scene, at) * CHARACTERS))
