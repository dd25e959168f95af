"""A file, bytes or a PIL image becomes an array of pixels at the file's own depth, upright and in sRGB."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile

from iqametrics.errors import ImageReadError, InputError
from iqametrics.images.profile import deep_to_srgb, to_srgb

MAX_PIXELS = 100_000_000
"""Width times height above which a picture is refused, before it is decoded; the environment variable
`IQAMETRICS_MAX_PIXELS` sets another limit."""

# Only these are tried: Pillow also knows formats that start other programs (EPS) or that nobody scores.
_COMMON_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM")
_OTHER_FORMATS = ("WEBP", "TIFF", "AVIF", "JPEG2000")

# Known by a few bytes that other files may begin with too; what begins like any other format is of that format.
_LOOSE_FORMATS = ("DIB", "PPM")

_ORIENTATION = 0x0112
_TIFF_BITS = 258
_TIFF_PHOTOMETRIC = 262

_NATIVE, _FOREIGN = ("L", "B") if sys.byteorder == "little" else ("B", "L")
_OTHER_BYTE_ORDER = {"L": "B", "B": "L", "N": _FOREIGN}


def decode_stream(stream: IO[bytes], name: str) -> np.ndarray:
    """Decode an open file.

    Args:
        stream: A seekable binary file at its start.
        name: What to call it in an error message.

    Returns:
        (H,W) gray, (H,W,3) RGB or (H,W,4) RGB with alpha that is not premultiplied; uint8, uint16 or float32;
        EXIF orientation applied; in sRGB.

    Raises:
        ImageReadError: Not an image, damaged, cut short, of more than one frame or of a kind without defined white.
        InputError: More pixels than allowed.
    """
    with _damage_told(name):
        image = _open(stream, name)
        _check_header(image, name)
        if _is_deep_colour(image):
            return _upright(_decode_deep_colour(image, stream, name), image)
        return _upright(_pixels(image, name), image)


def decode_image(image: Image.Image, name: str) -> np.ndarray:
    """Turn a PIL image into pixels; arguments, value and errors as in `decode_stream`.

    An image that Pillow opened from a 16-bit colour file has 8 bits a channel: give the path to keep all of them.
    """
    with _damage_told(name):
        _check_header(image, name)
        return _upright(_pixels(image, name), image)


def stream_size(stream: IO[bytes], name: str) -> tuple[int, int]:
    """Read the height and width of an open file, upright, without its pixels; arguments and errors as above."""
    with _damage_told(name):
        image = _open(stream, name)
        _check_header(image, name)
        height, width = _upright(np.broadcast_to(np.uint8(0), image.size[::-1]), image).shape
        return height, width


@contextlib.contextmanager
def _damage_told(name: str) -> Iterator[None]:
    """Turn what the decoders raise on damaged data into our error.

    That is anything: OSError, SyntaxError, ValueError, struct.error, zlib.error, IndexError, KeyError, OverflowError,
    MemoryError, ... All of them mean that the picture cannot be read whole.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        detail = " ".join(str(error).split())[:120] or type(error).__name__
        raise ImageReadError(f"{name}: is damaged or cut short ({detail}); save or copy it again") from error


def max_pixels() -> int:
    """The greatest allowed width times height: `IQAMETRICS_MAX_PIXELS` if set, else `MAX_PIXELS`.

    Raises:
        InputError: The variable does not hold a positive whole number.
    """
    text = os.environ.get("IQAMETRICS_MAX_PIXELS", "")
    if not text:
        return MAX_PIXELS
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise InputError(f"IQAMETRICS_MAX_PIXELS={text!r} is not a positive whole number; unset it or give a number")
    return int(text)


def _open(stream: IO[bytes], name: str) -> Image.Image:
    """Find the format and read the header.

    Pillow's own `Image.open` is not used because its size limit is a global of the process and speaks by a warning.
    """
    prefix = stream.read(16)
    if not prefix:
        raise ImageReadError(f"{name}: is empty (0 bytes); copy or download it again")
    Image.preinit()
    image = _open_as(_COMMON_FORMATS, prefix, stream)
    if image is None:
        Image.init()
        image = _open_as(_OTHER_FORMATS, prefix, stream)
    if image is None:
        raise ImageReadError(
            f"{name}: is not an image that can be read (JPEG, PNG, WebP, TIFF, AVIF, JPEG 2000, BMP, GIF, PNM); "
            "convert it to PNG first"
        )
    return image


def _open_as(formats: tuple[str, ...], prefix: bytes, stream: IO[bytes]) -> Image.Image | None:
    for name in formats:
        if name not in Image.OPEN:  # built without it
            continue
        factory, accepts = Image.OPEN[name]
        answer = accepts is None or accepts(prefix)
        if not answer or isinstance(answer, str):  # in words: "I know this, but I was built without it"
            continue
        stream.seek(0)
        try:
            return factory(stream, "")
        except SyntaxError:  # how a Pillow plugin says "not mine"
            if name not in _LOOSE_FORMATS:
                raise
    return None


def _check_header(image: Image.Image, name: str) -> None:
    """Refuse what is too large or has several frames before any pixel is decoded."""
    width, height = image.size
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise InputError(f"{name}: PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on and hides damage; set it to False")
    if width < 1 or height < 1:
        raise ImageReadError(f"{name}: has no pixels ({width}x{height}); give at least 1x1")
    limit = max_pixels()
    if width * height > limit:
        raise ImageReadError(
            f"{name}: {width}x{height} is more than {limit:,} pixels; "
            "scale it down, or set IQAMETRICS_MAX_PIXELS if you trust it"
        )
    frames = getattr(image, "n_frames", 1)
    # The further pictures of a camera's MPO are previews and depth or gain maps of the first.
    if frames > 1 and image.format != "MPO":
        raise ImageReadError(
            f"{name}: has {frames} frames or pages and a score needs one; save the one you mean as a file of its own"
        )


