"""TIFF: from strips and tiles to pixels, at the file's own depth.

Pillow reads the common kinds of TIFF and, silently, some others wrong (planes of 16 bits, signed values), and has no
mode for what is deeper than 8 bits with more than one channel. Here Pillow's libtiff does what it is good at, undoing
the compression of bytes; how bytes become pixels (byte order, predictor, planes, tiles, depth) is done with NumPy.
"""

import functools
import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np
from PIL import Image

from iqametrics.errors import ImageReadError
from iqametrics.images import tiff
from iqametrics.images.quiet import libtiff_silenced
from iqametrics.images.tiff import Segment, Tiff

NONE, LZW, DEFLATE, OLD_DEFLATE, PACK_BITS = 1, 5, 8, 32946, 32773
BYTE_CODECS = (NONE, LZW, DEFLATE, OLD_DEFLATE, PACK_BITS, 50000, 34925)
"""Compressions of bytes, which know nothing of pixels; the last two are Zstandard and LZMA, where Pillow has them."""

_OPTIONAL = {50000: "zstd", 34925: "lzma"}

_CHUNK = 2**23
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED = 1, 2, 3, 4
_DEPTHS = {_UNSIGNED: range(1, 17), _FLOAT: (16, 32, 64)}


def check_samples(header: Tiff, name: str) -> None:
    """Refuse kinds of values whose white is not defined, or that are not read here.

    Raises:
        ImageReadError: If the file is of such a kind; the message says that it is not damage.
    """
    formats = set(header.tags.get(tiff.SAMPLE_FORMAT, (_UNSIGNED,))) or {_UNSIGNED}
    kind = _UNSIGNED if formats == {_UNDEFINED} else min(formats)
    bits = header.bits
    if len(formats) > 1 or len(bits) > 1:
        problem = "channels of different kinds or depths are not supported"
    elif kind == _SIGNED:
        problem = "signed values are not supported, for their white is not defined"
    elif kind not in _DEPTHS:
        problem = "complex numbers are not supported"
    elif bits[0] not in _DEPTHS[kind]:
        number = "numbers" if kind == _FLOAT else "whole numbers"
        problem = f"{number} of {bits[0]} bits are not supported, for their white is not defined"
    elif kind == _FLOAT and header.one(tiff.PHOTOMETRIC, 1) != 1 and header.one(tiff.PHOTOMETRIC, 1) != 2:
        problem = "float values are supported for gray (black is zero) and RGB only"
    else:
        return
    raise ImageReadError(f"{name}: is a TIFF of a kind that is not read ({problem}); save it with 8 or 16 bits first")


@functools.cache
def has_codec(compression: int) -> bool:
    """Tell whether this Pillow's libtiff was built with a compression that is left out of some."""
    if compression not in _OPTIONAL:
        return True
    try:
        Image.new("L", (1, 1)).save(io.BytesIO(), "TIFF", compression=_OPTIONAL[compression])
    except (OSError, RuntimeError, KeyError):
        return False
    return True


def read_samples(header: Tiff, stream: IO[bytes]) -> np.ndarray:
    """Decode all values.

    Args:
        header: The directory; its `check_samples` passed and its compression is one of `BYTE_CODECS`.
        stream: The file.

    Returns:
        (H,W,C) in the file's own orientation: uint8 for up to 8 bits, uint16 for up to 16, float32; values as they
        are in the file.

    Raises:
        ValueError, OSError: If the data are damaged.
    """
    depth, is_float = header.bits[0], header.tags.get(tiff.SAMPLE_FORMAT, (1,))[0] == _FLOAT
    dtype = np.float32 if is_float else np.uint8 if depth <= 8 else np.uint16
    out = np.empty((header.height, header.width, header.samples), dtype)
    for segments, packed in _unpacked(header, stream):
        values = _values(_unpredicted(packed, header, is_float), header, is_float)
        rows = len(values) // len(segments)
        for position, segment in enumerate(segments):
            block = values[position * rows : (position + 1) * rows]
            place = out[segment.top : segment.top + rows, segment.left : segment.left + block.shape[1]]
            channels = slice(segment.plane, segment.plane + 1) if header.planar else slice(None)
            place[..., channels] = block[: place.shape[0], : place.shape[1]]
    return out


def _unpacked(header: Tiff, stream: IO[bytes]) -> Iterator[tuple[list[Segment], np.ndarray]]:
    """Return segments of equal shape with their bytes, (all their rows, bytes of a row), a few megabytes at a time."""
    group: list[Segment] = []
    segments = header.segments()
    for index, segment in enumerate(segments):
        group.append(segment)
        rows = header.segment_rows(segment)
        following = segments[index + 1] if index + 1 < len(segments) else None
        size = len(group) * rows * header.row_bytes
        if following is None or header.segment_rows(following) != rows or size >= _CHUNK:
            pieces = []
            for member in group:
                stream.seek(member.offset)
                pieces.append(stream.read(member.count))
            yield group, _decompress(pieces, header, rows)
            group = []


