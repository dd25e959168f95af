"""JPEG XL: its header, and its pixels by the decoders of the extra `formats`."""

import io
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from iqametrics.images.extra import extra_module

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


@dataclass(frozen=True)
class JxlHeader:
    """What the beginning of the codestream says.

    Attributes:
        width: Pixels in a row, before the orientation.
        height: Rows.
        depth: Bits a value; 32 for floats.
        animated: Whether there is more than one frame.
    """

    width: int
    height: int
    depth: int
    animated: bool


class _Bits:
    """The bits of a codestream, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._bits, self._at = int.from_bytes(data, "little"), 0

    def read(self, count: int) -> int:
        self._at += count
        return self._bits >> (self._at - count) & ((1 << count) - 1)

    def size(self) -> tuple[int, int]:
        """Width and height (ISO/IEC 18181-1, SizeHeader)."""
        small = self.read(1)
        height = self._side(small)
        ratio = self.read(3)
        if not ratio:
            return self._side(small), height
        wide, high = _RATIOS[ratio - 1]
        return height * wide // high, height

    def _side(self, small: int) -> int:
        return 8 * (self.read(5) + 1) if small else self.read((9, 13, 18, 30)[self.read(2)]) + 1


def read_jxl_header(data: bytes) -> JxlHeader:
    """Read size and depth of a JPEG XL codestream, bare or in a container (ISO/IEC 18181-1, ImageMetadata).

    Raises:
        ValueError: If there is no codestream.
    """
    bits = _Bits((data if data[:2] == b"\xff\x0a" else _codestream(data))[2:64])
    width, height = bits.size()
    if bits.read(1):  # all that follows has its default
        return JxlHeader(width, height, 8, False)
    animated = False
    if bits.read(1):
        bits.read(3)  # orientation
        if bits.read(1):
            bits.size()  # the size at which it is meant to be shown
        if bits.read(1):
            raise ValueError("it has a preview, which is not supported")
        animated = bool(bits.read(1))
        if animated:
            return JxlHeader(width, height, 8, True)
    if bits.read(1):
        return JxlHeader(width, height, 32, animated)
    kind = bits.read(2)
    return JxlHeader(width, height, (8, 10, 12)[kind] if kind < 3 else bits.read(6) + 1, animated)


def open_jxl(data: bytes, name: str) -> Image.Image:
    """Open, and thereby decode, a JPEG XL file with pillow-jxl-plugin.

    The codestream's own orientation is applied, and the one in EXIF is only a copy. A JPEG that was repacked keeps its
    orientation, to be turned by its EXIF.
    """
    module: Any = extra_module("pillow_jxl", "a JPEG XL picture", name)
    image: Any = module.JpegXLImagePlugin.JXLImageFile(io.BytesIO(data), "")
    if not image.jpeg:
        image.info.pop("exif", None)
    picture: Image.Image = image
    return picture


def decode_jxl(data: bytes, name: str) -> np.ndarray:
    """Decode a JPEG XL of more than 8 bits with imagecodecs: (H,W) or (H,W,C), uint16 of which white is 65535."""
    imagecodecs: Any = extra_module("imagecodecs", "a JPEG XL picture of more than 8 bits", name)
    values: np.ndarray = imagecodecs.jpegxl_decode(data)
    if values.dtype.kind == "f":
        values = np.rint(np.clip(values, 0, 1) * 65535).astype(np.uint16)
    if values.dtype != np.uint16 or values.ndim > 3 or values.shape[2:] > (4,):
        raise ValueError(f"decoded to {values.dtype} of shape {values.shape}")
    return values


def _codestream(data: bytes) -> bytes:
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
