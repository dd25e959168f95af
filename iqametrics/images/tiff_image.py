"""TIFF: from values to gray, RGB, palette or CMYK, as its tags say."""

from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from PIL import Image

from iqametrics.errors import ImageReadError
from iqametrics.images import tiff
from iqametrics.images.budget import check_size
from iqametrics.images.extra import scaled, widened
from iqametrics.images.tiff import Tiff, read_tiff
from iqametrics.images.tiff_pixels import BYTE_CODECS, check_samples, has_codec, read_samples

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4}
_JPEG, _WEBP, _FAX = 7, 50001, (2, 3, 4)
_IGNORED, _PREMULTIPLIED, _STRAIGHT, _COREL = 0, 1, 2, 999


@dataclass(frozen=True)
class TiffImage:
    """What a TIFF holds.

    Attributes:
        orientation: As EXIF's tag.
        profile: Its ICC profile, empty where there is none.
        image: PIL image of 8 bits a channel; None if the file is deeper, or Pillow is to decode it.
        pixels: (H,W), (H,W,3) or (H,W,4), uint16 or float32; None if the file has 8 bits.
    """

    orientation: int
    profile: bytes
    image: Image.Image | None = None
    pixels: np.ndarray | None = None


def read_tiff_image(stream: IO[bytes], name: str) -> TiffImage:
    """Read a TIFF; without image and pixels if Pillow is to decode it, which is proven right for its kind.

    Raises:
        ImageReadError: If the file has several pages, too many pixels, or is of a kind that is not read.
        ValueError: If the file is damaged or cut short.
    """
    header = read_tiff(stream)
    deep = max(header.tags.get(tiff.BITS, (1,)), default=1) > 8
    check_size(header.width, header.height, name, deep=deep)
    if header.pages > 1:
        pages = f"{header.pages} or more" if header.pages >= tiff.MAX_COUNTED_PAGES else str(header.pages)
        raise ImageReadError(
            f"{name}: has {pages} frames or pages and a score needs one; save the one you mean as a file of its own"
        )
    rows, columns = header.segment_shape
    check_size(columns, rows, name, deep=deep)  # a tile may be larger than the picture
    header.segments()
    orientation, profile = header.one(tiff.ORIENTATION, 1), bytes(header.tags.get(tiff.ICC_PROFILE, ()))
    photometric, compression = header.one(tiff.PHOTOMETRIC, _WHITE_IS_ZERO), header.one(tiff.COMPRESSION, 1)
    if compression in (_JPEG, _WEBP, *_FAX):
        _check_pillow(header, name)
        return TiffImage(orientation, profile)
    if compression not in BYTE_CODECS or not has_codec(compression):
        raise _unread(name, f"compression {compression} is not supported")
    if photometric not in _COLOURS:
        raise _unread(name, f"pixels of photometric kind {photometric} are not supported")
    check_samples(header, name)
    alpha = _alpha(header, _COLOURS[photometric], name)
    values = read_samples(header, stream)
    image, pixels = _interpret(header, values, photometric, alpha)
    return TiffImage(orientation, profile, image, pixels)


def _unread(name: str, problem: str) -> ImageReadError:
    return ImageReadError(f"{name}: is a TIFF of a kind that is not read ({problem}); save it as PNG first")


def _check_pillow(header: Tiff, name: str) -> None:
    """Refuse all but the kinds that Pillow is proven to decode right."""
    photometric, samples, bits = header.one(tiff.PHOTOMETRIC, _WHITE_IS_ZERO), header.samples, header.bits
    fax = header.one(tiff.COMPRESSION) in _FAX
    kinds = {(_WHITE_IS_ZERO, 1), (_BLACK_IS_ZERO, 1)} if fax else {(_BLACK_IS_ZERO, 1), (_RGB, 3), (_YCBCR, 3)}
    if header.one(tiff.COMPRESSION) == _WEBP:
        kinds = {(_RGB, 3)}
    depth = (1,) if fax else (8,)
    if (photometric, samples) not in kinds or bits != depth or (header.planar and photometric != _RGB):
        raise _unread(name, f"compression {header.one(tiff.COMPRESSION)} with such pixels is not supported")
    if header.tags.get(tiff.SAMPLE_FORMAT, (1,))[0] not in (1, 4):
        raise _unread(name, "signed values are not supported, for their white is not defined")


