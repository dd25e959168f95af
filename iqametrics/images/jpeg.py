"""JPEG: what its markers say, and whether the pixels that it promises are there.

libjpeg fills what is missing with gray and says so in a warning that Pillow does not pass on. A JPEG has no checksum,
so damage can only be noticed by its consequences: data that end before the last row, scans that are missing.
"""

import io
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from iqametrics.images.budget import MAX_JPEG_SCANS, MAX_PROFILE_BYTES, MAX_SCANNED_PIXELS, CostlyError

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_SOF = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
_PROGRESSIVE = {0xC2, 0xCA}
_WITHHELD = 2
_MAX_SEGMENTS = 4096


@dataclass
class Scan:
    """One scan: what it codes, and where its data lie."""

    components: tuple[int, ...]
    spectral: tuple[int, int]
    approximation: tuple[int, int]
    start: int
    end: int


@dataclass
class Jpeg:
    """What the markers of a JPEG or JPEG-LS file say.

    Attributes:
        process: Number of the SOF marker: 0xC0 baseline, 0xC2 progressive, 0xC3 lossless, 0xF7 JPEG-LS, ...
        depth: Bits a value.
        width: Pixels in a row.
        height: Rows; 0 where only the decoder knows.
        sampling: Horizontal and vertical sampling factors, by the component's number.
        interval: Blocks between restart markers, 0 for none.
        scans: The scans in order.
        ended: Whether there is an end mark.
        exif: The EXIF record, empty where there is none.
        profile: The ICC profile, likewise.
    """

    process: int = 0
    depth: int = 8
    width: int = 0
    height: int = 0
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    interval: int = 0
    scans: list[Scan] = field(default_factory=list)
    ended: bool = False
    exif: bytes = b""
    profile: bytes = b""

    @property
    def mcu(self) -> tuple[int, int]:
        """Width and height in pixels of the unit in which an interleaved scan is coded."""
        if len(self.sampling) == 1:
            return 8, 8
        horizontal, vertical = zip(*self.sampling.values(), strict=True)
        return 8 * max(horizontal), 8 * max(vertical)


def read_markers(data: bytes) -> Jpeg:
    """Walk through the markers of a file.

    Raises:
        ValueError: If a marker is cut short.
        CostlyError: If there are more scans, segments or bytes of profile than any encoder writes.
    """
    jpeg, at, segments = Jpeg(), 2, 0
    while match := _MARKER.search(data, at):
        segments += 1
        if segments > _MAX_SEGMENTS or len(jpeg.profile) > MAX_PROFILE_BYTES:
            raise CostlyError(f"{segments} segments, {len(jpeg.profile)} bytes of profile")
        code = data[match.start() + 1]
        at = match.end()
        if code == 0xD9:
            jpeg.ended = True
            break
        if code in (0x01, 0xD8):
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        body = data[at + 2 : at + length]
        if length < 2 or len(body) != length - 2:
            raise ValueError("one of its markers is cut short")
        at += length
        _note(jpeg, code, body, at, data)
        if code == 0xDA and jpeg.process == 0xF7:  # JPEG-LS stuffs bits, so that what looks like a marker is none
            jpeg.ended = data.rfind(b"\xff\xd9", at) >= 0
            break
    return jpeg


def _note(jpeg: Jpeg, code: int, body: bytes, at: int, data: bytes) -> None:
    if code in _SOF and len(body) >= 6:
        jpeg.process, jpeg.depth = code, body[0]
        jpeg.height, jpeg.width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
        parts = [body[i : i + 3] for i in range(6, 6 + 3 * body[5], 3)]
        jpeg.sampling = {part[0]: (part[1] >> 4 or 1, part[1] & 15 or 1) for part in parts if len(part) == 3}
    elif code == 0xE1 and body.startswith(b"Exif\0\0"):
        jpeg.exif = jpeg.exif or body
    elif code == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
        jpeg.profile += body[14:]
    elif code == 0xDD and len(body) >= 2:
        jpeg.interval = int.from_bytes(body[:2], "big")
    elif code == 0xDA and body and len(body) >= 4 + 2 * body[0]:
        count = body[0]
        low, high, approximation = body[1 + 2 * count : 4 + 2 * count]
        following = _MARKER.search(data, at)
        end = following.start() if following else len(data)
        ids = tuple(body[1 : 1 + 2 * count : 2])
        jpeg.scans.append(Scan(ids, (low, high), (approximation >> 4, approximation & 15), at, end))
        if len(jpeg.scans) > MAX_JPEG_SCANS or jpeg.width * jpeg.height * len(jpeg.scans) > MAX_SCANNED_PIXELS:
            raise CostlyError(f"more than {len(jpeg.scans) - 1} scans of {jpeg.width}x{jpeg.height}")


