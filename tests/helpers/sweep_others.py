"""The sweep's files of other formats: written by hand, by Pillow and by imagecodecs; read by imagecodecs."""

import importlib
import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image
from sweep import STEP, Case, picture, shown

imagecodecs: Any = importlib.import_module("imagecodecs")  # its types say less than is true

ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def other_cases() -> Iterator[Case]:
    yield from png_cases()
    yield from jpeg_cases()
    yield from jpeg2000_cases()
    yield from pnm_cases()
    yield from bmp_cases()
    yield from gif_cases()
    yield from modern_cases()


# ---------------------------------------------------------------- PNG


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values: np.ndarray, depth: int, colour: int, interlaced: bool, chunks: bytes) -> bytes:
    """(H,W,C) integers to an unfiltered PNG."""
    rows = b""
    for y, x, dy, dx in ADAM7 if interlaced else [(0, 0, 1, 1)]:
        part = values[y::dy, x::dx].astype(np.int64)
        flat = part.reshape(len(part), -1)
        bits = ((flat[..., None] >> np.arange(depth - 1, -1, -1)) & 1).astype(np.uint8).reshape(len(part), -1)
        if part.size:
            rows += b"".join(b"\0" + row.tobytes() for row in np.packbits(bits, axis=1))
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, colour, 0, 0, interlaced)
    body = chunk(b"IHDR", header) + chunks + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png_cases() -> Iterator[Case]:
    kinds = {0: (1, (1, 2, 4, 8, 16)), 2: (3, (8, 16)), 3: (1, (1, 2, 4, 8)), 4: (2, (8, 16)), 6: (4, (8, 16))}
    for colour, (channels, depths) in kinds.items():
        for depth, interlaced, keyed in itertools.product(depths, (False, True), (False, True)):
            if keyed and colour in (4, 6):
                continue
            white = 2**depth - 1
            values = picture(channels, white).astype(np.int64)
            chunks, expected = b"", shown(values, white)
            if colour == 3:
                colours = picture(4, 255, 1, white + 1)[0]
                chunks = chunk(b"PLTE", colours[:, :3].tobytes())
                chunks += chunk(b"tRNS", colours[:, 3].tobytes()) if keyed else b""
                expected = shown(colours[values[..., 0]][..., : 4 if keyed else 3], 255)
            elif keyed:
                key = values[10, 13]
                chunks = chunk(b"tRNS", struct.pack(f">{channels}H", *key))
                expected = np.where((values == key).all(-1, keepdims=True), 1.0, expected)
            name = f"{depth} bits{', interlaced' if interlaced else ''}{', transparency' if keyed else ''}"
            group = {0: "gray", 2: "RGB", 3: "palette", 4: "gray + alpha", 6: "RGBA"}[colour]
            yield Case(f"PNG {group}", name, png(values, depth, colour, interlaced, chunks), expected)


# ---------------------------------------------------------------- JPEG


def jpeg_cases() -> Iterator[Case]:
    for mode, subsampling, progressive, restart in itertools.product(
        ("L", "RGB", "CMYK"), (0, 1, 2), (False, True), (0, 3)
    ):
        image = Image.fromarray(picture(3, 255, 75, 90)).convert(mode)
        data = encode(
            image, "JPEG", subsampling=subsampling, progressive=progressive, restart_marker_blocks=restart, quality=92
        )
        name = f"sampling {subsampling}{', progressive' if progressive else ''}{', restarts' if restart else ''}"
        if mode == "CMYK":
            ink = 1 - np.asarray(imagecodecs.jpeg8_decode(data, outcolorspace="CMYK")) / 255  # Adobe's is inverted
            yield Case("JPEG CMYK", name, data, (1 - ink[..., :3]) * (1 - ink[..., 3:]), 2 * STEP)
        else:
            yield Case(f"JPEG {mode}", name, data, shown(imagecodecs.jpeg8_decode(data), 255), 2 * STEP)
    for channels in (1, 3):
        eight, twelve = picture(channels, 255, 75, 90), picture(channels, 4095, 75, 90)
        squeeze = (lambda values: values[..., 0]) if channels == 1 else (lambda values: values)
        data = imagecodecs.jpeg8_encode(squeeze(twelve), level=95, bitspersample=12)
        yield Case("JPEG 12 bits", f"{channels}", data, shown(imagecodecs.jpeg8_decode(data), 4095), 2 / 4095)
        data = imagecodecs.jpeg8_encode(squeeze(eight), lossless=True)
        yield Case("JPEG lossless", f"{channels}, 8 bits", data, shown(eight, 255))
        for depth in (8, 16):
            values = squeeze(picture(channels, 2**depth - 1))
            yield Case(
                "JPEG-LS", f"{channels}, {depth} bits", imagecodecs.jpegls_encode(values), shown(values, 2**depth - 1)
            )
    for depth in (8, 12, 16):
        values = picture(1, 2**depth - 1).astype(np.uint16)[..., 0]
        data = imagecodecs.ljpeg_encode(values, bitspersample=depth)
        yield Case("JPEG lossless", f"gray, {depth} bits", data, shown(values, 2**depth - 1))