def _decompress(pieces: list[bytes], header: Tiff, rows: int) -> np.ndarray:
    if header.one(tiff.FILL_ORDER, 1) == 2:
        pieces = [piece.translate(_REVERSED) for piece in pieces]
    compression, width = header.one(tiff.COMPRESSION, 1), header.row_bytes
    need = rows * width
    if compression == NONE:
        data = b"".join(piece[:need] for piece in pieces)
    elif compression in (DEFLATE, OLD_DEFLATE):
        data = b"".join(zlib.decompressobj().decompress(piece, need) for piece in pieces)
    else:
        return _by_libtiff(pieces, compression, rows, width)
    if len(data) != need * len(pieces):
        raise ValueError(f"a strip or tile gives fewer than its {need} bytes")
    return np.frombuffer(data, np.uint8).reshape(-1, width)


_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def _by_libtiff(pieces: list[bytes], compression: int, rows: int, width: int) -> np.ndarray:
    """Undo a compression of bytes with Pillow: the segments become the strips of a gray TIFF of 8 bits."""
    count = len(pieces)
    tags = [(256, 4, width), (257, 4, rows * count), (258, 3, 8), (259, 3, compression), (262, 3, 1)]
    tags += [(273, 4, 0), (277, 3, 1), (278, 4, rows), (279, 4, 0)]
    lists_at = 8 + 2 + 12 * len(tags) + 4
    data_at = lists_at + 8 * count
    sizes = [len(piece) for piece in pieces]
    offsets = np.cumsum([data_at, *sizes[:-1]]).tolist()
    places = {273: (offsets, lists_at), 279: (sizes, lists_at + 4 * count)}
    directory = b""
    for tag, kind, value in tags:
        values, where = places.get(tag, ([value], 0))
        single = struct.pack("<Hxx" if kind == 3 else "<I", values[0])
        directory += struct.pack("<HHI", tag, kind, len(values))
        directory += single if len(values) == 1 else struct.pack("<I", where)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4)
    file = head + struct.pack(f"<{2 * count}I", *offsets, *sizes) + b"".join(pieces)
    with libtiff_silenced(), Image.open(io.BytesIO(file), formats=["TIFF"]) as image:
        return np.asarray(image)


def _unpredicted(packed: np.ndarray, header: Tiff, is_float: bool) -> np.ndarray:
    """Undo the predictor: (rows, bytes) -> (rows, values) of 8 bits or more, else the bytes themselves."""
    depth, predictor = header.bits[0], header.one(tiff.PREDICTOR, 1)
    step = 1 if header.planar else header.samples
    if predictor == 3 and is_float:
        return _float_unpredicted(packed, depth, step)
    if depth in (8, 16, 32, 64):
        kind = "f" if is_float and predictor == 1 else "u"
        packed = packed.view(f"{header.order}{kind}{depth // 8}")
    if predictor == 1 or header.one(tiff.COMPRESSION, 1) in (NONE, PACK_BITS):
        return packed.view(packed.dtype.str.replace("u", "f")) if is_float else packed
    if predictor != 2 or depth not in (8, 16, 32, 64):
        raise ValueError(f"predictor {predictor} at {depth} bits")
    native = packed.dtype.newbyteorder("=")
    columns = packed.astype(native).reshape(len(packed), -1, step)
    summed = np.cumsum(columns, axis=1, dtype=native).reshape(len(packed), -1)
    return summed.view(summed.dtype.str.replace("u", "f")) if is_float else summed


def _float_unpredicted(packed: np.ndarray, depth: int, step: int) -> np.ndarray:
    """Undo Adobe's predictor for floats: the bytes of a row lie by significance, each the difference to the one before.

    (Technical note 3 of Photoshop's TIFF.)
    """
    rows = len(packed)
    summed = np.cumsum(packed.reshape(rows, -1, step), axis=1, dtype=np.uint8).reshape(rows, depth // 8, -1)
    return np.ascontiguousarray(summed.transpose(0, 2, 1)).view(f">f{depth // 8}")[..., 0]


def _values(rows: np.ndarray, header: Tiff, is_float: bool) -> np.ndarray:
    """Unpack (rows, values or packed bytes) to (rows, columns, channels)."""
    channels = 1 if header.planar else header.samples
    columns, depth = header.segment_shape[1], header.bits[0]
    if is_float:
        with np.errstate(over="ignore"):  # of 64 bits: it is refused with its value, as any other outside [0, 1]
            rows = rows.astype(np.float32)
    elif depth not in (8, 16):
        count = columns * channels
        wide = 8 if depth < 8 else 16
        bits = np.unpackbits(rows, axis=1, count=count * depth).reshape(len(rows), count, depth)
        padded = np.zeros((len(rows), count, wide), np.uint8)
        padded[..., wide - depth :] = bits
        rows = np.packbits(padded, axis=-1).view(f">u{wide // 8}")[..., 0]
    return rows.reshape(len(rows), columns, channels)
