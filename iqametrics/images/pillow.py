"""What Pillow opened becomes pixels: 8 bits as it decodes them, and 16 bits that it has no mode for."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile

from iqametrics.errors import ImageReadError, InputError
from iqametrics.images.budget import check_size
from iqametrics.images.extra import scaled
from iqametrics.images.profile import deep_to_srgb, to_srgb

_ORIENTATION = 0x0112
_TIFF_BITS = 258
_TIFF_PHOTOMETRIC = 262

_FOREIGN = "B" if sys.byteorder == "little" else "L"
_OTHER_BYTE_ORDER = {"L": "B", "B": "L", "N": _FOREIGN}
_DEEP = ("RGB;16", "RGBA;16", "RGBX;16")


@dataclass(frozen=True)
class Pixels:
    """Decoded pixels.

    Attributes:
        values: (H,W) gray, (H,W,3) RGB or (H,W,4) RGB with alpha that is not premultiplied; uint8, uint16 or float32.
        convert: Brings rows of them to sRGB; None where they are in sRGB.
    """

    values: np.ndarray
    convert: Callable[[np.ndarray], np.ndarray] | None = None


def open_as(kind: str, stream: IO[bytes], name: str) -> Image.Image:
    """Read the header of a file with Pillow's plug-in for its format.

    Pillow's own `Image.open` is not used because its size limit is global to the process and only warns.
    """
    Image.preinit()
    if kind not in Image.OPEN:
        Image.init()
    if kind not in Image.OPEN:
        raise ImageReadError(f"{name}: is {kind}, which this Pillow was built without; save it as PNG first")
    factory, _ = Image.OPEN[kind]
    stream.seek(0)
    image: Image.Image = factory(stream, "")  # type: ignore[assignment,arg-type]
    return image


def check_header(image: Image.Image, name: str) -> None:
    """Refuse an image that is too large or has several frames before any pixel is decoded."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise InputError(f"{name}: PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on and hides damage; set it to False")
    check_size(*image.size, name, deep=image.mode.startswith(("I", "F")) or is_deep_colour(image))
    frames = getattr(image, "n_frames", 1)
    # The further pictures of a camera's MPO are previews and depth or gain maps of the first.
    if frames > 1 and image.format != "MPO":
        raise ImageReadError(
            f"{name}: has {frames} frames or pages and a score needs one; save the one you mean as a file of its own"
        )


def pixels_of(image: Image.Image, name: str, stream: IO[bytes] | None = None, depth: int = 16) -> Pixels:
    """Decode an image, as it lies in its file (not yet upright).

    Args:
        image: Opened by Pillow.
        name: What to call it in an error message.
        stream: Its file, if decoding that twice gives 16 bits of colour.
        depth: Bits of a value where Pillow has shifted fewer than 16 to the top of 16.
    """
    if stream is not None and is_deep_colour(image):
        return _decode_deep_colour(image, stream, name)
    image.load()
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16, copy=False)
        return _gray16(image, values if depth == 16 else scaled(values >> (16 - depth), depth), name)
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        # 16-bit gray, which older Pillow holds in 32-bit integers (PNM is scaled to 65535 whatever its maximum).
        return _gray16(image, np.asarray(image).astype(np.uint16), name)
    if image.mode == "F":
        return Pixels(np.asarray(image))
    if image.mode in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr"):
        return Pixels(_eight_bit(image, name))
    raise ImageReadError(
        f"{name}: white or colour is not defined for Pillow's mode {image.mode!r}; "
        "save it as 8-bit or 16-bit gray or RGB first"
    )


def deep(pixels: np.ndarray, profile: bytes | None, name: str) -> Pixels:
    """Join pixels with their profile: of 16 bits at full precision, of 8 bits as any others, floats are sRGB."""
    if not profile or pixels.dtype == np.float32:
        return Pixels(pixels)
    if pixels.dtype == np.uint8:
        image = Image.fromarray(pixels)
        image.info["icc_profile"] = profile
        return Pixels(_eight_bit(image, name))
    return Pixels(*deep_to_srgb(pixels, profile, name))