def _alpha(header: Tiff, colours: int, name: str) -> tuple[int, bool] | None:
    """Return the channel that holds the alpha, and whether the colours are multiplied by it; None where none does."""
    extra = header.samples - colours
    kinds = header.tags.get(tiff.EXTRA_SAMPLES, ())
    ink_set = header.one(tiff.INK_SET, 1)
    if extra < 0 or (colours == 4 and ink_set != 1):
        raise _unread(name, f"{header.samples} channels of its photometric kind are not supported")
    if extra == 0:
        return None
    if not kinds and colours == 3 and extra == 1:
        return 3, False  # a fourth channel of which nothing is said is meant as alpha, for Pillow and most viewers
    if len(kinds) != extra or extra > 3 or any(kind not in (0, 1, 2, _COREL) for kind in kinds):
        raise _unread(name, f"{extra} channels besides its colours are not supported")
    opaque = [place for place, kind in enumerate(kinds) if kind != _IGNORED]
    if len(opaque) > 1:
        raise _unread(name, "more than one channel of alpha is not supported")
    if not opaque:
        return None
    if colours == 4 or (header.tags.get(tiff.SAMPLE_FORMAT, (1,))[0] == 3 and kinds[opaque[0]] == _PREMULTIPLIED):
        raise _unread(name, "alpha with such colours is not supported")
    return colours + opaque[0], kinds[opaque[0]] == _PREMULTIPLIED


def _interpret(
    header: Tiff, values: np.ndarray, photometric: int, alpha: tuple[int, bool] | None
) -> tuple[Image.Image | None, np.ndarray | None]:
    colours = _COLOURS[photometric]
    if photometric == _PALETTE:
        return _through_palette(header, values, alpha), None
    channels = [*range(colours), *([alpha[0]] if alpha else [])]
    if len(channels) != values.shape[2]:
        values = values[..., channels]
    if values.dtype != np.float32:
        values = scaled(values, header.bits[0])
        if photometric == _WHITE_IS_ZERO:
            values[..., 0] = np.iinfo(values.dtype).max - values[..., 0]
        if alpha and alpha[1]:
            values = _unmultiplied(values)
    if photometric == _CMYK and values.dtype == np.uint16:
        values = _without_ink(values) if not header.tags.get(tiff.ICC_PROFILE) else (values // 257).astype(np.uint8)
    if values.dtype == np.uint8:
        mode: Any = {1: "L", 2: "LA", 3: "RGB", 4: "CMYK" if photometric == _CMYK else "RGBA"}[values.shape[2]]
        flat = values[..., 0] if len(channels) == 1 else values
        height, width = values.shape[:2]
        return Image.frombytes(mode, (width, height), np.ascontiguousarray(flat).data), None
    return None, values[..., 0] if len(channels) == 1 else widened(values)


def _through_palette(header: Tiff, values: np.ndarray, alpha: tuple[int, bool] | None) -> Image.Image:
    table = np.array(header.tags.get(tiff.COLOR_MAP, ()), np.uint16)
    count = 2 ** header.bits[0]
    if header.bits[0] > 8 or len(table) < 3 * count or (alpha and alpha[1]):
        raise ValueError(f"a palette of {len(table) // 3} colours for {header.bits[0]} bits")
    # Some old writers put values of 8 bits where 16 belong, as libtiff knows too.
    eight_bit = (table if table.max() < 256 else table >> 8).astype(np.uint8)
    colours = eight_bit[: 3 * count].reshape(3, count).T[values[..., 0]]
    if alpha:
        return Image.fromarray(np.dstack([colours, values[..., alpha[0]]]))
    return Image.fromarray(colours)


def _without_ink(cmyk: np.ndarray) -> np.ndarray:
    """Pillow's plain formula (1 - C)(1 - K), at 16 bits."""
    light = 65535 - cmyk.astype(np.uint32)
    product = light[..., :3] * light[..., 3:]  # at most 65535 squared, which 32 bits hold
    return (product // 65535).astype(np.uint16)


def _unmultiplied(values: np.ndarray) -> np.ndarray:
    """Divide colours by the alpha that they were multiplied with."""
    white = int(np.iinfo(values.dtype).max)
    alpha = values[..., -1:].astype(np.uint32)
    straight = np.minimum(values[..., :-1].astype(np.uint32) * white // np.maximum(alpha, 1), white)
    return np.concatenate([straight, alpha], axis=-1).astype(values.dtype)
