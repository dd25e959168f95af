"""Files that are there whole or not at all."""

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from iqametrics.errors import IqaError

_PART = ".part"
_PIECE = 2**20
_MOST_TEXT = 2**30
_NO_TEXT = "is not a text file in UTF-8; check the path, or save it in that encoding"
# Letters of the target's name in that of the part file. Names may have 255 bytes, and a letter up to four of them.
_NAME_LETTERS = 24


def write_file(
    path: str | os.PathLike[str],
    content: bytes | str,
    *,
    error: type[IqaError],
    remedy: str = "choose another place",
) -> None:
    """Write a file so that a crash at any moment leaves either the old content or the new; see `open_atomic`.

    Args:
        path: File to write; an existing one is replaced.
        content: Bytes, or a text that is written in UTF-8.
        error: Class of the error where it cannot be written.
        remedy: End of that error's message: what to do.
    """
    with open_atomic(path, error=error, remedy=remedy) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def open_atomic(
    path: str | os.PathLike[str], *, error: type[IqaError], remedy: str = "choose another place"
) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces its target when the block ends, unless an exception ends it.

    The content goes into a part file beside the target, `stream.name`, which replaces the target once it is complete on
    the disk. Of a symbolic link the target is replaced, not the link. A device, a pipe or a process's open file
    (/dev/stdout) cannot be replaced and is written as it is, from its end.

    Args:
        path: File to write; an existing one is replaced. Its mode is that of any new file.
        error: Class of the error where it cannot be written.
        remedy: End of that error's message: what to do.

    Raises:
        BrokenPipeError: If the reader of the pipe has closed it.
    """

    def refusal(reason: OSError) -> IqaError:
        return error(f"{os.fspath(path)}: cannot be written ({_told(reason)}); {remedy}")

    try:
        in_place = is_in_place(Path(path))
        target = Path(os.path.realpath(path))
        part = Path(path) if in_place else target.with_name(_part_name(target.name))
        stream: BinaryIO = io.BufferedWriter(_Raw(part, "ab" if in_place else "xb", refusal))
    except OSError as reason:
        raise refusal(reason) from reason
    try:
        yield stream
        stream.flush()
        if not in_place:
            _put_in_place(stream, part, target, refusal)
        stream.close()
    except BaseException:
        # Closing writes what is still in the buffer, which may fail as the rest did.
        with suppress(OSError, error):
            stream.close()
        if not in_place:
            with suppress(OSError):
                part.unlink()
        raise


def read_text(path: str | os.PathLike[str], *, error: type[IqaError], errors: str = "strict") -> str:
    """Read a text file in UTF-8, with its line ends as they are and without a byte order mark.

    A file that is no text (a picture, an endless device) is refused before it fills the memory.

    Args:
        path: The file.
        error: Class of the error where it cannot be read or is no text.
        errors: What becomes of bytes that are not UTF-8, as in `bytes.decode`.
    """
    pieces, size = [], 0
    try:
        with open(path, "rb") as stream:
            while piece := stream.read(_PIECE):
                size += len(piece)
                if b"\0" in piece or size > _MOST_TEXT:
                    raise error(f"{os.fspath(path)}: {_NO_TEXT}")
                pieces.append(piece)
        return b"".join(pieces).decode("utf-8-sig", errors)
    except UnicodeDecodeError as reason:
        raise error(f"{os.fspath(path)}: {_NO_TEXT}") from reason
    except (OSError, ValueError) as reason:
        told = getattr(reason, "strerror", None) or reason
        raise error(f"{os.fspath(path)}: cannot be read ({told}); check the path and its rights") from reason


def remove_parts(folder: Path) -> None:
    """Remove the part files that killed processes left in a folder into which nobody else writes now."""
    for part in folder.glob(f".*{_PART}"):
        with suppress(OSError):
            part.unlink()


class _Raw(io.FileIO):
    """A file whose failed writes can be told from other errors while it is open."""

    def __init__(self, path: Path, mode: str, refusal: Callable[[OSError], IqaError]) -> None:
        super().__init__(path, mode)
        self._refusal = refusal

    def write(self, data: Any) -> int:
        """Write, as `io.FileIO` does."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as reason:
            raise self._refusal(reason) from reason


def _put_in_place(stream: BinaryIO, part: Path, target: Path, refusal: Callable[[OSError], IqaError]) -> None:
    try:
        os.fsync(stream.fileno())
        # On Windows an open file cannot replace another.
        stream.close()
        os.replace(part, target)
    except OSError as reason:
        raise refusal(reason) from reason
    _sync_folder(target.parent)


def is_in_place(path: Path) -> bool:
    """Tell whether a path is a device, a pipe or a process's open file, which no file may replace.

    Raises:
        IsADirectoryError: If it is a folder.
        OSError: If it cannot be looked at: its name is too long, or its links lead in a circle.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        return True
    # /dev/stdout leads to /proc/self/fd/1 and on to the file that the shell has opened and still writes to.
    while path.is_symlink():
        folder = os.path.realpath(path.parent)
        if folder == "/dev" or folder.startswith("/proc/"):
            return True
        path = path.parent / os.readlink(path)
    return False


def _part_name(name: str) -> str:
    return f".{name[:_NAME_LETTERS]}.{os.urandom(4).hex()}{_PART}"


def _told(reason: OSError) -> str:
    if isinstance(reason, FileNotFoundError):
        return "its folder does not exist"
    return reason.strerror or str(reason)


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a crash of the machine, where the file system can (Windows' need no such call)."""
    if os.name == "nt":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
