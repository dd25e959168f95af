"""The SHA-256 of a file."""

import hashlib
import os

from iqametrics.errors import IqaError

_PIECE = 2**20


def file_sha256(path: str | os.PathLike[str], *, error: type[IqaError], remedy: str = "check the path") -> str:
    """Compute the SHA-256 of a file, in hexadecimal, without holding the file in memory.

    Args:
        path: The file.
        error: Class of the error where it cannot be read.
        remedy: End of that error's message: what to do.
    """
    value = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while piece := stream.read(_PIECE):
                value.update(piece)
    except OSError as reason:
        raise error(f"{os.fspath(path)}: cannot be read ({reason.strerror}); {remedy}") from reason
    return value.hexdigest()
