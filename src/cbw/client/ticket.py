"""What a program keeps of a request that outlives it."""

from __future__ import annotations

import os
from typing import Self

from cbw.client.result import exception_for
from cbw.core.client.events import Ended
from cbw.core.messages import Status


class Ticket(str):
    """Names a request that outlives the client that started it. A string, to be kept in a database, a file or a mail.

    ``is_durable``: the request is in the broker's journal and survives the broker, too. Otherwise it lives as long as the
    broker does. Whoever has the ticket can fetch the answer.
    """

    is_durable: bool

    def __new__(cls, text: str, *, is_durable: bool = False) -> Self:
        ticket = super().__new__(cls, text)
        ticket.is_durable = is_durable
        return ticket


def new_ticket() -> str:
    """A ticket that nobody else has, or can guess: 128 random bits."""
    return os.urandom(16).hex()


def ticket_of(ended: Ended) -> Ticket:
    """The ticket of a request that was started. If it was not, the reason is raised."""
    if ended.answer.status is Status.OK:
        return Ticket(ended.ticket, is_durable=ended.is_durable)
    raise exception_for(ended)
