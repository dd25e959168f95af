"""TIFF: its directory, and whether everything that it promises is there.

A TIFF is a directory of tags that say how the pixels are cut into strips or tiles, and where each lies. Decoders fill
missing parts with black, so they are looked for here, before anything is decoded. `tiff_pixels.py` reads the pixels.
"""

import struct
from dataclasses import dataclass
from typing import IO

from iqametrics.images.budget import MAX_PARTS, MAX_PROFILE_BYTES, CostlyError

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_COUNTS = 273, 274, 277, 278, 279
PLANAR, PREDICTOR, COLOR_MAP, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 284, 317, 320, 322, 323, 324, 325
INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT, JPEG_TABLES, ICC_PROFILE = 332, 338, 339, 347, 34675

_WANTED = frozenset(
    [
        *(WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIP_OFFSETS, ORIENTATION, SAMPLES),
        *(ROWS_PER_STRIP, STRIP_COUNTS, PLANAR, PREDICTOR, COLOR_MAP, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS),
        *(TILE_COUNTS, INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT, JPEG_TABLES, ICC_PROFILE),
    ]
)
"""Tags on which the pixels depend; damage elsewhere (comments, camera data) changes no pixel."""

# Size and struct code by type; None for what no wanted tag is made of.
_TYPES = {1: (1, "B"), 3: (2, "H"), 4: (4, "I"), 7: (1, "B"), 13: (4, "I"), 16: (8, "Q"), 18: (8, "Q")}
_MAX_TAGS = 4096
_SPARE_BYTES = 2**26  # equal tiles may be stored once
MAX_COUNTED_PAGES = 1000


@dataclass(frozen=True)
class Segment:
    """A strip or tile: where its bytes lie, and which part of which plane it holds."""

    offset: int
    count: int
    plane: int
    top: int
    left: int


