"""Locks between processes, by files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from iqametrics.errors import IqaError


@contextmanager
def locked(path: str | os.PathLike[str], *, wait: bool = True, error: type[IqaError]) -> Iterator[bool]:
    """Hold the lock of a file; the operating system frees it when the process ends, in whatever way.

    On a network file system the lock may keep out only processes of the same machine.

    Args:
        path: The file, created if it does not exist; it stays empty.
        wait: Whether to wait while another process holds the lock.
        error: Class of the error where the file cannot be locked at all.

    Yields:
        Whether the lock is held; False only where another process holds it and `wait` is False.
    """
    # Imported here: it takes longer than the whole package.
    import filelock

    lock = filelock.FileLock(path)
    held = True
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except filelock.Timeout:
        held = False
    except (OSError, NotImplementedError) as reason:
        told = getattr(reason, "strerror", None) or reason
        raise error(f"{os.fspath(path)}: cannot be locked ({told}); choose a folder on another disk") from reason
    try:
        yield held
    finally:
        # Does nothing if the lock is not held.
        lock.release()
