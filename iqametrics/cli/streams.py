"""stdin, stdout and stderr as they really are: closed, full, left by their reader, or in an encoding of their own."""

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from iqametrics.errors import DataError

_ESCAPES = "iqametrics.escapes"
_SURROGATES = range(0xDC80, 0xDD00)
_REMEDY = "give --output FILE where the command has it, or another stdout"


@contextmanager
def prepared_streams() -> Iterator[None]:
    r"""Make the three streams safe to use; what cannot be written to them at the end is thrown away.

    A character that the encoding of stdout lacks is written as an escape such as \u65e5. A name that is not UTF-8 goes
    out as it came in. A stdout that cannot be written is a DataError, a stderr that cannot is ignored.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    _occupy_standard_descriptors()
    with open(os.devnull, encoding="utf-8") as nothing:
        for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, _ESCAPES)):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors=errors)
        sys.stdin = nothing if sys.stdin is None else sys.stdin
        sys.stdout = cast(TextIO, _Stdout(sys.stdout))
        sys.stderr = cast(TextIO, _Stderr(sys.stderr))
        try:
            yield
        finally:
            sys.stdin, sys.stdout, sys.stderr = before
            for stream in (sys.stdout, sys.stderr):
                _discard_what_is_left(stream)


class _Stdout:
    """Stdout whose failures are errors of ours; None for one that is closed."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._told():
            return self._open().write(text)

    def flush(self) -> None:
        if self._stream is not None:
            with self._told():
                self._stream.flush()

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._open(), name)

    def _open(self) -> TextIO:
        if self._stream is None:
            raise DataError(f"stdout: is closed; {_REMEDY}")
        return self._stream

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as reason:
            told = getattr(reason, "strerror", None) or reason
            raise DataError(f"stdout: cannot be written ({told}); {_REMEDY}") from reason


class _Stderr:
    """Stderr that says what it can; None for one that is closed."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if self._stream is not None:
            with suppress(OSError, ValueError):
                return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            with suppress(OSError, ValueError):
                self._stream.flush()

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _occupy_standard_descriptors() -> None:
    """Open what is closed of 0, 1 and 2, so that no file of ours gets such a number and what others write there."""
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        continue
    os.close(descriptor)


def _discard_what_is_left(stream: TextIO | None) -> None:
    """Empty a stream's buffer, to nowhere if need be: at exit Python would complain and change the status."""
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            stream.flush()


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode what an encoding lacks: bytes of a name as they were, everything else as an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    own = codecs.lookup(error.encoding) == codecs.lookup(sys.getfilesystemencoding())
    if own and all(ord(character) in _SURROGATES for character in part):
        return bytes(ord(character) - 0xDC00 for character in part), error.end
    return "".join(ascii(character)[1:-1] for character in part), error.end


codecs.register_error(_ESCAPES, _escape)
