"""The service that knows prices and what is left. Workers serve these functions, and web.py calls them.

``cbw worker --app stock``
"""

from __future__ import annotations

import cbw

stock = cbw.Service("stock")
PRICES = {"tea": 490, "coffee": 750, "cocoa": 620}
LEFT = {"tea": 12, "coffee": 3, "cocoa": 0}
"""In memory, so that this example needs no database. Hence one worker of this service: two would sell everything twice."""


@stock.task()
def price(article: str, count: int = 1) -> int:
    """In cents."""
    return PRICES[known(article)] * count


@stock.task()
def take(article: str, count: int = 1) -> int:
    """Take it out of the stock. How many are left."""
    left = LEFT[known(article)]
    if count > left:
        raise cbw.Failure("not_enough", f"only {left} of {article} left", data={"left": left})
    LEFT[article] = left - count
    return LEFT[article]


def known(article: str) -> str:
    """The article, if there is such a one."""
    if article not in PRICES:
        raise cbw.Failure("not_found", f"no article {article!r}", data={"articles": sorted(PRICES)})
    return article
