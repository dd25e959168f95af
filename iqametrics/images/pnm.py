"""PGM, PPM and PFM: raw numbers after a header of text."""

import re
from typing import IO

import numpy as np

from iqametrics.images.budget import check_size

_TOKEN = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])*([^\s#]+)")
_CHANNELS = {b"P5": 1, b"P6": 3, b"Pf": 1, b"PF": 3}
_MAX_HEADER = 2**16


def read_pnm(stream: IO[bytes], name: str) -> np.ndarray | None:
    """Read raw gray or colour numbers of any depth, which Pillow brings to 8 bits one by one, in Python.

    Args:
        stream: The file.
        name: What to call it in an error message.

    Returns:
        (H,W) or (H,W,3); uint8, uint16 of which white is 65535, or float32. None for the kinds written as text and for
        bitmaps, which are left to Pillow.

    Raises:
        ValueError: If the file is damaged or cut short.
        ImageReadError: If the file has too many pixels.
    """
    stream.seek(0)
    head = stream.read(_MAX_HEADER)
    kind, at, numbers = head[:2], 2, []
    if kind not in _CHANNELS:
        return None
    for _ in range(3):
        token = _TOKEN.match(head, at)
        if token is None:
            raise ValueError("its header is cut short")
        numbers.append(token.group(1))
        at = token.end()
    width, height = (int(number) for number in numbers[:2])
    is_float = kind in (b"Pf", b"PF")
    white = 1 if is_float else int(numbers[2])
    check_size(width, height, name, deep=is_float or white > 255)
    if not 1 <= white <= 65535:
        raise ValueError(f"a maximum of {white}")
    dtype = ("<" if float(numbers[2]) < 0 else ">") + "f4" if is_float else ">u2" if white > 255 else "u1"
    shape = (height, width) if _CHANNELS[kind] == 1 else (height, width, 3)
    stream.seek(at + 1)
    data = stream.read(int(np.prod(shape)) * np.dtype(dtype).itemsize)
    values = np.frombuffer(data, dtype)
    if len(values) != np.prod(shape):
        raise ValueError(f"it holds {len(values)} of {np.prod(shape)} values")
    if is_float:  # its rows run from the bottom to the top
        return values.reshape(shape)[::-1].astype(np.float32)
    return _scaled(values.reshape(shape), white)


def _scaled(values: np.ndarray, white: int) -> np.ndarray:
    if values.max() > white:
        raise ValueError(f"a value of {values.max()}, above its maximum of {white}")
    if white == 255:
        return values
    table = (np.arange(white + 1, dtype=np.uint64) * 65535 + white // 2) // white
    return table.astype(np.uint16)[values]
