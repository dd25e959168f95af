"""Formats and depths that Pillow does not read, or reads wrong: by the decoders of the extra `formats`."""

import importlib
import io
import struct
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from iqametrics.errors import ImageReadError


def extra_module(module: str, what: str, name: str) -> ModuleType:
    """Import a decoder of the extra.

    Args:
        module: Its name.
        what: What the picture is, for the message.
        name: What to call the picture in an error message.

    Raises:
        ImageReadError: It is not installed; the message has the command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImageReadError(
            f"{name}: is {what}, which needs {module}; pip install 'iqametrics[formats]', or save it as PNG first"
        ) from error


def decode_deep(codec: str, data: bytes, depth: int, what: str, name: str) -> np.ndarray:
    """Decode with imagecodecs.

    Args:
        codec: Name of the codec there: jpeg2k, jpeg8 or jpegls.
        data: The file.
        depth: Bits a value; white is 2**depth - 1.
        what: What the picture is, for the message.
        name: What to call the picture in an error message.

    Returns:
        (H,W) or (H,W,C), uint8 up to 8 bits, else uint16 of which white is 65535.
    """
    imagecodecs = extra_module("imagecodecs", what, name)
    values: np.ndarray = getattr(imagecodecs, f"{codec}_decode")(data)
    if depth == 8:
        return values.astype(np.uint8, copy=False)
    return scaled(values, depth)


def scaled(values: np.ndarray, depth: int) -> np.ndarray:
    """Bring values of which white is 2**depth - 1 to 8 bits, or to 16 where they have more than 8."""
    white = 2**depth - 1
    dtype: Any = np.uint8 if depth <= 8 else np.uint16
    full = np.iinfo(dtype).max
    if white == full:
        return values.astype(dtype, copy=False)
    table = (np.arange(white + 1, dtype=np.uint64) * full + white // 2) // white
    return table.astype(dtype)[np.minimum(values, white)]


def open_heif(stream: Any, name: str) -> Image.Image:
    """Open a HEIC or HEIF file with pillow-heif, its pixels not yet decoded."""
    module = extra_module("pillow_heif", "a HEIC or HEIF picture", name)
    stream.seek(0)
    image: Image.Image = module.HeifImageFile(stream, "")
    return image


def open_jxl(data: bytes, name: str) -> Image.Image:
    """Open, and thereby decode, a JPEG XL file with pillow-jxl-plugin.

    The codestream's own orientation is applied; what EXIF says of it besides is only a copy. A JPEG that was repacked
    comes out as it was, to be turned by its EXIF.
    """
    module: Any = extra_module("pillow_jxl", "a JPEG XL picture", name)
    image: Any = module.JpegXLImagePlugin.JXLImageFile(io.BytesIO(data), "")
    if not image.jpeg:
        image.info.pop("exif", None)
    picture: Image.Image = image
    return picture


def jxl_size(data: bytes) -> tuple[int, int]:
    """Read width and height of a JPEG XL codestream, bare or in a container (ISO/IEC 18181-1, SizeHeader).

    Raises:
        ValueError: There is no codestream.
    """
    if data[:2] != b"\xff\x0a":
        data = _jxl_codestream(data)
    bits, at = int.from_bytes(data[2:26], "little"), 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        return bits >> (at - count) & ((1 << count) - 1)

    def side(small: int) -> int:
        return 8 * (read(5) + 1) if small else read((9, 13, 18, 30)[read(2)]) + 1

    small = read(1)
    height = side(small)
    ratio = read(3)
    pair = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
    width = height * pair[ratio - 1][0] // pair[ratio - 1][1] if ratio else side(small)
    return width, height


def _jxl_codestream(data: bytes) -> bytes:
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, start)
            start += 8
        if kind in (b"jxlc", b"jxlp"):
            return data[start + (4 if kind == b"jxlp" else 0) :][:64]
        if length < 8:
            break
        at += length
    raise ValueError("it has no codestream")
