"""Libraries that speak by themselves: their lines name no file, so they are switched off while they work."""

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

    They are about metadata (a damaged EXIF record, a text that is too long). Where the caller's filters make errors of
    warnings, Pillow would stop in the middle and another picture come out. Others' warnings are left alone; so is the
    list of filters that somebody put in the place of ours meanwhile.
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

    What goes wrong is known all the same: Pillow raises. The handlers are put back when the last thread is done. Where
    libtiff's functions cannot be found (they are hidden on Windows) nothing is done.
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
    """`TIFFSetErrorHandler` and `TIFFSetWarningHandler` of the very library that Pillow is linked to."""
    try:
        library = ctypes.CDLL(Image.core.__file__)
        setters = [library.TIFFSetErrorHandler, library.TIFFSetWarningHandler]
    except (AttributeError, OSError, TypeError):
        return []
    for setter in setters:
        setter.restype, setter.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    return setters
