"""The web server: it speaks HTTP with browsers, and asks the services for everything else.

``uvicorn web:app``
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from adviser import describe
from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from stock import price, take

import cbw

PAGE = Path(__file__).with_name("page.html")
STATUS_OF = {"not_found": 404, "not_enough": 409}
"""What the codes of failures are in HTTP."""
TIMEOUT_S = 5.0
TALK_S = 60.0
"""A description may take this long, from its first word to its last."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for all requests, on uvicorn's own event loop. It finds the broker by BROKER_HOST and BROKER_PORT."""
    async with cbw.AsyncClient(timeout=TIMEOUT_S) as client:
        app.state.client = client
        yield


def client_of(request: Request) -> cbw.AsyncClient:
    """The client, for those that ask with it."""
    client: cbw.AsyncClient = request.app.state.client
    return client


app = FastAPI(title="A shop", lifespan=lifespan)
Client = Annotated[cbw.AsyncClient, Depends(client_of)]
Count = Annotated[int, Query(ge=1, le=1000)]


@app.get("/")
def page() -> FileResponse:
    """The page for people."""
    return FileResponse(PAGE)


@app.get("/articles/{article}")
async def show(article: str, client: Client, count: Count = 1) -> dict[str, int | str]:
    """What so many of it cost."""
    return {"article": article, "cents": await client.call(price, article, count=count)}


@app.post("/articles/{article}/orders")
async def order(article: str, client: Client, count: Count = 1) -> dict[str, int | str]:
    """Buy it. Nobody waits for a stock without workers: that is a 503 at once."""
    left = await client.call(take.with_options(require_worker=True), article, count=count)
    return {"article": article, "left": left}


@app.get("/articles/{article}/description")
async def tell(article: str, client: Client, rounds: Count = 1) -> StreamingResponse:
    """Its description, a word an event. An error before the first word is a status of HTTP as everywhere."""
    words = client.stream(describe.with_options(timeout=TALK_S), article, rounds=rounds)
    first = await anext(words)
    return StreamingResponse(events(first, words), media_type="text/event-stream")


async def events(first: str, words: cbw.AsyncAnswerStream[str]) -> AsyncIterator[str]:
    """Server-sent events: words, then ``end`` or ``failed``. When the browser leaves, the handler's generator is closed."""
    async with words:
        try:
            yield event("word", first)
            async for word in words:
                yield event("word", word)
            yield event("end", "")
        except cbw.RequestError as error:
            yield event("failed", str(error))


def event(name: str, value: str) -> str:
    """One event; JSON has no line breaks, which would end it."""
    return f"event: {name}\ndata: {json.dumps(value)}\n\n"


# --- errors of requests, in HTTP; each names the request, which `cbw logs story` and traces know


@app.exception_handler(cbw.Failure)
async def failed(_: Request, error: cbw.Failure) -> JSONResponse:
    """A service has said no."""
    return answer(STATUS_OF.get(error.code, 422), error, code=error.code, data=error.data)


@app.exception_handler(cbw.Expired)
async def expired(_: Request, error: cbw.Expired) -> JSONResponse:
    """504 if it took too long, 503 if there is nobody to do it."""
    return answer(504 if error.kind in ("queue", "worker") else 503, error, code=error.kind)


@app.exception_handler(cbw.Busy)
async def busy(_: Request, error: cbw.Busy) -> JSONResponse:
    """The broker is at a limit."""
    done = answer(503, error, code="busy")
    done.headers["Retry-After"] = str(math.ceil(error.retry_after_s or 1))
    return done


@app.exception_handler(cbw.RequestError)
async def broken(_: Request, error: cbw.RequestError) -> JSONResponse:
    """Any other: a handler has raised, or its workers were lost. What went wrong is in the log, and not for the browser."""
    return answer(502, error, code="broken")


def answer(status: int, error: cbw.RequestError, **more: object) -> JSONResponse:
    """An error as JSON."""
    return JSONResponse({**more, "text": error.text, "request": error.request}, status)
