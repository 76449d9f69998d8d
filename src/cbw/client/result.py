"""What a program gets when its request has ended: the answer, or an exception that says why there is none."""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

import msgspec

from cbw import codec
from cbw.core import messages
from cbw.core.client.events import Ended
from cbw.core.identities import name_of_request
from cbw.core.messages import OK, Status
from cbw.errors import (
    AnswerTooBig,
    BadAnswer,
    BadRequest,
    Busy,
    Cancelled,
    CbwError,
    Closed,
    Expired,
    Failure,
    GaveUp,
    HandlerFailed,
    NotAllowed,
    RequestError,
    StreamBroken,
    TicketTaken,
    TimeLimit,
    TooBig,
    UnknownTicket,
    UsageError,
)
from cbw.wire.refusal import refusal_error

_ERRORS: dict[Status, type[RequestError]] = {
    Status.FAILED: HandlerFailed,
    Status.BAD_REQUEST: BadRequest,
    Status.EXPIRED: Expired,
    Status.GAVE_UP: GaveUp,
    Status.BROKEN: StreamBroken,
    Status.BUSY: Busy,
    Status.CANCELLED: Cancelled,
    Status.TOO_BIG: TooBig,
    Status.NOT_ALLOWED: NotAllowed,
    Status.UNKNOWN_TICKET: UnknownTicket,
    Status.TICKET_TAKEN: TicketTaken,
}


def exception_for(ended: Ended) -> CbwError:
    """The exception that says why ``ended`` has no answer."""
    if ended.is_closed:
        return Closed("the client was closed")
    if ended.refused is not None:
        return refusal_error(ended.refused)
    answer = ended.answer
    said = messages.error_parts(answer.body)
    whose: dict[str, Any] = {"request_id": answer.id, "service": ended.service, "request": ended.request}
    if answer.status is Status.FAILED and said.data is not None:
        with contextlib.suppress(msgspec.DecodeError, UsageError):  # a worker of somebody else's may be wrong
            return Failure(said.kind, said.text, data=msgspec.json.decode(said.data), **whose)
    error_type = _ERRORS.get(answer.status, RequestError)
    if said.kind == messages.ANSWER_TOO_BIG and error_type is TooBig:
        error_type = AnswerTooBig
    elif said.kind == TimeLimit.__name__ and error_type is HandlerFailed:  # as its worker calls it
        error_type = TimeLimit
    error = error_type(said.text, kind=said.kind, **whose)
    if said.kind == messages.ELSEWHERE:
        error.advice = "Ask there, or start the broker with keys (cbw keys new) or with --allow-control."
    if isinstance(error, Expired) and said.kind == messages.NOT_REACHED:
        error.advice = "What is wrong on the way to the broker, and what listens in its place: cbw doctor HOST:PORT"
        error.add_note(error.advice)
    elif isinstance(error, Busy):
        error.retry_after_s = answer.retry_after_s
    elif isinstance(error, HandlerFailed) and said.traceback:
        error.traceback = said.traceback
        error.add_note(f"In the worker:\n{said.traceback}")
    return error


def decode_answer(body: Any, returns: Any, request_id: int, service: str, client: str, ticket: str = "") -> Any:
    """The body of an answer, read as ``returns``. The rest says whose it is.

    Raises:
        BadAnswer: the body is not one.
    """
    try:
        return codec.decode(body, returns)
    except Exception as error:  # a user's type may raise whatever it likes
        name = getattr(returns, "__qualname__", None) or repr(returns)
        text = f"the answer cannot be read as {name}: {error}"
        request = name_of_request(client, request_id, ticket)
        kind = type(error).__name__
        raise BadAnswer(text, kind=kind, request_id=request_id, service=service, request=request) from error


class Settled(Protocol):
    """A future of either kind."""

    def set_result(self, result: Any, /) -> None: ...

    def set_exception(self, exception: BaseException, /) -> None: ...


def settle(future: Settled, ended: Ended, returns: Any) -> None:
    """Give ``future`` the answer, read as ``returns``, or the exception that says why there is none."""
    answer = ended.answer
    if answer.status is not OK:
        future.set_exception(exception_for(ended))
        return
    if returns is bytes and type(answer.body) is bytes:  # the usual case
        future.set_result(answer.body)
        return
    try:
        future.set_result(decode_answer(answer.body, returns, answer.id, ended.service, ended.client, ended.ticket))
    except BadAnswer as error:
        future.set_exception(_without_frames(error))


def result_of(ended: Ended, returns: Any, return_errors: bool = False) -> Any:
    """The answer, read as ``returns``. If there is none, its exception is raised, or with ``return_errors`` returned."""
    if ended.answer.status is not OK:
        if return_errors:
            return exception_for(ended)
        raise exception_for(ended)
    try:
        answer = ended.answer
        return decode_answer(answer.body, returns, answer.id, ended.service, ended.client, ended.ticket)
    except CbwError as error:
        if return_errors:
            return _without_frames(error)
        raise


def _without_frames(error: CbwError) -> CbwError:
    """``error``, which nobody has raised as far as its caller knows: its frames hold who is about to hold it."""
    held: BaseException | None = error
    while held is not None:
        held.__traceback__ = None
        held = held.__context__
    return error
