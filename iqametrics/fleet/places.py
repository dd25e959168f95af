"""Where the bytes of a picture are: something that is sent to a worker, which reads them when their turn comes."""

import os
from dataclasses import dataclass
from typing import IO, Any, TypeAlias

from iqametrics.common.remote import is_remote, open_remote, read_remote, remote_stamp
from iqametrics.errors import InputError

Place: TypeAlias = list[Any]
"""A kind, and what it needs: ["file", path], ["piece", path, first, length], ["row", path, group, row, column],
["error", line] for a picture of which is known that there is none."""


@dataclass(frozen=True)
class Whole:
    """A file elsewhere.

    Attributes:
        url: Its address.
    """

    url: str

    def __call__(self) -> bytes:
        """Read it.

        Raises:
            InputError: If it cannot be read, or is too large.
        """
        return read_remote(self.url)


@dataclass(frozen=True)
class Piece:
    """A part of a file, as a member of a tar file.

    Attributes:
        path: The file.
        first: Where the part begins.
        length: Its bytes.
        name: What it is called.
    """

    path: str
    first: int
    length: int
    name: str

    def __call__(self) -> bytes:
        """Read it.

        Raises:
            InputError: If it cannot be read, or the file ends before it.
        """
        if is_remote(self.path):
            content = read_remote(self.path, self.first, self.length)
        else:
            with open_place(self.path) as stream:
                stream.seek(self.first)
                content = stream.read(self.length)
        if len(content) < self.length:
            raise InputError(f"{self.name}: the archive ends within it; make the archive anew")
        return content


@dataclass(frozen=True)
class Nothing:
    """A picture that cannot be had.

    Attributes:
        error: Why, in one line.
    """

    error: str

    def __call__(self) -> bytes:
        """Tell why.

        Raises:
            InputError: If it is called.
        """
        raise InputError(self.error)


def open_place(path: str) -> IO[bytes]:
    """Open a file, here or elsewhere.

    Raises:
        InputError: If it cannot be opened.
    """
    if is_remote(path):
        return open_remote(path)
    try:
        return open(path, "rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); check its name and rights") from error


def stamp(path: str) -> list[Any] | None:
    """Tell a file from what it was and will be: its size and time of change; None where there is none."""
    if is_remote(path):
        return remote_stamp(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]