# ---------------------------------------------------------------- JPEG 2000


def jpeg2000_cases() -> Iterator[Case]:
    for depth, channels, codec, lossless in itertools.product(
        range(8, 17), (1, 2, 3, 4), ("jp2", "j2k"), (True, False)
    ):
        white = 2**depth - 1
        values = picture(channels, white, 48, 64)
        values = values[..., 0] if channels == 1 else values
        options = {"reversible": True} if lossless else {"reversible": False, "level": 60}
        data = imagecodecs.jpeg2k_encode(values, codecformat=codec, bitspersample=depth, **options)
        decoded = imagecodecs.jpeg2k_decode(data)
        if lossless:
            np.testing.assert_array_equal(decoded, values)
        name = f"{depth} bits, {codec}, {'lossless' if lossless else 'lossy'}"
        group = {1: "gray", 2: "gray + alpha", 3: "RGB", 4: "RGBA"}[channels]
        tolerance = 1.1 / 65535 if lossless else 1 / white + 1e-6
        yield Case(
            f"JPEG 2000 {group}",
            name,
            data,
            shown(values if lossless else np.clip(decoded, 0, white), white),
            tolerance,
        )
    for channels in (1, 3):
        signed = picture(channels, 100, 48, 64).astype(np.int16) - 50
        data = imagecodecs.jpeg2k_encode(signed[..., 0] if channels == 1 else signed, reversible=True)
        yield Case("JPEG 2000 signed", f"{channels}", data, None)


# ---------------------------------------------------------------- PNM


def pnm_cases() -> Iterator[Case]:
    for kind, channels in ((2, 1), (5, 1), (3, 3), (6, 3)):
        for white in (1, 15, 100, 255, 256, 1023, 4095, 65535):
            values = picture(channels, white)
            head = f"P{kind}\n# a comment\n26 21\n{white}\n".encode()
            raw = values.astype(">u2" if white > 255 else "u1").tobytes()
            data = head + (" ".join(map(str, values.flatten().tolist())).encode() + b"\n" if kind < 4 else raw)
            tolerance = 0.51 * STEP if kind == 3 or white < 256 else 0.51 / 65535
            yield Case("PNM", f"P{kind}, maximum {white}", data, shown(values, white), tolerance)
    bits = picture(1, 1)[..., 0]
    yield Case("PNM", "P1", b"P1\n26 21\n" + " ".join(map(str, (1 - bits).flatten())).encode(), shown(bits, 1))
    yield Case("PNM", "P4", b"P4\n26 21\n" + np.packbits(1 - bits, axis=1).tobytes(), shown(bits, 1))
    for order, channels in itertools.product("<>", (1, 3)):
        values = (picture(channels, 65535) / 65535).astype(order + "f4")
        head = f"P{'f' if channels == 1 else 'F'}\n26 21\n{-1.0 if order == '<' else 1.0}\n".encode()
        yield Case("PFM", f"{order} {channels}", head + values[::-1].tobytes(), shown(values, 1))


# ---------------------------------------------------------------- BMP, GIF


def bmp(width: int, height: int, bits: int, compression: int, palette: bytes, data: bytes, masks: bytes = b"") -> bytes:
    start = 14 + 40 + len(masks) + len(palette)
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, len(palette) // 4, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + head + masks + palette + data


def bmp_rows(values: np.ndarray, depth: int) -> bytes:
    flat = values.reshape(len(values), -1).astype(np.int64)
    bits = ((flat[..., None] >> np.arange(depth - 1, -1, -1)) & 1).astype(np.uint8).reshape(len(values), -1)
    rows = np.packbits(bits, axis=1)
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).tobytes()


