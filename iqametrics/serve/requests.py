"""From the body of a request to the bytes of pictures."""

import json
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from iqametrics.common.url import fetch_picture
from iqametrics.errors import ImageReadError

_PARTS = ("image", "reference")
_ADDRESSES = ("url", "reference_url")


@dataclass(frozen=True)
class Limits:
    """What a request may cost.

    Attributes:
        most_bytes: Size of the largest body, and of the largest picture at an address.
        seconds: How long its score may take, waiting and fetching included.
        allow_urls: Whether addresses are fetched.
    """

    most_bytes: int
    seconds: float
    allow_urls: bool


async def read_pictures(request: Request, limits: Limits) -> tuple[bytes, bytes | None]:
    """Read the picture and, if there is one, its reference.

    Raises:
        HTTPException: If the body is too large, or not what is asked for; its detail is one line.
    """
    body = await _body(request, limits.most_bytes)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _from_form(request, body)
    if kind == "application/json":
        return await _from_addresses(body, limits)
    if not body:
        raise HTTPException(400, "the body is empty; send the bytes of a picture")
    return body, None


async def _body(request: Request, most_bytes: int) -> bytes:
    too_large = HTTPException(413, f"the body has more than {most_bytes} bytes; send a smaller picture")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most_bytes:
        raise too_large
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > most_bytes:
            raise too_large
        pieces.append(piece)
    return b"".join(pieces)


async def _from_form(request: Request, body: bytes) -> tuple[bytes, bytes | None]:
    async def again() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    # The body was read within its limit; the parser has none for files. What is no form it refuses with 400 itself.
    async with Request(request.scope, again).form(max_files=2, max_fields=2, max_part_size=len(body)) as form:
        parts: dict[str, bytes] = {}
        for name, value in form.multi_items():
            if name not in _PARTS or name in parts:
                raise HTTPException(400, f"part {name!r} is not expected; send image and, if needed, reference")
            parts[name] = await value.read() if isinstance(value, UploadFile) else value.encode()
    if "image" not in parts:
        raise HTTPException(400, "the form has no part image; send image and, if needed, reference")
    return parts["image"], parts.get("reference")


async def _from_addresses(body: bytes, limits: Limits) -> tuple[bytes, bytes | None]:
    if not limits.allow_urls:
        raise HTTPException(403, "addresses are not fetched here; start the server with --allow-urls, or send bytes")
    given = _record(body)
    found: dict[str, bytes] = {}
    for name in _ADDRESSES:
        if name in given:
            try:
                found[name] = await run_in_threadpool(
                    fetch_picture, given[name], most_bytes=limits.most_bytes, seconds=limits.seconds
                )
            except ImageReadError as error:
                raise HTTPException(422, str(error)) from error
    return found["url"], found.get("reference_url")


def _record(body: bytes) -> dict[str, str]:
    try:
        given: Any = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    good = isinstance(given, dict) and "url" in given and given.keys() <= set(_ADDRESSES)
    if not good or not all(isinstance(value, str) for value in given.values()):
        raise HTTPException(
            400, 'the body is not JSON of the form {"url": "https://..."}, with reference_url if needed'
        )
    return dict(given)
