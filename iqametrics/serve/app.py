"""The routes of a server, as a Starlette application."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from iqametrics.pipeline import BatchScorer, Scored
from iqametrics.serve.batching import Asked, Batcher, BusyError
from iqametrics.serve.counters import Counters
from iqametrics.serve.requests import Limits, read_pictures


def make_app(scorer: BatchScorer, limits: Limits, *, most_at_once: int = 32, most_waiting: int = 256) -> Starlette:
    """Make the application.

    Args:
        scorer: Scores the pictures; its model is made here, so that the first request does not wait for it.
        limits: What a request may cost.
        most_at_once: Size of the largest batch.
        most_waiting: How many requests may wait; more are answered with 503 at once.
    """
    metric = scorer.metric
    about = {"metric": metric.full_name, "fingerprint": str(metric.fingerprint)}
    counters = Counters()
    batcher = Batcher(scorer, most_at_once=most_at_once, most_waiting=most_waiting, watch=counters.batch)

    async def score(request: Request) -> Response:
        begun = time.monotonic()
        try:
            row = await _score(request, batcher, limits)
            answer = JSONResponse(about | {"score": row.score} if row.error is None else {"error": row.error})
            answer.status_code = 200 if row.error is None else 422
        except HTTPException as error:
            answer = _refused(request, error)
        counters.request(answer.status_code, time.monotonic() - begun)
        return answer

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", **about})

    async def metrics(request: Request) -> Response:
        return PlainTextResponse(counters.text(batcher.waiting), media_type="text/plain; version=0.0.4")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(batcher.close)

    routes = [
        Route("/score", score, methods=["POST"]),
        Route("/health", health),
        Route("/metrics", metrics),
    ]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _refused})


async def _score(request: Request, batcher: Batcher, limits: Limits) -> Scored:
    """Read, enqueue and wait, all within the time limit.

    Raises:
        HTTPException: If there is no row to be had.
    """
    try:
        return await asyncio.wait_for(_read_and_score(request, batcher, limits), limits.seconds)
    except BusyError as error:
        raise HTTPException(503, "too many requests wait; try again later", {"Retry-After": "1"}) from error
    except asyncio.TimeoutError as error:  # the built-in one from Python 3.11 on
        raise HTTPException(504, f"took longer than {limits.seconds:g} s; try again later") from error


async def _read_and_score(request: Request, batcher: Batcher, limits: Limits) -> Scored:
    image, reference = await read_pictures(request, limits)
    _check_reference(batcher.scorer, reference)
    return await asyncio.wrap_future(batcher.submit(Asked(image, reference)))


def _check_reference(scorer: BatchScorer, reference: bytes | None) -> None:
    if scorer.mode == "fr" and reference is None:
        raise HTTPException(400, f"{scorer.name} compares with a reference; send a form with image and reference")
    if scorer.mode == "nr" and reference is not None:
        raise HTTPException(400, f"{scorer.name} takes no reference; send the picture alone")


def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
