"""A file, bytes or a PIL image becomes an array of pixels at the file's own depth, upright and in sRGB.

For each format the header is read first (`formats.py` names it): what is too large, cut short or of a kind that would
come out wrong is refused before a decoder gets it. `pillow.py` turns what Pillow opened into pixels.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import IO, Any

from PIL import Image, ImageFile, features

from iqametrics.errors import ImageReadError, InputError
from iqametrics.images import containers
from iqametrics.images.budget import (
    MAX_PIXELS,
    MAX_RUN_LENGTH_BYTES,
    MAX_WAVELET_BYTES,
    CostlyError,
    check_size,
    max_pixels,
)
from iqametrics.images.extra import decode_deep, open_heif, widened
from iqametrics.images.formats import NAMED, format_of
from iqametrics.images.jpeg import Jpeg, WatchedJpeg, check_scans, read_markers
from iqametrics.images.jpeg2000 import read_jpeg2000
from iqametrics.images.jxl import decode_jxl, open_jxl, read_jxl_header
from iqametrics.images.pillow import Pixels, check_header, deep, open_as, oriented, pixels_of, upright
from iqametrics.images.pnm import read_pnm
from iqametrics.images.quiet import libtiff_silenced, pillow_silenced
from iqametrics.images.tiff_image import read_tiff_image

_READ = "JPEG, PNG, WebP, TIFF, AVIF, JPEG 2000, BMP, GIF, PNM; HEIC and JPEG XL with the extra"


def decode_stream(stream: IO[bytes], name: str) -> Pixels:
    """Decode an open file.

    Args:
        stream: A seekable binary file at its start.
        name: What to call it in an error message.

    Returns:
        Its pixels, with EXIF's orientation applied; in sRGB once they are converted.

    Raises:
        ImageReadError: If the file is no image, damaged, cut short, of more than one frame, of a kind that is not read,
            or has more pixels than allowed.
    """
    with damage_told(name):
        if ImageFile.LOAD_TRUNCATED_IMAGES:
            raise InputError(f"{name}: PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on and hides damage; set it to False")
        prefix = stream.read(64)
        if not prefix:
            raise ImageReadError(f"{name}: is empty (0 bytes); copy or download it again")
        _check_file_size(stream, name)
        kind = format_of(prefix)
        if kind:
            return _DECODERS[kind](stream, name)
        if prefix[:4] == b"\x28\0\0\0":  # a BMP without its first header
            return _by_pillow(stream, name, "DIB")
        known = next((f"{what}, which is not read" for start, what in NAMED if prefix.startswith(start)), "")
        raise ImageReadError(
            f"{name}: is {known or 'not an image that can be read'} ({_READ}); convert it to PNG first"
        )


def decode_image(image: Image.Image, name: str) -> Pixels:
    """Turn a PIL image into pixels; arguments, value and errors as in `decode_stream`.

    An image that Pillow has opened and not yet decoded is decoded as its file would be. One that is decoded is refused
    if Pillow is known to read its kind wrong.
    """
    with damage_told(name):
        stream = getattr(image, "fp", None)
        waiting = bool(getattr(image, "tile", None))
        if _is_closed(image, stream, waiting):
            raise InputError(f"{name}: is a PIL image that is closed; score it while it is open, or give its path")
        if waiting and stream is not None and image.format in ("TIFF", "JPEG2000") and not _changed(image):
            stream.seek(0)
            return decode_stream(stream, name)
        check_header(image, name)
        _check_loaded(image, name)
        return upright(pixels_of(image, name), image)


def _is_closed(image: Image.Image, stream: Any, waiting: bool) -> bool:
    if waiting:
        return stream is None or bool(getattr(stream, "closed", False))
    try:
        return getattr(image.im, "size", None) is None
    except ValueError:  # how Pillow says so
        return True
    except AssertionError:  # formats that decode in their own way have no tiles
        return False


def _changed(image: Any) -> bool:
    """Tell whether the caller chose another page, or a smaller decoding."""
    return image.tell() != 0 or bool(getattr(image, "_reduce", 0))


def _check_loaded(image: Any, name: str) -> None:
    """Refuse an image that Pillow has decoded and may have decoded wrong."""
    remedy = "give its path or bytes instead of the PIL image"
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        deep_planes = max(tags.get(258, (8,))) > 8 and tags.get(284) == 2
        if deep_planes or 2 in tags.get(339, (1,)) or (image.mode == "F" and tags.get(262) == 0):
            raise ImageReadError(f"{name}: is a TIFF that Pillow may read wrong; {remedy}")
    elif image.format == "JPEG2000" and image.mode in ("LA", "RGB", "RGBA"):
        with contextlib.suppress(OSError, ValueError), open(image.filename, "rb") as stream:
            if not read_jpeg2000(stream.read()).deep_colour:
                return
        raise ImageReadError(f"{name}: is a JPEG 2000, of which Pillow does not tell the depth; {remedy}")


@contextlib.contextmanager
def damage_told(name: str) -> Iterator[None]:
    """Turn what the decoders raise on damaged data into our error.

    These are of any kind: OSError, SyntaxError, ValueError, struct.error, zlib.error, IndexError, KeyError,
    OverflowError, MemoryError, ... All of them mean that the picture cannot be read completely.
    """
    try:
        with pillow_silenced():
            yield
    except InputError:
        raise
    except CostlyError as error:
        raise ImageReadError(f"{name}: would take too much memory or time ({error}); save it as PNG first") from error
    except Exception as error:
        detail = " ".join(str(error).split())[:120] or type(error).__name__
        raise ImageReadError(f"{name}: is damaged or cut short ({detail}); save or copy it again") from error


def _check_file_size(stream: IO[bytes], name: str) -> None:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    limit = 16 * max_pixels() + 2**26
    if size > limit:
        raise ImageReadError(f"{name}: its {size:,} bytes are more than any picture of an allowed size; scale it down")


def _unread(name: str, what: str, problem: str) -> ImageReadError:
    return ImageReadError(f"{name}: is a {what} of a kind that is not read ({problem}); save it as PNG first")


def _by_pillow(stream: IO[bytes], name: str, kind: str) -> Pixels:
    image = open_as(kind, stream, name)
    check_header(image, name)
    return upright(pixels_of(image, name, stream), image)


def _jpeg(stream: IO[bytes], name: str) -> Pixels:
    data = stream.read()
    jpeg = read_markers(data)
    if not jpeg.process or not jpeg.scans:
        raise ValueError("it has no picture")
    check_size(jpeg.width, jpeg.height, name, deep=jpeg.depth > 8)
    if jpeg.process == 0xF7:
        return _deep_jpeg(jpeg, data, "jpegls", "a JPEG-LS picture", name)
    if jpeg.depth == 12 and jpeg.process in (0xC1, 0xC2):
        check_scans(jpeg, data)
        return _deep_jpeg(jpeg, data, "jpeg8", "a JPEG of 12 bits", name)
    if jpeg.depth != 8 or jpeg.process not in (0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA):
        raise _unread(name, "JPEG", f"{jpeg.depth} bits, process {jpeg.process - 0xC0}")
    if len(jpeg.sampling) not in (1, 3, 4):
        raise _unread(name, "JPEG", f"{len(jpeg.sampling)} channels")
    if jpeg.process == 0xC3:
        if (features.version("libjpeg_turbo") or "0") < "3":
            raise _unread(name, "JPEG", "lossless, which needs a newer Pillow")
        return _by_pillow(stream, name, "JPEG")
    check_scans(jpeg, data)
    watched = WatchedJpeg(data, jpeg)
    image = open_as("JPEG", watched, name)
    check_header(image, name)
    watched.watch(image)
    return upright(pixels_of(image, name), image)


def _deep_jpeg(jpeg: Jpeg, data: bytes, codec: str, what: str, name: str) -> Pixels:
    if len(jpeg.sampling) not in (1, 3):
        raise _unread(name, "JPEG", f"{len(jpeg.sampling)} channels of {jpeg.depth} bits")
    if not jpeg.ended:
        raise ValueError("it has no end mark")
    exif = Image.Exif()
    with contextlib.suppress(Exception):  # damaged metadata say nothing about the pixels
        exif.load(jpeg.exif)
    pixels = deep(decode_deep(codec, data, jpeg.depth, what, name), jpeg.profile, name)
    return oriented(pixels, exif.get(0x0112, 1))


def _png(stream: IO[bytes], name: str) -> Pixels:
    slim, profile = containers.png_without_texts(stream)
    image = open_as("PNG", slim, name)
    _scale_key(image, stream)
    if profile:
        image.info["icc_profile"] = profile
    check_header(image, name)
    return upright(pixels_of(image, name, slim), image)


def _scale_key(image: Image.Image, stream: IO[bytes]) -> None:
    """Bring the transparent gray of a PNG of 2 or 4 bits to 8 bits, as Pillow does with the grays but not with it."""
    stream.seek(24)
    depth, colour = stream.read(2)
    key = image.info.get("transparency")
    if colour == 0 and depth in (2, 4) and isinstance(key, int):
        image.info["transparency"] = key * 255 // (2**depth - 1)


def _gif(stream: IO[bytes], name: str) -> Pixels:
    frames = containers.gif_frames(stream)
    if frames > 1:
        counted = f"{frames} or more" if frames >= containers.MAX_COUNTED_FRAMES else str(frames)
        raise ImageReadError(
            f"{name}: has {counted} frames or pages and a score needs one; save the one you mean as a file of its own"
        )
    return _by_pillow(stream, name, "GIF")


def _webp(stream: IO[bytes], name: str) -> Pixels:
    check_size(*containers.webp_size(stream), name, deep=True)
    return _by_pillow(stream, name, "WEBP")


def _bmp(stream: IO[bytes], name: str) -> Pixels:
    image = open_as("BMP", stream, name)
    check_header(image, name)
    if containers.bmp_is_run_length(stream):
        check_size(image.width, image.height, name, cost=4)  # unpacked in Python
        if stream.seek(0, os.SEEK_END) > MAX_RUN_LENGTH_BYTES:
            raise CostlyError(f"run lengths of more than {MAX_RUN_LENGTH_BYTES} bytes")
    return upright(pixels_of(image, name), image)


def _tiff(stream: IO[bytes], name: str) -> Pixels:
    found = read_tiff_image(stream, name)
    if found.pixels is not None:
        return oriented(deep(found.pixels, found.profile, name), found.orientation)
    if found.image is not None:
        if found.profile:
            found.image.info["icc_profile"] = found.profile
        return oriented(pixels_of(found.image, name), found.orientation)
    with libtiff_silenced():
        image = open_as("TIFF", stream, name)
        check_header(image, name)
        return pixels_of(image, name)  # of TIFFs Pillow applies the orientation itself


def _jpeg2000(stream: IO[bytes], name: str) -> Pixels:
    data = stream.read()
    header = read_jpeg2000(data)
    check_size(header.width, header.height, name, deep=True)
    if len(data) > MAX_WAVELET_BYTES and max_pixels() == MAX_PIXELS:
        raise CostlyError(f"{len(data):,} bytes of JPEG 2000; it is read if IQAMETRICS_MAX_PIXELS is set")
    if header.problem:
        raise _unread(name, "JPEG 2000", header.problem)
    depth = header.depths[0]
    if header.deep_colour:
        what = f"a JPEG 2000 of {depth} bits in {len(header.depths)} channels"
        values = decode_deep("jpeg2k", data, depth, what, name)
        return deep(widened(values), header.profile, name)
    image = open_as("JPEG2000", stream, name)
    check_header(image, name)
    if header.profile:
        image.info["icc_profile"] = header.profile
    return pixels_of(image, name, depth=depth)


def _avif(stream: IO[bytes], name: str) -> Pixels:
    if "AVIF" not in Image.OPEN:
        Image.init()
    if "AVIF" not in Image.OPEN:
        raise ImageReadError(f"{name}: is AVIF, which needs Pillow 11.3 or newer; upgrade it, or save it as PNG first")
    return _by_pillow(stream, name, "AVIF")


def _heif(stream: IO[bytes], name: str) -> Pixels:
    image = open_heif(stream, name)
    check_size(image.width, image.height, name)
    return upright(pixels_of(image, name), image)


def _jxl(stream: IO[bytes], name: str) -> Pixels:
    data = stream.read()
    header = read_jxl_header(data)
    check_size(header.width, header.height, name, deep=True, cost=1 if header.depth == 8 else 2)
    if header.animated:
        raise ImageReadError(f"{name}: has several frames and a score needs one; save the one you mean as PNG")
    image = open_jxl(data, name)
    if header.depth == 8:
        return upright(pixels_of(image, name), image)
    values = decode_jxl(data, name)
    return upright(deep(widened(values), image.info.get("icc_profile"), name), image)


def _pnm(stream: IO[bytes], name: str) -> Pixels:
    values = read_pnm(stream, name)
    if values is not None:
        return Pixels(values)
    return _by_pillow(stream, name, "PPM")


_DECODERS: dict[str, Callable[[IO[bytes], str], Pixels]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "GIF": _gif,
    "WEBP": _webp,
    "BMP": _bmp,
    "TIFF": _tiff,
    "JPEG2000": _jpeg2000,
    "AVIF": _avif,
    "HEIF": _heif,
    "JXL": _jxl,
    "PNM": _pnm,
}
