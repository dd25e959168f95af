"""PBM, PGM, PPM and PFM: numbers, raw or as text, after a header of text."""

import re
from typing import IO

import numpy as np

from iqametrics.images.budget import MAX_PARTS, CostlyError, check_size

_TOKEN = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])*([^\s#]+)")
_COMMENT = re.compile(rb"#[^\r\n]*")
_CHANNELS = {b"P1": 1, b"P2": 1, b"P3": 3, b"P5": 1, b"P6": 3, b"Pf": 1, b"PF": 3}
_TEXT = (b"P1", b"P2", b"P3")
_MAX_HEADER = 2**16
_MAX_TEXT_BYTES = 2**20  # besides the numbers


def read_pnm(stream: IO[bytes], name: str) -> np.ndarray | None:
    """Read gray or colour numbers of any depth, which Pillow brings to 8 bits one by one, in Python.

    Args:
        stream: The file.
        name: What to call it in an error message.

    Returns:
        (H,W) or (H,W,3); uint8, uint16 of which white is 65535, or float32. None for raw bitmaps, which are left to
        Pillow.

    Raises:
        ValueError: If the file is damaged or cut short.
        CostlyError: If it has more comments than any real one.
        ImageReadError: If the file has too many pixels.
    """
    stream.seek(0)
    head = stream.read(_MAX_HEADER)
    kind = head[:2]
    if kind not in _CHANNELS:
        return None
    numbers, at = _header(head, 2 if kind == b"P1" else 3)
    width, height = (int(number) for number in numbers[:2])
    is_float = kind in (b"Pf", b"PF")
    white = 1 if is_float or kind == b"P1" else int(numbers[2])
    check_size(width, height, name, deep=is_float or white > 255, cost=8 if kind in _TEXT else 1)
    if not 1 <= white <= 65535:
        raise ValueError(f"a maximum of {white}")
    shape = (height, width) if _CHANNELS[kind] == 1 else (height, width, 3)
    if kind in _TEXT:
        stream.seek(at)
        return _from_text(kind, stream.read(), white, shape)
    dtype = ("<" if float(numbers[2]) < 0 else ">") + "f4" if is_float else ">u2" if white > 255 else "u1"
    stream.seek(at + 1)
    data = stream.read(int(np.prod(shape)) * np.dtype(dtype).itemsize)
    values = np.frombuffer(data, dtype)
    _check_count(len(values), shape)
    if is_float:  # its rows run from the bottom to the top
        return values.reshape(shape)[::-1].astype(np.float32)
    return _scaled(values.reshape(shape), white)


def _header(head: bytes, count: int) -> tuple[list[bytes], int]:
    """Return the first numbers of a file, and where the last of them ends."""
    numbers, at = [], 2
    for _ in range(count):
        token = _TOKEN.match(head, at)
        if token is None:
            raise ValueError("its header is cut short")
        numbers.append(token.group(1))
        at = token.end()
    return numbers, at


def _from_text(kind: bytes, text: bytes, white: int, shape: tuple[int, ...]) -> np.ndarray:
    if text.count(b"#") > MAX_PARTS:
        raise CostlyError(f"{text.count(b'#')} comments")
    text = _COMMENT.sub(b" ", text)
    if kind == b"P1":  # its digits need nothing between them, and 1 is black
        bits = np.frombuffer(b"".join(text.split()), np.uint8)[: int(np.prod(shape))]
        _check_count(len(bits), shape)
        if bits.min() < ord("0") or bits.max() > ord("1"):
            raise ValueError("a bitmap of other digits than 0 and 1")
        return (ord("1") - bits).reshape(shape) * np.uint8(255)
    if not text[-1:].isspace():
        raise ValueError("nothing follows its last number, which may be cut")
    if text.translate(None, b" \t\r\n\v\f0123456789"):
        raise ValueError("something stands in it that is no number")
    if len(text) > _MAX_TEXT_BYTES + 8 * np.prod(shape):
        raise CostlyError(f"{len(text)} bytes of text for {np.prod(shape)} values")
    # Told how many to read, NumPy fills what is missing with whatever lies in the memory.
    values = np.fromstring(text, np.int64, sep=" ") if text.strip() else np.empty(0, np.int64)
    values = values[: int(np.prod(shape))]
    _check_count(len(values), shape)
    return _scaled(values.reshape(shape), white).astype(np.uint8 if white == 255 else np.uint16, copy=False)


def _check_count(count: int, shape: tuple[int, ...]) -> None:
    if count != np.prod(shape):
        raise ValueError(f"it holds {count} of {np.prod(shape)} values")


def _scaled(values: np.ndarray, white: int) -> np.ndarray:
    if values.max() > white:
        raise ValueError(f"a value of {values.max()}, above its maximum of {white}")
    if white == 255:
        return values
    table = (np.arange(white + 1, dtype=np.uint64) * 65535 + white // 2) // white
    return table.astype(np.uint16)[values]
