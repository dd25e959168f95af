"""Height and width of a file, upright, without its pixels."""

import contextlib
from typing import IO

from PIL import Image

from iqametrics.errors import ImageReadError
from iqametrics.images import tiff
from iqametrics.images.budget import check_size
from iqametrics.images.decode import damage_told, decode_stream
from iqametrics.images.formats import format_of
from iqametrics.images.jpeg import read_markers
from iqametrics.images.jpeg2000 import read_jpeg2000
from iqametrics.images.pillow import check_header, open_as

_BY_PILLOW = {"PNG": "PNG", "GIF": "GIF", "WEBP": "WEBP", "BMP": "BMP", "PNM": "PPM"}


def stream_size(stream: IO[bytes], name: str) -> tuple[int, int]:
    """Read the height and width of an open file, upright; arguments and errors as in `decode_stream`."""
    with damage_told(name):
        prefix = stream.read(64)
        if not prefix:
            raise ImageReadError(f"{name}: is empty (0 bytes); copy or download it again")
        kind = format_of(prefix)
        stream.seek(0)
        if kind == "JPEG":
            jpeg = read_markers(stream.read())
            return _upright(jpeg.width, jpeg.height, _orientation(jpeg.exif), name)
        if kind == "TIFF":
            header = tiff.read_tiff(stream)
            return _upright(header.width, header.height, header.one(tiff.ORIENTATION, 1), name)
        if kind == "JPEG2000":
            found = read_jpeg2000(stream.read())
            return _upright(found.width, found.height, 1, name)
        if kind in _BY_PILLOW:
            image = open_as(_BY_PILLOW[kind], stream, name)
            check_header(image, name)
            return _upright(*image.size, _orientation_of(image), name)
        height, width = decode_stream(stream, name).values.shape[:2]  # rare, and turned by their decoders
        return height, width


def _orientation(exif: bytes) -> int:
    record = Image.Exif()
    with contextlib.suppress(Exception):  # damaged metadata say nothing about the size
        record.load(exif)
        return int(record.get(0x0112, 1))
    return 1


def _orientation_of(image: Image.Image) -> int:
    with contextlib.suppress(Exception):
        return int(image.getexif().get(0x0112, 1))
    return 1


def _upright(width: int, height: int, orientation: int, name: str) -> tuple[int, int]:
    check_size(width, height, name)
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)
