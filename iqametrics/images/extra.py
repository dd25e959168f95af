"""Formats and depths that Pillow does not read, or reads wrong: by the decoders of the extra `formats`."""

import importlib
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
        ImageReadError: If it is not installed; the message has the command.
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


def widened(values: np.ndarray) -> np.ndarray:
    """Return gray with alpha, (H,W,2), the form of RGB with alpha; others stay as they are."""
    return values[..., [0, 0, 0, 1]] if values.ndim == 3 and values.shape[2] == 2 else values


def open_heif(stream: Any, name: str) -> Image.Image:
    """Open a HEIC or HEIF file with pillow-heif, its pixels not yet decoded."""
    module = extra_module("pillow_heif", "a HEIC or HEIF picture", name)
    stream.seek(0)
    image: Image.Image = module.HeifImageFile(stream, "")
    return image