def check_scans(jpeg: Jpeg, data: bytes) -> None:
    """Look for missing parts, by what the scans say that they code.

    Raises:
        ValueError: If scans, restart markers or data of the first scan are missing.
    """
    left = {(component, k): 99 for component in jpeg.sampling for k in range(64 if jpeg.process in _PROGRESSIVE else 1)}
    for scan in jpeg.scans:
        for component in scan.components:
            for k in range(scan.spectral[0], min(scan.spectral[1], 63) + 1) if jpeg.process in _PROGRESSIVE else (0,):
                left[component, k] = scan.approximation[1] if jpeg.process in _PROGRESSIVE else 0
    if any(left.values()):
        raise ValueError("scans are missing at its end")
    if jpeg.interval and jpeg.height:
        for scan in jpeg.scans:
            _check_restarts(jpeg, scan, data)
    if len(jpeg.scans) > 1:
        _check_reach(jpeg, data)


def _check_restarts(jpeg: Jpeg, scan: Scan, data: bytes) -> None:
    width, height = jpeg.mcu
    if len(scan.components) == 1 and len(jpeg.sampling) > 1:  # its own blocks, not those of the whole
        horizontal, vertical = jpeg.sampling[scan.components[0]]
        width, height = width // horizontal, height // vertical
    units = -(-jpeg.width // width) * -(-jpeg.height // height)
    expected = -(-units // jpeg.interval) - 1
    # A zero after 0xFF is stuffed, so that restart markers are known wherever they stand.
    found = len(_RESTART.findall(data, scan.start, scan.end))
    if found < expected:
        raise ValueError(f"it holds {found} of {expected} restart markers")


def _check_reach(jpeg: Jpeg, data: bytes) -> None:
    """Check, in a file of several scans, that the first scan of each component reaches the last row.

    It holds the average of each block. Decoded with and without its last bytes, at an eighth of the size, it differs
    in its last blocks only; where the data ended early, it differs from there on.
    """
    for scan in jpeg.scans:
        if scan.spectral[0] != 0 or scan.approximation[0] != 0 or scan.end - scan.start < 64:
            continue
        whole, shorter = (_eighth(data[: scan.end - cut] + b"\xff\xd9", jpeg) for cut in (0, 12))
        changed = np.flatnonzero((whole != shorter).reshape(len(whole), -1).any(axis=1))
        if len(changed) and changed[0] < len(whole) - _margin(jpeg, scan, 12) // 8 - 2:
            raise ValueError(f"its data end at about row {changed[0] * 8} of {jpeg.height}")


def _eighth(data: bytes, jpeg: Jpeg) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        image.draft(image.mode, (max(1, jpeg.width // 8), max(1, jpeg.height // 8)))
        return np.asarray(image)


def _margin(jpeg: Jpeg, scan: Scan, withheld: int) -> int:
    """Count the rows that may depend on the last bytes of a scan.

    A block takes one bit at least, two where it has more than its average. Eight bytes more may wait in the decoder,
    and rows for their neighbours.
    """
    width, height = jpeg.mcu
    blocks = (withheld + 8) * 8 // (2 if scan.spectral[1] else 1)
    in_unit = sum(h * v for component, (h, v) in jpeg.sampling.items() if component in scan.components)
    units = -(-blocks // max(1, in_unit if len(jpeg.sampling) > 1 else 1))
    return (-(-units // max(1, jpeg.width // width)) + 2) * height


_PATTERN = bytes((i * 97 + 31) % 251 for i in range(251))


class WatchedJpeg(io.BytesIO):
    """The bytes of a JPEG of one scan for Pillow, with a check of what is decoded before the last bytes are passed on.

    Pillow's decoder takes its data in pieces and writes rows as they are complete. Before it gets the last bytes, all
    rows but the last few must be written: a pattern that was put in the place of one of them must be gone.

    Args:
        data: The file.
        jpeg: Its markers.
    """

    def __init__(self, data: bytes, jpeg: Jpeg) -> None:
        super().__init__(data)
        self._row = jpeg.height - 1 - _margin(jpeg, jpeg.scans[0], _WITHHELD) if jpeg.scans else -1
        self._watches = len(jpeg.scans) == 1 and self._row >= 0
        self._last_bytes_at = jpeg.scans[0].end - _WITHHELD if jpeg.scans else 0
        self._image: Any = None

    def watch(self, image: Any) -> None:
        """Put the pattern into the memory of an image that was opened from this stream and is not loaded."""
        if not self._watches:
            return
        columns = image.width * len(image.getbands())
        pattern = (_PATTERN * (columns // len(_PATTERN) + 1))[:columns]
        row = Image.frombytes(image.mode, (image.width, 1), pattern)
        place = Image.new(image.mode, image.size)
        place.paste(row, (0, self._row))
        image.im = place.im
        self._image = image
        self._columns = range(0, image.width, max(1, image.width // 16))
        self._pattern = self._pixels()

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as usual, but stop before the last bytes of the scan for the check."""
        if self._image is None:
            return super().read(size)
        left = self._last_bytes_at - self.tell()
        if left <= 0:
            rows_are_there = self._pixels() != self._pattern
            self._image = None
            if not rows_are_there:
                raise ValueError(f"its data end before row {self._row}")
            return super().read(size)
        return super().read(left if size is None or size < 0 else min(size, left))

    def _pixels(self) -> list[Any]:
        return [self._image.im.getpixel((x, self._row)) for x in self._columns]
