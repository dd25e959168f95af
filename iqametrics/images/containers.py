"""PNG, GIF, WebP and BMP: what their headers say, read before a decoder gets them."""

import io
import struct
import zlib
from typing import IO

from iqametrics.images.budget import MAX_PARTS, MAX_PROFILE_BYTES, CostlyError

MAX_COUNTED_FRAMES = 1000
_MAX_GIF_BLOCKS = 4 * MAX_PARTS  # of 255 bytes at most
_TEXT = (b"tEXt", b"zTXt", b"iTXt")


def png_without_texts(stream: IO[bytes]) -> tuple[IO[bytes], bytes]:
    """Remove texts and the colour profile from a PNG, of which a few packed kilobytes may unfold to gigabytes.

    Args:
        stream: The file.

    Returns:
        A PNG of the same pixels (`stream` itself if it has neither), and the profile.

    Raises:
        CostlyError: If the profile is larger than any real one, or there are more chunks.
    """
    kept, profile, at, size, chunks = [(0, 8)], b"", 8, stream.seek(0, 2), 0
    while at + 8 <= size:
        chunks += 1
        if chunks > MAX_PARTS:
            raise CostlyError(f"more than {MAX_PARTS} chunks")
        stream.seek(at)
        length, kind = struct.unpack(">I4s", stream.read(8))
        end = min(at + 12 + length, size)
        if kind == b"iCCP":
            profile = _unpacked_profile(stream.read(length))
        elif kind not in _TEXT:
            kept.append((at, end))
        at = end
        if kind == b"IEND":
            break
    if at < size and at + 8 > size:
        kept.append((at, size))
    stream.seek(0)
    if sum(end - start for start, end in kept) == at:
        return stream, profile
    pieces = []
    for start, end in kept:
        stream.seek(start)
        pieces.append(stream.read(end - start))
    return io.BytesIO(b"".join(pieces)), profile


def _unpacked_profile(chunk: bytes) -> bytes:
    name, _, rest = chunk.partition(b"\0")
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(rest[1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return b"damaged"  # like any profile that cannot be used: logged and ignored
    if unpacker.unconsumed_tail:
        raise CostlyError(f"a colour profile {name[:20]!r} of more than {MAX_PROFILE_BYTES} bytes")
    return profile


def gif_frames(stream: IO[bytes]) -> int:
    """Count the frames of a GIF without decoding them, up to `MAX_COUNTED_FRAMES`.

    Raises:
        ValueError: If the file ends within a frame.
        CostlyError: If there are more blocks than in any picture of an allowed size.
    """
    stream.seek(0)
    head = stream.read(13)
    _skip_table(stream, head[10] if len(head) == 13 else 0)
    frames = blocks = 0
    while frames < MAX_COUNTED_FRAMES:
        blocks += 1
        if blocks > _MAX_GIF_BLOCKS:
            raise CostlyError(f"more than {_MAX_GIF_BLOCKS} blocks")
        kind = stream.read(1)
        if kind in (b"", b";"):
            break
        if kind == b"!":
            stream.read(1)
        elif kind == b",":
            frames += 1
            descriptor = stream.read(9)
            _skip_table(stream, descriptor[8] if len(descriptor) == 9 else 0)
            stream.read(1)
        else:
            continue  # what lies between blocks is skipped, as by every decoder
        blocks += _skip_blocks(stream)
    return frames


def _skip_table(stream: IO[bytes], flags: int) -> None:
    if flags & 0x80:
        stream.seek(3 * 2 ** ((flags & 7) + 1), 1)


def _skip_blocks(stream: IO[bytes]) -> int:
    for blocks in range(_MAX_GIF_BLOCKS):
        length = stream.read(1)
        if length == b"":
            raise ValueError("it ends within a block")
        if length == b"\0":
            return blocks
        stream.seek(length[0], 1)
    return _MAX_GIF_BLOCKS


def webp_size(stream: IO[bytes]) -> tuple[int, int]:
    """Read width and height of a WebP, whose decoder would allocate memory for them at once.

    Raises:
        ValueError: If the file is shorter than its header says, or has no picture.
    """
    total = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(30)
    if len(head) < 30:
        raise ValueError("its header is cut short")
    if struct.unpack_from("<I", head, 4)[0] + 8 > total:
        raise ValueError(f"it has {total} of {struct.unpack_from('<I', head, 4)[0] + 8} bytes")
    kind = head[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", head, 26))
    else:
        raise ValueError(f"its first chunk is {kind!r}")
    return width, height


def bmp_is_run_length(stream: IO[bytes]) -> bool:
    """Tell whether a BMP is packed by run lengths, which Pillow unpacks in Python, byte by byte."""
    stream.seek(0)
    head = stream.read(34)
    return len(head) == 34 and head[14] >= 40 and head[30] in (1, 2)
