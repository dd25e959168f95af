"""Pictures at http and https addresses, fetched within limits of size and time; the standard library alone."""

import http.client
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import IO, Any

from iqametrics.common.markup import plain
from iqametrics.errors import ImageReadError

MOST_BYTES = 64 * 2**20
"""Size of the largest file that is fetched."""
SECONDS = 30.0
"""How long a file may take, from the first connection to the last byte, redirects included."""
_SCHEMES = ("http", "https")
_CHUNK = 2**16


def is_url(text: str) -> bool:
    """Tell whether a text is an http or https address."""
    return text.lower().startswith(tuple(f"{scheme}://" for scheme in _SCHEMES))


def fetch_picture(url: str, *, most_bytes: int | None = None, seconds: float | None = None) -> bytes:
    """Fetch the bytes of one picture.

    Redirects are followed to http and https only; proxies of the environment are used. Nothing is kept on the disk.

    Args:
        url: Its address.
        most_bytes: Size of the largest file that is taken; None for `MOST_BYTES`.
        seconds: How long it may take in all; None for `SECONDS`.

    Raises:
        ImageReadError: If it cannot be fetched, is too large or takes too long.
    """
    most_bytes, seconds = MOST_BYTES if most_bytes is None else most_bytes, SECONDS if seconds is None else seconds
    watch = _Watch(seconds)
    try:
        with watch, _opener(watch).open(_request(url), timeout=seconds) as answer:
            content = _body(answer, url, most_bytes, watch)
    except urllib.error.HTTPError as error:
        with error:
            raise ImageReadError(f"{url}: {_refusal(error)}; check the address") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if watch.over:
            raise ImageReadError(
                f"{url}: took longer than {seconds:g} s; fetch it yourself and give the file"
            ) from error
        reason = plain(getattr(error, "reason", "") or str(error) or type(error).__name__)
        raise ImageReadError(f"{url}: cannot be fetched ({reason}); check the address") from error
    return content


class _Watch:
    """Cuts connections when the time is over: a timeout of a socket is that of one read, and there are many."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._sockets: list[socket.socket] = []

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.end

    def __enter__(self) -> "_Watch":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def add(self, connected: socket.socket) -> None:
        self._sockets.append(connected)

    def _cut(self) -> None:
        for connected in self._sockets:
            try:
                connected.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed already


def _refusal(error: urllib.error.HTTPError) -> str:
    if 300 <= error.code < 400:
        return "redirects without end, or to something other than http and https"
    return f"the server answers {error.code} {plain(error.reason)}"


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not is_url(newurl):
            raise urllib.error.HTTPError(req.full_url, code, msg, headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(watch: _Watch) -> urllib.request.OpenerDirector:
    """Make an opener of http and https alone: no files, no FTP, no data in the address."""

    def watched(kind: type[http.client.HTTPConnection]) -> Callable[..., http.client.HTTPConnection]:
        class Connection(kind):  # type: ignore[valid-type,misc]
            def connect(self) -> None:
                super().connect()
                watch.add(self.sock)

        return Connection

    class Http(urllib.request.HTTPHandler):
        def http_open(self, req: Any) -> Any:
            return self.do_open(watched(http.client.HTTPConnection), req)  # type: ignore[arg-type]

    class Https(urllib.request.HTTPSHandler):
        def https_open(self, req: Any) -> Any:
            return self.do_open(watched(http.client.HTTPSConnection), req)  # type: ignore[arg-type]

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        Http(),
        Https(),
        _Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _request(url: str) -> urllib.request.Request:
    if not is_url(url):
        raise ImageReadError(f"{url}: is no http or https address; give one, or a file")
    # A file that is packed on the way could be small on the wire and huge in memory.
    headers = {"User-Agent": "iqametrics", "Accept": "image/*", "Accept-Encoding": "identity"}
    return urllib.request.Request(url, headers=headers)  # noqa: S310


def _body(answer: Any, url: str, most_bytes: int, watch: _Watch) -> bytes:
    """Read an answer's body, as far as size and time allow."""
    told = answer.headers.get("Content-Length") or ""
    length = int(told) if told.isascii() and told.isdigit() else None
    too_large = f"{url}: is larger than {most_bytes / 2**20:g} MB; fetch it yourself and give the file"
    if length is not None and length > most_bytes:
        raise ImageReadError(too_large)
    parts, size = [], 0
    while part := answer.read1(_CHUNK):
        parts.append(part)
        size += len(part)
        if size > most_bytes:
            raise ImageReadError(too_large)
    if watch.over or (length is not None and size < length):
        raise http.client.IncompleteRead(b"", (length or size) - size)
    return b"".join(parts)
