"""What comes before a request that waits, as a copy of its queue hands it out."""

from __future__ import annotations

import copy
from itertools import count

from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import Entry, ServiceRow


def before(service: ServiceRow, entry: Entry, now: float) -> int:
    """How many are handed out before ``entry``, which waits for ``service``, if nothing more comes and no worker goes."""
    suspects = [other for other in service.suspects if other.state is not RequestState.ENDED]
    if entry.state is RequestState.SUSPECT:
        return suspects.index(entry)
    kept = [entry, *service.waiting, *(other.client for other in service.waiting)]  # which are the same in the copy
    queue = copy.deepcopy(service.waiting, {id(each): each for each in kept})
    for taken in count():
        (other,) = queue.take(1, now)
        if other is entry:
            return len(suspects) + taken
    raise AssertionError("nothing else ends that")
