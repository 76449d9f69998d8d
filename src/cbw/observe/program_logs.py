"""What a user's handlers log with Python's ``logging``."""

from __future__ import annotations

import logging


def show_logs() -> None:
    """Print it to stderr, from level INFO on, unless the program has set ``logging`` up itself. Call it when that is imported."""
    form = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, datefmt="%H:%M:%S")
