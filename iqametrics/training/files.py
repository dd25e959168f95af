"""Writes that are there whole or not at all."""

import contextlib
import os
from pathlib import Path

from iqametrics.errors import TrainingError


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that a crash at any moment leaves either the old content or the new.

    Raises:
        TrainingError: the disk is full or the folder cannot be written; the old content is still there.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise TrainingError(
            f"{path}: cannot be written ({error.strerror}); the last good state is kept, make room and use --resume"
        ) from error


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
