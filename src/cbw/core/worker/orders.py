"""What a worker's core has decided in one step, in the order in which it is to be carried out."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.worker import events


class Orders:
    """Gathered by the core and its sessions. Tasks begin before some of them are wanted back or cancelled again."""

    def __init__(self) -> None:
        self.first: list[events.Order] = []
        self.begin: list[messages.Task] = []
        self.take_back: list[int] = []
        self.cancel: list[int] = []

    def take(self) -> list[events.Order]:
        """All but the messages, and none is left."""
        orders, self.first = self.first, []
        if self.begin:
            orders.append(events.Begin(self.begin))
            self.begin = []
        if self.take_back:
            orders.append(events.TakeBack(self.take_back))
            self.take_back = []
        if self.cancel:
            orders.append(events.CancelTasks(self.cancel))
            self.cancel = []
        return orders
