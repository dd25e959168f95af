"""The sweep's TIFF files, written by tifffile (and by hand where it packs no bits), and read back by it."""

import importlib
import io
import itertools
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from sweep import STEP, Case, picture, shown

tifffile: Any = importlib.import_module("tifffile")  # its types say less than is true

COMPRESSIONS = (("none", 1), ("lzw", 1), ("lzw", 2), ("deflate", 1), ("deflate", 2), ("packbits", 1), ("zstd", 1))
LAYOUTS = ("strips", "one strip", "tiles")
# Colour: channels, photometric, extra samples.
COLOURS = {
    "gray": (1, "minisblack", None),
    "white is zero": (1, "miniswhite", None),
    "gray + alpha": (2, "minisblack", ["unassalpha"]),
    "gray + other": (2, "minisblack", ["unspecified"]),
    "RGB": (3, "rgb", None),
    "RGBA": (4, "rgb", ["unassalpha"]),
    "RGB premultiplied": (4, "rgb", ["assocalpha"]),
    "RGB + other": (4, "rgb", ["unspecified"]),
    "CMYK": (4, "separated", None),
}
DTYPES = ("u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8")


Tags = dict[int, tuple[int, list[int]]]


def tiff_cases(every: int = 1) -> Iterator[Case]:
    """All files, or of those that vary in everything one in so many."""
    for arguments in itertools.islice(combinations(), every // 2, None, every):
        yield tiff_case(*arguments)
    for order in "<>":
        for predictor, dtype, planar in itertools.product((3,), ("f2", "f4", "f8"), (False, True)):
            yield tiff_case(order, False, "deflate", predictor, "tiles", planar, "RGB", dtype)
    yield from packed_cases()
    yield from palette_cases()
    yield from jpeg_cases()


def combinations() -> Iterator[tuple[Any, ...]]:
    for order, big, (compression, predictor), layout, planar, colour, dtype in itertools.product(
        "<>", (False, True), COMPRESSIONS, LAYOUTS, (False, True), COLOURS, DTYPES
    ):
        channels = COLOURS[colour][0]
        if (planar and channels == 1) or (predictor == 2 and dtype[0] == "f"):
            continue
        if big and (order, layout) != ("<", "tiles") and (order, layout) != (">", "strips"):
            continue  # the larger offsets say nothing of the pixels
        yield order, big, compression, predictor, layout, planar, colour, dtype


def tiff_case(
    order: str, big: bool, compression: str, predictor: int, layout: str, planar: bool, colour: str, dtype: str
) -> Case:
    channels, photometric, extra = COLOURS[colour]
    white = {"u": 2 ** min(8 * int(dtype[1]), 16) - 1, "i": 127, "f": 1}[dtype[0]]
    source = picture(channels, 65535 if dtype[0] == "f" else white)
    values = (source / 65535).astype(dtype) if dtype[0] == "f" else source.astype(dtype)
    if colour == "RGB premultiplied":
        values[..., :3] = np.minimum(values[..., :3], values[..., 3:])
    expected: np.ndarray | None = expected_of(colour, values, white)
    if dtype[0] == "i" or dtype == "u4" or (dtype[0] == "f" and colour in ("white is zero", "CMYK")):
        expected = None
    buffer = io.BytesIO()
    stored = values[..., 0] if channels == 1 else np.moveaxis(values, -1, 0) if planar else values
    tifffile.imwrite(
        buffer,
        stored,
        byteorder=order,
        bigtiff=big,
        compression=None if compression == "none" else compression,
        predictor=predictor if predictor > 1 else None,
        photometric=photometric,
        planarconfig=None if channels == 1 else "separate" if planar else "contig",
        extrasamples=extra,
        tile=(16, 16) if layout == "tiles" else None,
        rowsperstrip={"strips": 5, "one strip": 21}.get(layout),
        metadata=None,
    )
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(buffer.getvalue())), stored)
    words = [order, "big" if big else "classic", compression, f"predictor {predictor}", layout]
    name = ", ".join([*words, "planes" if planar else "chunky", colour, dtype])
    tolerance = 0.51 / 65535
    if (colour, dtype) == ("CMYK", "u1") or (colour == "RGB premultiplied" and dtype == "u1"):
        tolerance = 1.1 * STEP  # by Pillow's formula in 8 bits; multiplied and divided in 8 bits
    elif colour in ("RGB premultiplied", "CMYK"):
        tolerance = 2 / 65535
    return Case(f"TIFF {colour}", name, buffer.getvalue(), expected, tolerance)


