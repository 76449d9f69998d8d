"""Label values of metrics: names that peers have chosen, made harmless, short and few.

Prometheus keeps each value that it has ever seen as a series of its own. So what peers choose is bounded here, in length and in
number, and the rest is counted together.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence

from cbw.visible import visible

LABEL_CHARS_MAX = 100
"""Characters of a label value: names of services and workers that people choose have fewer than 50."""
SERIES_MAX = 200
"""Values of a label that have a series of their own, which bounds the size of a scrape: 200 workers of 3 series take 40 kB."""
OTHERS = "(others)"
"""The label value under which all further ones are counted together."""


def label(name: str) -> str:
    """``name`` as a label value: visible, and cut to :data:`LABEL_CHARS_MAX` characters."""
    text = visible(name)
    return text if len(text) <= LABEL_CHARS_MAX else f"{text[: LABEL_CHARS_MAX - 1]}…"


def series(
    rows: Iterable[tuple[str, Sequence[float]]], together: Callable[[float, float], float] = operator.add
) -> dict[str, list[float]]:
    """Figures by label value: those of the first :data:`SERIES_MAX` values, and the sums of the rest under :data:`OTHERS`.

    ``rows`` are names and their figures, as many for each. Names that are the same when cut are counted together, as a page
    that has a series twice is refused by Prometheus. ``together`` makes one figure of two, if it is not their sum.
    """
    found: dict[str, list[float]] = {}
    for name, figures in rows:
        value = label(name)
        if value not in found and len(found) >= SERIES_MAX:
            value = OTHERS
        known = found.setdefault(value, [0.0] * len(figures))
        found[value] = [together(one, more) for one, more in zip(known, figures, strict=True)]
    return found
