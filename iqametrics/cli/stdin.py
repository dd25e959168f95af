"""What comes on stdin: paths, one a line, or the bytes of one picture."""

import os
import re
from collections.abc import Iterator
from typing import TextIO

from iqametrics.errors import InputError

MOST_BYTES = 2**29
"""Size of the largest picture that is taken from stdin."""
_LONGEST_LINE = 2**16
_MAGIC = re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|RIFF.{4}WEBP|P[1-7fF]\s|\xff\x4f\xff\x51", re.DOTALL)


def read_paths(stream: TextIO) -> Iterator[str]:
    """Read paths, one a line, without the empty lines; the list may be endless, since it is read as it is needed.

    Raises:
        InputError: If the input is not a list of paths.
    """
    for number, line in enumerate(_lines(stream)):
        if (number == 0 and _is_picture(line)) or b"\0" in line or len(line) >= _LONGEST_LINE:
            raise InputError(
                "-: what comes on stdin is no list of paths, one a line; give --stdin-image to score a picture that "
                "comes on stdin, or pass a path"
            )
        path = line.rstrip(b"\r\n")
        if path:
            yield _decoded(path, stream)


def read_picture(stream: TextIO) -> bytes:
    """Read the bytes of one picture.

    Raises:
        InputError: If there are no bytes, or more than `MOST_BYTES`.
    """
    content: bytes = stream.buffer.read(MOST_BYTES + 1)
    if not content:
        raise InputError("-: nothing came on stdin; pipe the bytes of a picture into it")
    if len(content) > MOST_BYTES:
        raise InputError(f"-: more than {MOST_BYTES // 2**20} MB came on stdin; save the picture and give its path")
    return content


def _lines(stream: TextIO) -> Iterator[bytes]:
    source = getattr(stream, "buffer", None)
    if source is None:  # a text in memory
        yield from (line.encode("utf-8", "surrogateescape") for line in stream)
        return
    while line := source.readline(_LONGEST_LINE):
        yield line


def _is_picture(line: bytes) -> bool:
    """Tell whether a first line begins a picture (the others have a zero byte in it); a file may be called "P6"."""
    return _MAGIC.match(line) is not None and not os.path.exists(line.rstrip(b"\r\n"))


def _decoded(path: bytes, stream: TextIO) -> str:
    # POSIX keeps names as bytes, whatever the encoding of the streams; Windows writes them in that of the stream.
    return path.decode(stream.encoding, "surrogateescape") if os.name == "nt" else os.fsdecode(path)