def expected_of(colour: str, values: np.ndarray, white: int) -> np.ndarray:
    unit = values.astype(np.float64) / white
    if colour == "white is zero":
        return shown(1 - unit, 1)
    if colour.endswith("+ other"):
        return shown(unit[..., :-1], 1)
    if colour == "RGB premultiplied":
        return unit[..., :3] + 1 - unit[..., 3:]
    if colour == "CMYK":
        return (1 - unit[..., :3]) * (1 - unit[..., 3:])
    return shown(unit, 1)


def hand_tiff(order: str, width: int, height: int, bits: list[int], tags: Tags, data: bytes) -> bytes:
    """A TIFF of one strip; `tags` add to or replace the usual ones."""
    entries = {256: (3, [width]), 257: (3, [height]), 258: (3, bits), 259: (3, [1]), 262: (3, [1])}
    entries |= {273: (4, [8]), 277: (3, [len(bits)]), 278: (3, [height]), 279: (4, [len(data)])} | tags
    data += bytes(len(data) % 2)
    lists, directory = b"", struct.pack(order + "H", len(entries))
    lists_at = 8 + len(data) + 2 + 12 * len(entries) + 4
    for tag, (kind, values) in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        place = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(order + "I", lists_at + len(lists))
        lists += packed if len(packed) > 4 else b""
        directory += struct.pack(order + "HHI", tag, kind, len(values)) + place
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(data))
    return head + data + directory + bytes(4) + lists


def packed(values: np.ndarray, depth: int) -> bytes:
    """(H,W,C) integers to rows of `depth` bits, each row padded to a byte, the first bit the highest."""
    flat = values.reshape(len(values), -1)
    bits = (flat[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.reshape(len(values), -1).astype(np.uint8), axis=1).tobytes()


def packed_cases() -> Iterator[Case]:
    for order, depth, channels in itertools.product("<>", (1, 2, 4, 6, 10, 12, 14), (1, 3)):
        for photometric in (0, 1) if channels == 1 else (2,):
            for fill in (1, 2) if channels == 1 and depth == 1 else (1,):
                white = 2**depth - 1
                values = picture(channels, white).astype(np.uint16)
                data = packed(values, depth)
                if fill == 2:
                    data = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
                file = hand_tiff(order, 26, 21, [depth] * channels, {262: (3, [photometric]), 266: (3, [fill])}, data)
                expected = shown(white - values if photometric == 0 else values, white)
                tolerance = 0.51 / (255 if depth < 8 else 65535)
                name = f"{order} {depth} bits, {channels} channels, photometric {photometric}, fill order {fill}"
                yield Case("TIFF packed bits", name, file, expected, tolerance)


def palette_cases() -> Iterator[Case]:
    for order, depth, factor in itertools.product("<>", (1, 2, 4, 8), (257, 256, 1)):
        count = 2**depth
        colours = picture(3, 255, 1, count)[0].astype(np.uint16)
        places = np.random.default_rng(depth).integers(0, count, (21, 26, 1))
        tags = {262: (3, [3]), 320: (3, (colours.T * factor).flatten().tolist())}
        data = hand_tiff(order, 26, 21, [depth], tags, packed(places, depth))
        expected = shown(colours[places[..., 0]], 255)
        yield Case("TIFF palette", f"{order} {depth} bits, colours times {factor}", data, expected)


def jpeg_cases() -> Iterator[Case]:
    for order, layout, planar, colour in itertools.product("<>", LAYOUTS, (False, True), ("gray", "RGB", "ycbcr")):
        channels = 1 if colour == "gray" else 3
        if planar and channels == 1:
            continue
        values = picture(channels, 255, 64, 80)
        stored = values[..., 0] if channels == 1 else np.moveaxis(values, -1, 0) if planar else values
        buffer = io.BytesIO()
        try:
            tifffile.imwrite(
                buffer,
                stored,
                byteorder=order,
                compression="jpeg",
                photometric={"gray": "minisblack", "RGB": "rgb"}.get(colour, colour),
                planarconfig=None if channels == 1 else "separate" if planar else "contig",
                tile=(32, 32) if layout == "tiles" else None,
                rowsperstrip={"strips": 16, "one strip": 64}.get(layout),
                metadata=None,
            )
            decoded = tifffile.imread(io.BytesIO(buffer.getvalue()))
        except (ValueError, NotImplementedError):
            continue  # not a combination that can be written
        decoded = np.moveaxis(decoded, 0, -1) if planar else decoded
        name = f"{order} JPEG, {layout}, {'planes' if planar else 'chunky'}, {colour}"
        yield Case("TIFF JPEG", name, buffer.getvalue(), shown(decoded, 255), 3 * STEP)