@dataclass(frozen=True)
class Tiff:
    """The first directory of a TIFF.

    Attributes:
        order: Byte order as `struct` writes it, "<" or ">".
        size: Bytes in the file.
        tags: The values of the tags on which pixels depend.
        pages: How many directories there are, counted up to `MAX_COUNTED_PAGES`.
    """

    order: str
    size: int
    tags: dict[int, tuple[int, ...]]
    pages: int

    def one(self, tag: int, default: int | None = None) -> int:
        """Return the value of a tag that has one.

        Raises:
            ValueError: If the tag is missing and has no default, or is empty.
        """
        values = self.tags.get(tag, () if default is None else (default,))
        if not values:
            raise ValueError(f"its tag {tag} is missing")
        return values[0]

    @property
    def width(self) -> int:
        """Pixels in a row, as they lie in the file."""
        return self.one(WIDTH)

    @property
    def height(self) -> int:
        """Rows, as they lie in the file."""
        return self.one(HEIGHT)

    @property
    def samples(self) -> int:
        """Values of a pixel."""
        return self.one(SAMPLES, 1)

    @property
    def bits(self) -> tuple[int, ...]:
        """Bits of each value; one entry where all are equal."""
        bits = self.tags.get(BITS, (1,))[: self.samples]
        return bits[:1] if len(set(bits)) == 1 else bits

    @property
    def planar(self) -> bool:
        """Whether each channel lies in strips or tiles of its own."""
        return self.one(PLANAR, 1) == 2 and self.samples > 1

    @property
    def tiled(self) -> bool:
        """Whether the pixels lie in tiles."""
        return TILE_OFFSETS in self.tags

    @property
    def segment_shape(self) -> tuple[int, int]:
        """Rows and columns of a strip or tile; the last strip may have fewer rows, a tile is always whole."""
        if self.tiled:
            return self.one(TILE_HEIGHT), self.one(TILE_WIDTH)
        return max(1, min(self.one(ROWS_PER_STRIP, self.height), self.height)), self.width

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of a segment, unpacked."""
        return -(-self.segment_shape[1] * (1 if self.planar else self.samples) * self.bits[0] // 8)

    def segment_rows(self, segment: Segment) -> int:
        """Return the number of rows of a segment."""
        rows = self.segment_shape[0]
        return rows if self.tiled else min(rows, self.height - segment.top)

    def segments(self) -> list[Segment]:
        """List all strips or tiles.

        Raises:
            ValueError: If some are missing, or do not lie in the file.
        """
        rows, columns = self.segment_shape
        if rows < 1 or columns < 1:
            raise ValueError("its tiles have no pixels")
        down, across = -(-self.height // rows), -(-self.width // columns)
        planes = self.samples if self.planar else 1
        expected = planes * down * across
        offsets = self.tags.get(TILE_OFFSETS if self.tiled else STRIP_OFFSETS, ())
        counts = self.tags.get(TILE_COUNTS if self.tiled else STRIP_COUNTS, ())
        if not counts and expected == 1 and self.one(COMPRESSION, 1) == 1:
            counts = (rows * self.row_bytes,)  # old writers leave it out where it can be computed
        if min(len(offsets), len(counts)) < expected:
            kind = "tiles" if self.tiled else "strips"
            raise ValueError(f"it holds {min(len(offsets), len(counts))} of {expected} {kind}")
        found = [
            Segment(offset, count, index // (down * across), index // across % down * rows, index % across * columns)
            for index, (offset, count) in enumerate(zip(offsets[:expected], counts[:expected], strict=True))
        ]
        if sum(segment.count for segment in found) > self.size + _SPARE_BYTES:
            raise CostlyError("its strips or tiles lie over one another")
        raw = self.one(COMPRESSION, 1) == 1
        for segment in found:
            if segment.offset < 8 or segment.count < 1 or segment.offset + segment.count > self.size:
                raise ValueError(f"its rows from {segment.top} on do not lie in the file")
            if raw and len(self.bits) == 1 and segment.count < self.segment_rows(segment) * self.row_bytes:
                raise ValueError(f"its rows from {segment.top} on are too short")
        return found


def read_tiff(stream: IO[bytes]) -> Tiff:
    """Read the first directory of a TIFF or BigTIFF and count the others.

    Raises:
        ValueError: If the file is damaged or cut short.
    """
    size = stream.seek(0, 2)
    head = _read(stream, 0, 8)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    first = struct.unpack(order + "Q", _read(stream, 8, 8))[0] if big else struct.unpack(order + "I", head[4:])[0]
    tags, following = _directory(stream, first, order, big, size)
    pages, seen = 1, {first}
    while following and pages < MAX_COUNTED_PAGES:
        if following in seen:
            raise ValueError("its list of pages turns in a circle")
        seen.add(following)
        pages += 1
        following = _next_directory(stream, following, order, big)
    return Tiff(order, size, tags, pages)


def _read(stream: IO[bytes], offset: int, count: int) -> bytes:
    stream.seek(offset)
    data = stream.read(count)
    if len(data) < count:
        raise ValueError("a part of its directory lies behind its end")
    return data


def _entry_count(stream: IO[bytes], offset: int, order: str, big: bool) -> int:
    count: int = struct.unpack(order + ("Q" if big else "H"), _read(stream, offset, 8 if big else 2))[0]
    if not 1 <= count <= _MAX_TAGS:
        raise ValueError(f"a directory of {count} tags")
    return count


def _next_directory(stream: IO[bytes], offset: int, order: str, big: bool) -> int:
    count = _entry_count(stream, offset, order, big)
    at = offset + (8 + 20 * count if big else 2 + 12 * count)
    following: int = struct.unpack(order + ("Q" if big else "I"), _read(stream, at, 8 if big else 4))[0]
    return following


def _directory(
    stream: IO[bytes], offset: int, order: str, big: bool, size: int
) -> tuple[dict[int, tuple[int, ...]], int]:
    count = _entry_count(stream, offset, order, big)
    start, width, inline = (8, 20, 8) if big else (2, 12, 4)
    entries = _read(stream, offset + start, width * count)
    tags: dict[int, tuple[int, ...]] = {}
    for at in range(0, len(entries), width):
        tag, kind, number = struct.unpack_from(order + ("HHQ" if big else "HHI"), entries, at)
        if tag not in _WANTED or kind not in _TYPES or tag in tags:
            continue
        item, code = _TYPES[kind]
        value = entries[at + width - inline : at + width]
        if item * number > (MAX_PROFILE_BYTES if tag == ICC_PROFILE else 8 * MAX_PARTS):
            raise CostlyError(f"{item * number} bytes of tag {tag}")
        if item * number > inline:
            where = struct.unpack(order + ("Q" if big else "I"), value)[0]
            if where + item * number > size:
                raise ValueError(f"the values of its tag {tag} lie behind its end")
            value = _read(stream, where, item * number)
        tags[tag] = struct.unpack(f"{order}{number}{code}", value[: item * number])
    return tags, _next_directory(stream, offset, order, big)
