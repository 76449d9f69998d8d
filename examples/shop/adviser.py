"""The service that describes articles, word by word, as a language model would.

``cbw worker --app adviser --concurrency 100``
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import cbw

adviser = cbw.Service("adviser")
PAUSE_S = 0.02
TEXTS = {
    "tea": "Green leaves from the north of the island, dried in the shade.",
    "coffee": "Dark beans, roasted on Mondays, with a taste of walnut.",
}


@adviser.task()
async def describe(article: str, rounds: int = 1) -> AsyncIterator[str]:
    """Its description, ``rounds`` times."""
    if article not in TEXTS:
        raise cbw.Failure("not_found", f"nothing is known about {article!r}")
    try:
        for word in TEXTS[article].split() * rounds:
            await asyncio.sleep(PAUSE_S)  # or: async for token in model.generate(article)
            yield word
    finally:
        logging.info("%s: no more", article)  # also if the browser has left
