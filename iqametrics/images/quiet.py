"""Libraries that print messages: these name no file, so they are switched off while the libraries work."""

import contextlib
import ctypes
import warnings
from collections.abc import Iterator
from threading import Lock
from typing import Any

from PIL import Image

_lock = Lock()
_active = 0
_entries: list[Any] = []
_before: list[tuple[Any, int | None]] = []


@contextlib.contextmanager
def pillow_silenced() -> Iterator[None]:
    """Ignore the warnings of Pillow's modules, also in other threads.

    They are about metadata (a damaged EXIF record, a text that is too long). If the caller's filters turn warnings
    into errors, Pillow would stop in the middle and return another picture. Warnings of others are not changed, nor is
    a list of filters that somebody has set meanwhile.
    """
    with _lock:
        warnings.filterwarnings("ignore", module=r"PIL\.")
        entry, filters = warnings.filters[0], warnings.filters
        _entries.append(entry)
    try:
        yield
    finally:
        with _lock:
            _entries.remove(entry)
            if entry not in _entries:
                with contextlib.suppress(ValueError):
                    filters.remove(entry)  # type: ignore[attr-defined]


@contextlib.contextmanager
def libtiff_silenced() -> Iterator[None]:
    """Keep the libtiff that Pillow brings from writing its warnings and errors to stderr, also in other threads.

    Errors are known all the same, since Pillow raises them. The handlers are restored when the last thread is done. If
    libtiff's functions cannot be found (they are hidden on Windows), nothing is done.
    """
    global _active
    with _lock:
        if _active == 0:
            _before[:] = [(setter, setter(None)) for setter in _setters()]
        _active += 1
    try:
        yield
    finally:
        with _lock:
            _active -= 1
            if _active == 0:
                for setter, handler in _before:
                    setter(handler)


def _setters() -> list[Any]:
    """Find `TIFFSetErrorHandler` and `TIFFSetWarningHandler` of the library that Pillow is linked to."""
    try:
        library = ctypes.CDLL(Image.core.__file__)
        setters = [library.TIFFSetErrorHandler, library.TIFFSetWarningHandler]
    except (AttributeError, OSError, TypeError):
        return []
    for setter in setters:
        setter.restype, setter.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    return setters
