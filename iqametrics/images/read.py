"""The functions by which everything else reads pictures."""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeVar, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from iqametrics.errors import ImageReadError, InputError
from iqametrics.images.check import check_array, check_tensor
from iqametrics.images.decode import decode_image, decode_stream
from iqametrics.images.pillow import Pixels
from iqametrics.images.size import stream_size

ImageSource: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | np.ndarray | Tensor
)
"""Whatever one picture can be given as."""

_PIXELS_AT_ONCE = 2**16
_T = TypeVar("_T")


def read_image(source: ImageSource, *, label: str | None = None) -> Tensor:
    """Read one picture, whatever it is given as.

    What happens to each kind of file (CMYK, alpha, 16 bits, ...) is in the table of `docs/images.md`. In short: the
    EXIF orientation is applied, an embedded colour profile is converted to sRGB, alpha is composited on white, 16 bits
    keep their precision, and what cannot be read completely is refused.

    Args:
        source: A path, the bytes of a file or the file itself, opened to read bytes, a PIL image, an array (see
            `check_array`) or a tensor (see `check_tensor`; one image).
        label: Name for error messages, if the source has none of its own.

    Returns:
        (3,H,W) float32 in [0, 1], sRGB, on the CPU. The gradient of a tensor is kept.

    Raises:
        InputError: If the picture cannot be scored; an ImageReadError if it cannot be decoded.

    Examples:
        >>> read_image(np.full((2, 3), 51, np.uint8))[:, 0, 0]
        tensor([0.2000, 0.2000, 0.2000])
    """
    if isinstance(source, Tensor):
        name = label or "tensor"
        image = check_tensor(source, name)
        if image.ndim == 4 and len(image) > 1:
            raise InputError(f"{name}: a batch of {len(image)} images where one is expected; give them one by one")
        return (image if image.ndim == 3 else image[0]).to("cpu", torch.float32)
    if isinstance(source, np.ndarray):
        return _pixels_to_tensor(Pixels(source), label or "array")
    if isinstance(source, Image.Image):
        name = label or _own_name(source) or "PIL image"
        return _pixels_to_tensor(decode_image(source, name), name)
    if isinstance(source, bytes | bytearray | memoryview):
        name = label or "image bytes"
        return _pixels_to_tensor(decode_stream(io.BytesIO(source), name), name)
    if isinstance(source, str | os.PathLike):
        name = label or str(os.fspath(source))
        return _pixels_to_tensor(_from_file(source, name, decode_stream), name)
    if callable(getattr(source, "read", None)):
        return _read_stream(source, label or _own_name(source) or "image file")
    raise InputError(
        f"{label or 'image'}: a {type(source).__name__} is not an image; give a path, bytes, PIL image, array or tensor"
    )


def image_size(path: Path) -> tuple[int, int]:
    """Read the height and width that `read_image` would give, from the file's header alone.

    Raises:
        ImageReadError: If `read_image` would refuse the file, as far as the header shows it.
    """
    return _from_file(path, str(path), stream_size)


def to_image_list(source: ImageSource | Sequence[ImageSource]) -> list[Tensor]:
    """Turn one picture, a batch or a list of pictures of any sizes into a list of tensors.

    Args:
        source: A tensor (3,H,W) or (N,3,H,W), any other `ImageSource`, or a list or tuple of those (in which a tensor
            is one image).

    Returns:
        One (3,H,W) tensor an image, in order. Tensors keep gradient, device and floating dtype (uint8 becomes
        float32); everything else is float32 on the CPU.

    Raises:
        InputError: If nothing was given, or something that `read_image` refuses.
    """
    if isinstance(source, Tensor):
        image = check_tensor(source, "tensor")
        return [image] if image.ndim == 3 else list(image.unbind(0))
    if not isinstance(source, list | tuple):
        if isinstance(source, dict | set) or (isinstance(source, Iterator) and not hasattr(source, "read")):
            raise InputError(f"images: a {type(source).__name__} is not an image; give a list of images")
        return [read_image(cast(ImageSource, source))]
    if not source:
        raise InputError("images: the list is empty; give at least one image")
    return [_list_item(item, f"images[{position}]") for position, item in enumerate(source)]


def _list_item(item: ImageSource, name: str) -> Tensor:
    if isinstance(item, Tensor):
        image = check_tensor(item, name)
        if image.ndim == 4 and len(image) > 1:
            raise InputError(f"{name}: a batch of {len(image)} images inside a list; use torch.cat or list(batch)")
        return image if image.ndim == 3 else image[0]
    return read_image(item, label=_own_name(item) or name)


def _own_name(source: object) -> str:
    """Return the path of a file, or of the file that a PIL image was opened from; else empty."""
    if isinstance(source, str | os.PathLike):
        return str(os.fspath(source))
    name = getattr(source, "filename" if isinstance(source, Image.Image) else "name", "")
    return name if isinstance(name, str) else ""


def _from_file(source: str | os.PathLike[str], name: str, read: Callable[[IO[bytes], str], _T]) -> _T:
    try:
        path = Path(source)
        if not path.is_file():
            raise ImageReadError(f"{name}: {_why_no_file(path)}")
        with path.open("rb") as stream:
            return read(stream, name)
    except OSError as error:
        raise ImageReadError(f"{name}: cannot be opened ({error.strerror}); check its name and rights") from error
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise ImageReadError(f"{name}: is not a path ({error}); give a str or pathlib.Path") from error


def _read_stream(stream: Any, name: str) -> Tensor:
    """Read a file that the caller has opened, from its beginning, as Pillow does."""
    try:
        if stream.seekable():
            stream.seek(0)
        data = stream.read()
    except (AttributeError, OSError, ValueError) as error:  # closed, or opened to write
        raise ImageReadError(f"{name}: cannot be read ({error}); open it to read bytes, or give its path") from error
    if not isinstance(data, bytes):
        raise ImageReadError(f"{name}: gives {type(data).__name__}, not bytes; open it with mode 'rb'")
    return _pixels_to_tensor(decode_stream(io.BytesIO(data), name), name)


def _why_no_file(path: Path) -> str:
    if path.is_dir():
        return "is a folder; give a file, or list it with list_images"
    if path.exists():
        return "is not a regular file; read it yourself and give its bytes"
    return "does not exist; check the path"


def _pixels_to_tensor(pixels: Pixels, name: str) -> Tensor:
    """Turn (H,W), (H,W,1), (H,W,3) or (H,W,4) into (3,H,W) float32, in one pass and a few rows at a time.

    Alpha is composited on white, in the encoded (not linear) values: that is what a browser shows on a page.
    """
    check_array(pixels.values, name)
    height, width = pixels.values.shape[:2]
    image = np.empty((3, height, width), np.float32)
    rows_at_once = max(1, _PIXELS_AT_ONCE // width)
    for top in range(0, height, rows_at_once):
        rows = slice(top, top + rows_at_once)
        array = pixels.values[rows]
        if pixels.convert is not None:
            array = pixels.convert(array)
        white = np.float32({"u1": 255, "u2": 65535}.get(array.dtype.str[1:], 1))
        planes = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
        part = image[:, rows]
        np.divide(planes[:3], white, out=part, casting="same_kind")
        if len(planes) == 4:
            alpha = np.divide(planes[3], white, dtype=np.float32, casting="same_kind")
            part *= alpha
            part += 1 - alpha
        if array.dtype.kind == "f":
            np.clip(part, 0, 1, out=part)
    return torch.from_numpy(image)