def _eight_bit(image: Image.Image, name: str) -> np.ndarray:
    profile = image.info.get("icc_profile")
    alpha = None
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode == "LA":
        image, alpha = image.getchannel("L"), image.getchannel("A")
    elif image.mode in ("PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        if not profile:
            return np.asarray(image)
        image, alpha = image.convert("RGB"), image.getchannel("A")
    elif image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if profile:
        image = to_srgb(image, profile, name)
    if image.mode == "CMYK" or (alpha is not None and image.mode == "L"):
        image = image.convert("RGB")
    pixels = np.asarray(image)
    return pixels if alpha is None else np.dstack([pixels, np.asarray(alpha)])


def _gray16(image: Image.Image, pixels: np.ndarray, name: str) -> Pixels:
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(_TIFF_BITS, (16,))[0]
    if bits != 16:
        raise ImageReadError(f"{name}: a TIFF of {bits} bits a pixel, opened by Pillow, is not read; give its path")
    if tags.get(_TIFF_PHOTOMETRIC) == 0:  # "white is zero", which Pillow turns round for 8 bits only
        pixels = 65535 - pixels
    key = image.info.get("transparency")
    if key is not None:
        pixels = np.dstack([pixels, pixels, pixels, np.where(pixels == key, 0, 65535).astype(np.uint16)])
    return deep(pixels, image.info.get("icc_profile"), name)


def _rawmode(tile: Any) -> str:
    return tile[3] if isinstance(tile[3], str) else tile[3][0]


def _with_rawmode(tile: Any, rawmode: str) -> Any:
    """Return the same piece of the file to decode, its bytes to be unpacked in another way."""
    arguments = rawmode if isinstance(tile[3], str) else (rawmode, *tile[3][1:])
    return type(tile)((*tile[:3], arguments)) if type(tile) is tuple else type(tile)(*tile[:3], arguments)


def is_deep_colour(image: Image.Image) -> bool:
    """Tell whether this is an opened file of 16 bits a channel that Pillow would reduce to 8 bits."""
    tiles = getattr(image, "tile", None) or []
    return bool(tiles) and all(
        _rawmode(tile) == "LA;16B" or (image.mode in ("RGB", "RGBA") and _rawmode(tile)[:-1] in _DEEP) for tile in tiles
    )


def _decode_deep_colour(image: Image.Image, stream: IO[bytes], name: str) -> Pixels:
    """Decode a PNG of 16-bit RGB, RGBA or gray with alpha without loss.

    Pillow has no image mode for them and keeps the high byte of each value. Its decoders only need to be told how to
    unpack the bytes, though: with the byte order reversed, the byte that is kept is the low one. So the file is
    decoded twice (gray with alpha once: its two 16-bit values are four 8-bit ones).
    """
    profile = image.info.get("icc_profile")
    tiles = list(image.tile)  # type: ignore[attr-defined]  # loading empties it
    if _rawmode(tiles[0]) == "LA;16B":
        image.tile = [_with_rawmode(tile, "RGBA") for tile in tiles]  # type: ignore[attr-defined]
        high_low = np.asarray(image).astype(np.uint16)
        gray, alpha = (high_low[..., i] << 8 | high_low[..., i + 1] for i in (0, 2))
        return deep(np.dstack([gray, gray, gray, alpha]), profile, name)
    image.load()
    pixels = np.asarray(image).astype(np.uint16)
    pixels <<= 8
    again = open_as(image.format or "PNG", stream, name)
    again.tile = [  # type: ignore[attr-defined]
        _with_rawmode(tile, _rawmode(tile)[:-1] + _OTHER_BYTE_ORDER[_rawmode(tile)[-1]]) for tile in tiles
    ]
    pixels |= np.asarray(again)
    key = image.info.get("transparency")
    if key is not None:
        visible = (pixels != np.array(key, np.uint16)).any(axis=-1)
        pixels = np.dstack([pixels, visible * np.uint16(65535)])
    return deep(pixels, profile, name)


def upright(pixels: Pixels, image: Image.Image) -> Pixels:
    """Apply the EXIF orientation (a view, no copy): what a viewer shows is what is scored."""
    try:
        return oriented(pixels, image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata say nothing about the pixels
        return pixels


def oriented(pixels: Pixels, orientation: int) -> Pixels:
    """Turn and mirror pixels as EXIF's orientation says."""
    values = pixels.values
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return replace(pixels, values=values)
