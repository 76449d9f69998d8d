"""Messages in a few words, for the story of a run."""

from __future__ import annotations

from collections.abc import Iterable

from cbw.core import messages, plain_messages

WITH_ID = (messages.Request, messages.Task, messages.Cancel, messages.CancelTask)
WITH_TASKS = (messages.Returned, messages.Recall, messages.Credit)
WITH_BODY = (plain_messages.PlainRequest, plain_messages.PlainTask, plain_messages.PlainAnswer)


def summary(batch: Iterable[messages.Message]) -> str:
    """``messages`` in a few words for the story."""
    words = []
    for message in batch:
        name = type(message).__name__
        if isinstance(message, WITH_ID):
            name += f" {message.id}"
        elif isinstance(message, messages.Answer):
            name += f" {message.id} {message.status.name}"
        elif isinstance(message, WITH_TASKS):
            name += f" {message.tasks}"
        elif isinstance(message, plain_messages.PlainReply):
            name += f" {message.answer.id} {message.answer.status.name}"
        elif isinstance(message, WITH_BODY):
            name += f" {message.body[:40]!r}"
        words.append(name)
    return ", ".join(words)