def run_lengths(rows: np.ndarray, four_bits: bool) -> bytes:
    """Rows from the bottom up, each value as a run of one (or of two for four bits)."""
    out = b""
    for row in rows:
        if four_bits:
            pairs = np.pad(row, (0, len(row) % 2)).reshape(-1, 2)
            counts = [2] * (len(row) // 2) + [1] * (len(row) % 2)
            out += b"".join(bytes([count, pair[0] << 4 | pair[1]]) for count, pair in zip(counts, pairs, strict=True))
        else:
            out += b"".join(bytes([1, value]) for value in row)
        out += b"\0\0"
    return out + b"\0\1"


def bmp_cases() -> Iterator[Case]:
    rgb = picture(3, 255)
    for top_down in (False, True):
        rows = rgb if top_down else rgb[::-1]
        height = -21 if top_down else 21
        word = "top down" if top_down else "bottom up"
        yield Case(
            "BMP RGB", f"24 bits, {word}", bmp(26, height, 24, 0, b"", bmp_rows(rows[..., ::-1], 8)), shown(rgb, 255)
        )
        padded = np.dstack([rows[..., ::-1], np.zeros((21, 26), np.uint8)])
        yield Case("BMP RGB", f"32 bits, {word}", bmp(26, height, 32, 0, b"", padded.tobytes()), shown(rgb, 255))
        for name, bits, masks in (("555", (5, 5, 5), (0x7C00, 0x3E0, 0x1F)), ("565", (5, 6, 5), (0xF800, 0x7E0, 0x1F))):
            parts = [np.rint(rows[..., c] / 255 * (2**b - 1)).astype(np.int64) for c, b in enumerate(bits)]
            value = parts[0] << (bits[1] + bits[2]) | parts[1] << bits[2] | parts[2]
            data = b"".join(row.astype("<u2").tobytes() for row in value)
            shades = np.stack([p / (2**b - 1) for p, b in zip(parts, bits, strict=True)], -1)
            file = bmp(26, height, 16, 3, b"", data, struct.pack("<3I", *masks))
            yield Case("BMP RGB", f"{name}, {word}", file, shades if top_down else shades[::-1], 0.51 * STEP + 0.002)
        for depth in (1, 4, 8):
            colours = picture(3, 255, 1, 2**depth)[0]
            places = np.random.default_rng(depth).integers(0, 2**depth, (21, 26))
            palette = b"".join(bytes([*colour[::-1], 0]) for colour in colours)
            stored = places if top_down else places[::-1]
            file = bmp(26, height, depth, 0, palette, bmp_rows(stored[..., None], depth))
            yield Case("BMP palette", f"{depth} bits, {word}", file, shown(colours[places], 255))
            if depth > 1 and not top_down:
                file = bmp(26, 21, depth, 2 if depth == 4 else 1, palette, run_lengths(stored, depth == 4))
                yield Case("BMP palette", f"{depth} bits, run lengths", file, shown(colours[places], 255))


def gif_cases() -> Iterator[Case]:
    colours = picture(3, 255, 1, 64)[0]
    places = np.random.default_rng(5).integers(0, 64, (21, 26)).astype(np.uint8)
    image = Image.fromarray(places, "P")
    image.putpalette(colours.tobytes())
    for interlaced, key in itertools.product((0, 1), (None, 7)):
        options = {} if key is None else {"transparency": key}
        data = encode(image, "GIF", interlace=interlaced, **options)
        expected = shown(imagecodecs.gif_decode(data)[..., :3], 255)
        np.testing.assert_array_equal(expected[places != key], shown(colours[places], 255)[places != key])
        expected = np.where((places == key)[..., None], 1.0, expected)
        yield Case("GIF", f"interlaced {interlaced}, transparent {key}", data, expected)


# ---------------------------------------------------------------- WebP, AVIF, HEIC, JPEG XL


def modern_cases() -> Iterator[Case]:
    for channels in (3, 4):
        values = picture(channels, 255, 48, 64)
        lossless = imagecodecs.webp_encode(values, lossless=True)
        decoded = imagecodecs.webp_decode(lossless)
        yield Case("WebP", f"lossless, {channels}", lossless, shown(decoded, 255))
        lossy = encode(Image.fromarray(values), "WEBP", quality=80)
        yield Case("WebP", f"lossy, {channels}", lossy, shown(imagecodecs.webp_decode(lossy), 255), 2 * STEP)
        for depth in (8, 10, 12):
            values = picture(channels, 2**depth - 1, 48, 64)
            data = imagecodecs.avif_encode(values, level=100, bitspersample=depth)
            decoded = imagecodecs.avif_decode(data)
            white = 255 if decoded.dtype == np.uint8 else 2**depth - 1
            yield Case("AVIF", f"{depth} bits, {channels}", data, shown(decoded, white), 1.5 * STEP)
    for depth, channels in itertools.product((8, 16), (1, 2, 3, 4)):
        values = picture(channels, 2**depth - 1, 48, 64)
        data = imagecodecs.jpegxl_encode(values[..., 0] if channels == 1 else values, lossless=True)
        unit = values / (2**depth - 1)
        if depth == 16:  # imagecodecs notes values of 16 bits as linear light
            colours = 1 if channels < 3 else 3
            unit[..., :colours] = srgb_encode(unit[..., :colours])
        yield Case("JPEG XL", f"{depth} bits, {channels}", data, shown(unit, 1), (1.1 if depth == 8 else 0.5) * STEP)
    for depth, channels in itertools.product((8, 10, 12), (1, 3, 4)):
        yield from heif_case(depth, channels)


def srgb_encode(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def heif_case(depth: int, channels: int) -> Iterator[Case]:
    import pillow_heif

    values = picture(channels, 2**depth - 1, 48, 64)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    shifted = values if depth == 8 else values << (16 - depth)
    if depth > 8 and channels == 1:
        mode = "I;16"
    file = pillow_heif.from_bytes(mode if depth == 8 or channels == 1 else f"{mode};16", (64, 48), shifted.tobytes())
    buffer = io.BytesIO()
    file.save(buffer, quality=-1, chroma=444)
    yield Case("HEIC", f"{depth} bits, {channels}", buffer.getvalue(), shown(values, 2**depth - 1), 2 * STEP)