def _pixels(image: Image.Image, name: str) -> np.ndarray:
    """Pixels as they lie in the file (not yet upright)."""
    image.load()
    if image.mode.startswith("I;16"):
        return _gray16(image, np.asarray(image).astype(np.uint16, copy=False), name)
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        # 16-bit gray, which older Pillow holds in 32-bit integers (PNM is scaled to 65535 whatever its maximum).
        return _gray16(image, np.asarray(image).astype(np.uint16), name)
    if image.mode == "F":
        return np.asarray(image)
    if image.mode in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr"):
        return _eight_bit(image, name)
    raise ImageReadError(
        f"{name}: pixels of Pillow's mode {image.mode!r} have no defined white or colour; "
        "save it as 8-bit or 16-bit gray or RGB first"
    )


def _eight_bit(image: Image.Image, name: str) -> np.ndarray:
    profile = image.info.get("icc_profile")
    alpha = None
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode == "LA":
        image, alpha = image.getchannel("L"), image.getchannel("A")
    elif image.mode in ("PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image, alpha = image.convert("RGB"), image.getchannel("A")
    elif image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if profile:
        image = to_srgb(image, profile, name)
    if image.mode == "CMYK" or (alpha is not None and image.mode == "L"):
        image = image.convert("RGB")
    pixels = np.asarray(image)
    return pixels if alpha is None else np.dstack([pixels, np.asarray(alpha)])


def _gray16(image: Image.Image, pixels: np.ndarray, name: str) -> np.ndarray:
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(_TIFF_BITS, (16,))[0]
    if bits != 16:
        raise ImageReadError(f"{name}: a TIFF of {bits} bits a pixel is not read; save it with 8 or 16 bits")
    if tags.get(_TIFF_PHOTOMETRIC) == 0:  # "white is zero", which Pillow turns round for 8 bits only
        pixels = 65535 - pixels
    key = image.info.get("transparency")
    if key is not None:
        pixels = np.dstack([pixels, pixels, pixels, np.where(pixels == key, 0, 65535).astype(np.uint16)])
    return _deep_in_srgb(pixels, image, name)


def _deep_in_srgb(pixels: np.ndarray, image: Image.Image, name: str) -> np.ndarray:
    profile = image.info.get("icc_profile")
    return deep_to_srgb(pixels, profile, name) if profile else pixels


def _rawmode(tile: Any) -> str:
    return tile[3] if isinstance(tile[3], str) else tile[3][0]


def _with_rawmode(tile: Any, rawmode: str) -> Any:
    """The same piece of the file to decode, its bytes to be unpacked in another way."""
    arguments = rawmode if isinstance(tile[3], str) else (rawmode, *tile[3][1:])
    return type(tile)((*tile[:3], arguments)) if type(tile) is tuple else type(tile)(*tile[:3], arguments)


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether this is an opened file of 16 bits a channel that Pillow would reduce to 8 bits."""
    tiles = getattr(image, "tile", None) or []
    return bool(tiles) and all(
        _rawmode(tile) == "LA;16B" or (image.mode in ("RGB", "RGBA") and _rawmode(tile)[:-1] in _DEEP) for tile in tiles
    )


_DEEP = ("RGB;16", "RGBA;16", "RGBX;16")


def _decode_deep_colour(image: Image.Image, stream: IO[bytes], name: str) -> np.ndarray:
    """Decode 16-bit RGB, RGBA or gray with alpha without loss.

    Pillow has no image mode for them and keeps the high byte of each value. Its decoders only need to be told how to
    unpack the bytes, though: with the byte order turned round, the byte that is kept is the low one. So the file is
    decoded twice (gray with alpha once: its two 16-bit values are four 8-bit ones).
    """
    tiles = list(image.tile)  # type: ignore[attr-defined]  # loading empties it
    if _rawmode(tiles[0]) == "LA;16B":
        image.tile = [_with_rawmode(tile, "RGBA") for tile in tiles]  # type: ignore[attr-defined]
        high_low = np.asarray(image).astype(np.uint16)
        gray, alpha = (high_low[..., i] << 8 | high_low[..., i + 1] for i in (0, 2))
        return _deep_in_srgb(np.dstack([gray, gray, gray, alpha]), image, name)
    image.load()
    pixels = np.asarray(image).astype(np.uint16)
    pixels <<= 8
    stream.seek(0)
    again = _open(stream, name)
    again.tile = [  # type: ignore[attr-defined]
        _with_rawmode(tile, _rawmode(tile)[:-1] + _OTHER_BYTE_ORDER[_rawmode(tile)[-1]]) for tile in tiles
    ]
    pixels |= np.asarray(again)
    key = image.info.get("transparency")
    if key is not None:
        visible = (pixels != np.array(key, np.uint16)).any(axis=-1)
        pixels = np.dstack([pixels, visible * np.uint16(65535)])
    return _deep_in_srgb(pixels, image, name)


def _upright(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """Apply the EXIF orientation (a view, no copy): what a viewer shows is what is scored."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata say nothing about the pixels
        return pixels
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
