"""JPEG 2000: what the boxes and markers say, and whether the codestream is whole."""

import struct
from dataclasses import dataclass, field

from iqametrics.images.budget import MAX_PARTS, CostlyError

_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_SRGB, _GRAY, _SYCC, _CMYK = 16, 17, 18, 12
_COD, _COC, _SOT, _SOD, _EOC = 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9


@dataclass
class Jpeg2000:
    """What the header of a file says.

    Attributes:
        width: Pixels in a row.
        height: Rows.
        depths: Bits of each channel.
        signed: Whether a channel has negative values.
        subsampled: Whether a channel is smaller than the picture.
        colour: Number of the colour space in a .jp2 file; None where it is a profile, or in a bare codestream.
        profile: The ICC profile, empty where there is none.
        palette: Whether the values are indices of a palette.
        alpha_last: Whether its channels are in the usual order, colours before opacity.
    """

    width: int = 0
    height: int = 0
    depths: tuple[int, ...] = ()
    signed: bool = False
    subsampled: bool = False
    colour: int | None = None
    profile: bytes = b""
    palette: bool = False
    alpha_last: bool = True
    _boxes: set[bytes] = field(default_factory=set)

    @property
    def deep_colour(self) -> bool:
        """Whether Pillow reads it wrong: more than 8 bits in several channels, or gray of 9 bits."""
        depth = max(self.depths, default=8)
        return depth > 8 and (len(self.depths) > 1 or depth == 9)

    @property
    def problem(self) -> str:
        """Why an intact file is not read; empty if it is."""
        if len(self.depths) not in (1, 2, 3, 4):
            return f"{len(self.depths)} channels are not supported"
        if len(set(self.depths)) > 1 or self.depths[0] > 16:
            return f"channels of {', '.join(map(str, self.depths))} bits are not supported"
        if self.signed or self.subsampled:
            return ("signed values" if self.signed else "channels of different sizes") + " are not supported"
        if self.colour not in (None, _SRGB, _GRAY, _SYCC, _CMYK) or (self.colour == _SYCC and self.deep_colour):
            return f"the colour space {self.colour} is not supported at this depth"
        if self.palette and self.deep_colour:
            return "a palette of more than 8 bits is not supported"
        if not self.alpha_last or (self.colour == _CMYK and (len(self.depths) != 4 or self.deep_colour)):
            return "its order of channels is not supported"
        return ""


def read_jpeg2000(data: bytes) -> Jpeg2000:
    """Read boxes and markers, and check that every tile is complete.

    Raises:
        ValueError: If the file is damaged or cut short.
    """
    found = Jpeg2000()
    if not data.startswith(_SIGNATURE):
        _codestream(found, data)
        return found
    for kind, body in _walk(data):
        if kind == b"jp2h":
            for inner, content in _walk(body):
                _header_box(found, inner, content)
        elif kind == b"jp2c":
            _codestream(found, body)
            return found
    raise ValueError("it has no codestream")


def _walk(data: bytes) -> list[tuple[bytes, bytes]]:
    boxes, at = [], 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, start)
            start += 8
        end = len(data) if length == 0 else at + length
        if end < start or end > len(data):
            raise ValueError(f"its box {kind!r} is cut short")
        boxes.append((kind, data[start:end]))
        if kind == b"jp2c":
            break
        at = end
    return boxes


def _header_box(found: Jpeg2000, kind: bytes, body: bytes) -> None:
    if kind == b"colr" and b"colr" not in found._boxes:  # the first is the one that counts
        if body[:1] == b"\x01":
            (found.colour,) = struct.unpack_from(">I", body, 3)
        elif body[:1] == b"\x02":
            found.profile = body[3:]
        found._boxes.add(kind)
    elif kind in (b"pclr", b"cmap"):
        found.palette = True
    elif kind == b"cdef":
        (count,) = struct.unpack_from(">H", body)
        entries = [struct.unpack_from(">3H", body, 2 + 6 * i) for i in range(count)]
        colours = [(channel, place) for channel, use, place in entries if use == 0]
        others = [channel for channel, use, _ in entries if use != 0]
        found.alpha_last = (
            all(place == channel + 1 for channel, place in colours)
            and all(use in (0, 1) for _, use, _ in entries)
            and all(channel >= len(colours) for channel in others)
        )


def _codestream(found: Jpeg2000, data: bytes) -> None:
    if data[:4] != b"\xff\x4f\xff\x51":
        raise ValueError("its codestream does not begin as one")
    (length, _, x1, y1, x0, y0, tile_width, tile_height, tile_x, tile_y, count) = struct.unpack_from(">HH8IH", data, 4)
    if length != 38 + 3 * count or len(data) < 4 + length or not (tile_width and tile_height):
        raise ValueError("its size marker is wrong")
    parts = [data[42 + 3 * i : 45 + 3 * i] for i in range(count)]
    found.width, found.height = x1 - x0, y1 - y0
    found.depths = tuple((part[0] & 0x7F) + 1 for part in parts)
    found.signed = any(part[0] & 0x80 for part in parts)
    found.subsampled = any(part[1:] != b"\x01\x01" for part in parts)
    tiles = -(-(x1 - tile_x) // tile_width) * -(-(y1 - tile_y) // tile_height)
    _check_tiles(found, data, 4 + length, tiles)


def _check_tiles(found: Jpeg2000, data: bytes, at: int, tiles: int) -> None:
    seen: set[int] = set()
    while True:
        if at + 2 > len(data):
            raise ValueError("its codestream has no end")
        (marker,) = struct.unpack_from(">H", data, at)
        if marker == _EOC:
            break
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker != _SOT:
            _check_style(found, marker, data[at + 4 : at + 2 + length])
            at += 2 + length
            continue
        _check_tile_header(found, data, at + 12)
        index, size, part = struct.unpack_from(">HIB", data, at + 4)
        seen.add(index)
        if size == 0:  # up to the end mark
            if data[-2:] != b"\xff\xd9":
                raise ValueError("its codestream has no end")
            break
        if size < 14 or at + size > len(data):
            raise ValueError(f"tile {index} is cut short in part {part}")
        at += size
    if len(seen) < tiles:
        raise ValueError(f"it holds {len(seen)} of {tiles} tiles")


def _check_tile_header(found: Jpeg2000, data: bytes, at: int) -> None:
    while at + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == _SOD or not 0xFF00 < marker < 0xFFFF:
            return
        _check_style(found, marker, data[at + 4 : at + 2 + length])
        at += 2 + length


def _check_style(found: Jpeg2000, marker: int, body: bytes) -> None:
    """Look at a marker of coding style: precincts of a few pixels cost the decoder gigabytes.

    Raises:
        CostlyError: If there are more precincts than any encoder makes.
    """
    if marker == _COD and len(body) > 10 and body[0] & 1:
        levels, precincts = body[5], body[10:]
    elif marker == _COC and len(found.depths) < 257 and len(body) > 7 and body[1] & 1:
        levels, precincts = body[2], body[7:]
    else:
        return
    count = 0
    for resolution, sides in enumerate(precincts[: levels + 1]):
        shrink = levels - resolution
        count += ((found.width >> shrink >> (sides & 15)) + 1) * ((found.height >> shrink >> (sides >> 4)) + 1)
    if count * len(found.depths) > MAX_PARTS:
        raise CostlyError(f"{count} precincts of {len(found.depths)} channels")
