"""Tables on terminals. Beside :mod:`cbw.cli.output`, as Rich takes time to import and most commands print none."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cbw.visible import visible


def cell(*lines: str, style: str = "") -> Text:
    """``lines`` for a table: made visible, and no markup of Rich whatever they look like."""
    return Text("\n".join(map(visible, lines)), style=style)


def show(table: Table) -> None:
    """Print ``table`` as wide as the terminal is."""
    Console().print(table)
