"""What a worker sends of answers: in a form that its broker takes, and of some of them parts."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.messages import OK, Status


class OutgoingStreams:
    """The streams that handlers make, or are about to."""

    def __init__(self) -> None:
        self.were_used = False  # if so, no handler is to run in the thread that reads for how many parts there is room
        self.tasks: dict[int, None] = {}

    def begun(self, task: messages.StreamTask) -> None:
        """``task`` is in hand."""
        self.were_used = True
        self.tasks[task.id] = None

    def others(self, tasks: dict[int, None]) -> list[int]:
        """The ``tasks`` that are no streams."""
        return [task for task in tasks if task not in self.tasks]

    def of(self, tasks: dict[int, None]) -> list[int]:
        """The ``tasks`` that are streams."""
        return [task for task in tasks if task in self.tasks]


def too_large(message: messages.AnswerPart | messages.ProgressMade, broker: messages.Welcome) -> messages.Answer | None:
    """The answer that ends a stream, if ``message`` is a part of it that is larger than ``broker`` takes."""
    if not isinstance(message, messages.AnswerPart) or len(message.body) <= broker.body_bytes_max:
        return None
    return _answer_too_big(message.id, f"part {message.number} of the answer", len(message.body), broker)


def fitting(answer: messages.Answer, broker: messages.Welcome) -> messages.Answer:
    """``answer``, or in its place what ``broker`` can take: it may be too old for retries, and ends the connection over a body
    that is too large.
    """
    status, size = answer.status, len(answer.body)
    if status is OK and size <= broker.body_bytes_max:  # the usual case
        return answer
    if status is Status.RETRY and not broker.takes_retries:
        error = messages.error_parts(answer.body)
        return messages.Answer(answer.id, Status.FAILED, messages.error_body(error.kind, error.text, data=error.data))
    if status is not OK:  # errors have bounds of their own
        return answer
    return _answer_too_big(answer.id, "the answer", size, broker)


def _answer_too_big(task: int, what: str, size: int, broker: messages.Welcome) -> messages.Answer:
    text = f"{what} has {size} bytes; the broker allows {broker.body_bytes_max} (--body-bytes-max)"
    return messages.Answer(task, Status.TOO_BIG, messages.error_body(messages.ANSWER_TOO_BIG, text))
