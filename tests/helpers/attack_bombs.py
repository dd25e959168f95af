"""Small files that would cost much: pixels, texts and profiles that unfold, frames and pages without end, loops.

Each is read right or refused, within the time and memory of docs/images.md.
"""

import io
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from attack_worker import LABEL, check_refusal
from cut_files import encoded
from PIL import Image
from sweep import picture
from sweep_others import bmp, chunk, png
from sweep_tiff import hand_tiff

from iqametrics.errors import InputError
from iqametrics.images import read_image

GIGABYTE = 2**30
_codecs: Any = imagecodecs  # its types say less than is true


def packed_zeros(count: int = GIGABYTE) -> bytes:
    """Zeros in zlib's form, written without making them: a full block repeats."""
    packer, out, piece = zlib.compressobj(1), [], bytes(2**24)
    for _ in range(count // len(piece)):
        out.append(packer.compress(piece))
    return b"".join([*out, packer.flush()])


# ---------------------------------------------------------------- PNG


def png_around(chunks: bytes, after: bytes = b"") -> bytes:
    """A PNG of 26x21 with chunks before its pixels, and others after them."""
    data = png(picture(3, 255), 8, 2, False, chunks)
    return data[:-12] + after + data[-12:]


def png_of(width: int, height: int, depth: int, colour: int, data: bytes, interlaced: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png_text(kind: bytes) -> bytes:
    prefix = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[kind]
    return png_around(chunk(kind, prefix + packed_zeros()))


def png_frames(count: int) -> bytes:
    control = struct.pack(">IIIIHHBB", 26, 21, 0, 0, 1, 10, 0, 0)
    frame = zlib.compress(bytes(21 * (1 + 3 * 26)))
    frames = b"".join(
        chunk(b"fcTL", struct.pack(">I", 2 * i + 1) + control) + chunk(b"fdAT", struct.pack(">I", 2 * i + 2) + frame)
        for i in range(count)
    )
    return png_around(chunk(b"acTL", struct.pack(">II", count, 0)) + chunk(b"fcTL", bytes(4) + control), frames)


PNG_BOMBS: dict[str, Callable[[], bytes]] = {
    "PNG, zTXt of 1 GB": lambda: png_text(b"zTXt"),
    "PNG, iTXt of 1 GB": lambda: png_text(b"iTXt"),
    "PNG, profile of 1 GB": lambda: png_text(b"iCCP"),
    "PNG, 1 GB behind the last row": lambda: png_of(8, 8, 8, 2, packed_zeros()),
    "PNG, 65000x65000": lambda: png_of(65000, 65000, 1, 0, packed_zeros(2**24)),
    "PNG, 2147483647x1": lambda: png_of(2**31 - 1, 1, 1, 0, packed_zeros(2**24)),
    "PNG, 8000x8000 of one bit": lambda: png_of(8000, 8000, 1, 0, zlib.compress(bytes(8000 * 1001), 9)),
    "PNG, 8000x8000 of 16 bits and alpha": lambda: png_of(8000, 8000, 16, 6, packed_zeros(2**29)),
    "PNG, 8000x8000 interlaced": lambda: png_of(8000, 8000, 8, 2, packed_zeros(2**28), 1),
    "PNG, a million empty chunks": lambda: png_around(chunk(b"abCd", b"") * 10**6),
    "PNG, a million IDAT of no byte": lambda: png_around(b"", chunk(b"IDAT", b"") * 10**6),
    "PNG, 100,000 frames": lambda: png_frames(100_000),
    "PNG, a thousand EXIF": lambda: png_around(chunk(b"eXIf", b"MM\0\x2a\0\0\0\x08" + b"\xff" * 60000) * 1000),
}

# ---------------------------------------------------------------- JPEG


def segment(code: int, body: bytes) -> bytes:
    return b"\xff" + bytes([code]) + struct.pack(">H", len(body) + 2) + body


def jpeg_with(segments: bytes) -> bytes:
    data = encoded(Image.fromarray(picture(3, 255)), "JPEG")
    return data[:2] + segments + data[2:]


def jpeg_scans(side: int, count: int) -> bytes:
    data = encoded(Image.new("RGB", (side, side)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + b"\xff\xd9"


def jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.fromarray(picture(3, 255)), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def exif_loop() -> bytes:
    """EXIF of which each directory names itself as the next, and as its own part."""
    entry = struct.pack(">HHII", 0x8769, 4, 1, 8)
    return b"Exif\0\0MM\0\x2a\0\0\0\x08" + struct.pack(">H", 1) + entry + struct.pack(">I", 8)


def exif_huge() -> bytes:
    entries = b"".join(struct.pack(">HHII", tag, 5, 2**28, 8) for tag in range(0x0112, 0x0112 + 2000))
    return b"Exif\0\0MM\0\x2a\0\0\0\x08" + struct.pack(">H", 2000) + entries


JPEG_BOMBS: dict[str, Callable[[], bytes]] = {
    "JPEG, 65500x65500": lambda: jpeg_of_size(65500, 65500),
    "JPEG, 8000x8000 of 300 bytes": lambda: jpeg_of_size(8000, 8000),
    "JPEG, 5000 scans": lambda: jpeg_scans(64, 5000),
    "JPEG, 90 scans of 4600x4600": lambda: jpeg_scans(4600, 80),
    "JPEG, two million profile parts": lambda: jpeg_with(segment(0xE2, b"ICC_PROFILE\0\1\1ab") * 2_000_000),
    "JPEG, 1000 profile parts of 64 KB": lambda: jpeg_with(segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(65000)) * 1000),
    "JPEG, ten million comments": lambda: jpeg_with(segment(0xFE, b"") * 10**7),
    "JPEG, a million tables": lambda: jpeg_with(segment(0xDB, b"\0" + b"\1" * 64) * 10**6),
    "JPEG, EXIF loop": lambda: jpeg_with(segment(0xE1, exif_loop())),
    "JPEG, EXIF of huge values": lambda: jpeg_with(segment(0xE1, exif_huge())),
    "JPEG, MPO of 60,000 pictures": lambda: jpeg_with(segment(0xE2, mpo(60_000))),
    "JPEG, 60 MB between restart marks": lambda: jpeg_with(b"")[:-2] + b"\xff\xd0" * 3 * 10**7 + b"\xff\xd9",
    "JPEG, 60 MB behind the end": lambda: jpeg_with(b"") + b"\xff\xda\0\0" * 15 * 10**6,
}


def mpo(count: int) -> bytes:
    entries = b"".join(
        struct.pack(">HHII", tag, kind, number, value)
        for tag, kind, number, value in (
            (0xB000, 7, 4, 0x30313030),
            (0xB001, 4, 1, count),
            (0xB002, 7, 16 * 3000, 50),
        )
    )
    return b"MPF\0MM\0\x2a\0\0\0\x08" + struct.pack(">H", 3) + entries + bytes(4) + bytes(16 * 3000)


# ---------------------------------------------------------------- TIFF


def tiff_with(
    tags: dict[int, tuple[int, list[int]]], data: bytes = bytes(192), side: int = 8, order: str = "<"
) -> bytes:
    return hand_tiff(order, side, side, [8] * 3, {262: (3, [2])} | tags, data)


def tiff_shared_strips() -> bytes:
    """Eight thousand strips of a row, all of them the same megabyte."""
    rows, data = 8000, zlib.compress(bytes(24_000)) + bytes(1_000_000)
    tags = {259: (3, [8]), 278: (3, [1]), 273: (4, [8] * rows), 279: (4, [len(data)] * rows)}
    return tiff_with(tags, data, 8000)


def tiff_loop(tag: int) -> bytes:
    """A directory that names itself as a part of it (EXIF, SubIFDs)."""
    data = tiff_with({tag: (4, [2**32 - 1])})
    first = data[4:8]
    return data.replace(struct.pack("<I", 2**32 - 1), first)


def tiff_circle() -> bytes:
    one = bytearray(tiff_with({}))
    (first,) = struct.unpack_from("<I", one, 4)
    struct.pack_into("<I", one, first + 2 + 12 * struct.unpack_from("<H", one, first)[0], first)
    return bytes(one)


def tiff_pages(count: int) -> bytes:
    one = tiff_with({})
    (first,) = struct.unpack_from("<I", one, 4)
    size = 2 + 12 * struct.unpack_from("<H", one, first)[0] + 4
    directory, out = one[first : first + size - 4], bytearray(one)
    struct.pack_into("<I", out, first + size - 4, len(one))
    return bytes(out) + b"".join(directory + struct.pack("<I", len(one) + size * (i + 1)) for i in range(count))


def tiff_packed(compression: int, data: bytes, side: int = 4600) -> bytes:
    """One strip of a picture whose bytes are packed."""
    return tiff_with({259: (3, [compression])}, data, side)


def tiff_codec(name: str, compression: int, **options: Any) -> bytes:
    """A picture of 8x8 whose one strip unfolds to 256 MB."""
    return tiff_packed(compression, getattr(_codecs, f"{name}_encode")(bytes(2**28), **options), 8)


def tiff_of_tag(tag: int, kind: int, megabytes: int) -> bytes:
    """A tag that says it is made of all the bytes of a large file."""
    number = megabytes * 2**20 // {1: 1, 3: 2, 4: 4}[kind]
    data = bytearray(hand_tiff("<", 8, 8, [8] * 3, {262: (3, [2]), tag: (4, [7, 7])}, bytes(megabytes * 2**20)))
    (first,) = struct.unpack_from("<I", data, 4)
    for at in range(first + 2, first + 2 + 12 * struct.unpack_from("<H", data, first)[0], 12):
        if struct.unpack_from("<H", data, at)[0] == tag:
            struct.pack_into("<HII", data, at + 2, kind, number, 8)
    return bytes(data)


TIFF_BOMBS: dict[str, Callable[[], bytes]] = {
    "TIFF, 60,000 pages": lambda: tiff_pages(60_000),
    "TIFF, pages in a circle": tiff_circle,
    "TIFF, EXIF in a circle": lambda: tiff_loop(34665),
    "TIFF, SubIFDs in a circle": lambda: tiff_loop(330),
    "TIFF, 8000 strips that are one": tiff_shared_strips,
    "TIFF, deflate, 1 GB for 8x8": lambda: tiff_packed(8, packed_zeros(), 8),
    "TIFF, LZW, 256 MB for 8x8": lambda: tiff_codec("lzw", 5),
    "TIFF, PackBits, 256 MB for 8x8": lambda: tiff_packed(32773, b"\x81\0" * 2**21, 8),
    "TIFF, Zstandard, 256 MB for 8x8": lambda: tiff_codec("zstd", 50000),
    "TIFF, LZMA, 256 MB for 8x8": lambda: tiff_codec("lzma", 34925, level=1),
    "TIFF, PackBits, 4600x4600": lambda: tiff_packed(32773, b"\x81\0" * (4600 * 4600 * 3 // 128 + 1)),
    "TIFF, PackBits, 40 MB of single bytes": lambda: tiff_packed(32773, b"\0\7" * 2 * 10**7),
    "TIFF, PackBits, 40 MB of nothing": lambda: tiff_packed(32773, b"\x80" * 4 * 10**7),
    "TIFF, tile of 30000x30000": lambda: tiff_with(
        {322: (4, [30_000]), 323: (4, [30_000]), 324: (4, [8]), 325: (4, [192]), 259: (3, [8])}
    ),
    "TIFF, 65535x65535": lambda: tiff_packed(8, packed_zeros(2**24), 65535),
    "TIFF, offsets of 100 MB as bytes": lambda: tiff_of_tag(273, 1, 100),
    "TIFF, palette of 100 MB": lambda: tiff_of_tag(320, 3, 100),
    "TIFF, profile of 100 MB": lambda: tiff_of_tag(34675, 1, 100),
    "TIFF, fax of 8000x8000": lambda: hand_tiff("<", 8000, 8000, [1], {259: (3, [4]), 262: (3, [0])}, bytes(10**6)),
    "TIFF, JPEG of 65500x65500 for 8x8": lambda: tiff_packed(7, jpeg_of_size(65500, 65500), 8),
}

# ---------------------------------------------------------------- GIF, WebP, BMP, PNM


def gif(width: int, height: int, body: bytes) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + body + b";"


def gif_frame(width: int, height: int, blocks: bytes = b"\2\x44\1\0") -> bytes:
    return b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\2" + blocks


def webp_frames(count: int) -> bytes:
    picture_chunk = encoded(Image.new("RGB", (1, 1)), "WEBP", lossless=True)[12:]
    body = bytes(6) + bytes(6) + bytes(4) + picture_chunk
    frame = b"ANMF" + struct.pack("<I", len(body)) + body
    head = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + bytes(6) + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    content = b"WEBP" + head + frame * count
    return b"RIFF" + struct.pack("<I", len(content)) + content


def webp_of_size(width: int, height: int) -> bytes:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 26) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sizes + bytes(4)


def run_length(width: int, height: int, bits: int, data: bytes) -> bytes:
    return bmp(width, height, bits, 1 if bits == 8 else 2, bytes(4 * 2**bits), data)


SMALL_BOMBS: dict[str, Callable[[], bytes]] = {
    "GIF, 100,000 frames": lambda: gif(4000, 4000, gif_frame(1, 1) * 100_000),
    "GIF, frame larger than its screen": lambda: gif(1, 1, gif_frame(65535, 65535)),
    "GIF, 65535x65535": lambda: gif(65535, 65535, gif_frame(65535, 65535)),
    "GIF, 8000x8000 of a thousand bytes": lambda: encoded(Image.new("P", (8000, 8000)), "GIF"),
    "GIF, ten million comments": lambda: gif(8, 8, b"!\xfe\1a\0" * 10**7 + gif_frame(8, 8)),
    "GIF, 40 MB of blocks of one byte": lambda: gif(8, 8, gif_frame(8, 8, b"\1\x44" * 2 * 10**7 + b"\0")),
    "GIF, 40 MB between blocks": lambda: gif(8, 8, b"x" * 4 * 10**7 + gif_frame(8, 8)),
    "WebP, 16383x16383": lambda: webp_of_size(16383, 16383),
    "WebP, 16777216x16777216": lambda: webp_of_size(2**24, 2**24),
    "WebP, 100,000 frames": lambda: webp_frames(100_000),
    "WebP, profile of 1 GB that is not there": lambda: webp_of_size(8, 8) + b"ICCP\0\0\0\x40",
    "BMP, 4000x4000, 40 MB of runs": lambda: run_length(4000, 4000, 8, b"\1\7" * 2 * 10**7),
    "BMP, 4000x4000, 40 MB of runs of four bits": lambda: run_length(4000, 4000, 4, b"\1\7" * 2 * 10**7),
    "BMP, 40 MB of row ends": lambda: run_length(4000, 4000, 8, bytes(4 * 10**7)),
    "BMP, 40 MB of moves": lambda: run_length(4000, 4000, 8, b"\0\2\0\0" * 10**7),
    "BMP, 40 MB of runs of nothing for 8x8": lambda: run_length(8, 8, 8, b"\0\3\1\1\1\0" * 7 * 10**6),
    "BMP, 6000x6000 of runs": lambda: run_length(6000, 6000, 8, b"\1\1\0\0" * 6000),
    "BMP, 60000x60000": lambda: bmp(60000, 60000, 1, 0, bytes(8), bytes(100)),
    "PNM, text of 4000x4000": lambda: b"P3\n4000 4000\n255\n0\n",
    "PNM, 60 MB of comments": lambda: b"P6\n" + b"#\n" * 3 * 10**7 + b"8 8\n255\n" + bytes(192),
    "PNM, 40 MB of spaces": lambda: b"P3\n8 8\n255\n" + b" " * 4 * 10**7 + b"1 " * 192,
    "PNM, a number of 40 MB": lambda: b"P3\n8 8\n255\n" + b"1" * 4 * 10**7 + b"\n",
    "PNM, text with 40 MB of comments": lambda: b"P2\n8 8\n255\n" + b"#\n" * 2 * 10**7 + b"1 " * 64,
    "PNM, 30000x30000": lambda: b"P6\n30000 30000\n255\n" + bytes(100),
    "PNM, bitmap of 60000x60000": lambda: b"P4\n60000 60000\n" + bytes(100),
}

# ---------------------------------------------------------------- JPEG 2000, AVIF, HEIC, JPEG XL


def jpeg2000(**changes: int) -> bytes:
    """A bare codestream of which a field of the size marker was changed."""
    data = bytearray(encoded(Image.fromarray(picture(3, 255)), "JPEG2000", no_jp2=True))
    at = data.index(b"\xff\x51") + 6
    places = {name: at + 4 * i for i, name in enumerate(("width", "height", "x", "y", "tile_width", "tile_height"))}
    for name, value in changes.items():
        struct.pack_into(">I", data, places[name], value)
    return bytes(data)


def jpeg2000_style(layers: int, levels: int, precincts: bytes = b"") -> bytes:
    """A picture of 6300x6300 of many layers, levels or precincts, and hardly any data."""
    data = jpeg2000(width=6300, height=6300, tile_width=6300, tile_height=6300)
    at = data.index(b"\xff\x52")
    (length,) = struct.unpack_from(">H", data, at + 2)
    scod = 1 if precincts else 0
    body = struct.pack(">BBHBBBBBB", scod, 0, layers, 1, levels, 4, 4, 0, 1) + precincts
    return data[: at + 2] + struct.pack(">H", len(body) + 2) + body + data[at + 2 + length :]


def boxes(data: bytes, kind: bytes, body: bytes, count: int, at: int) -> bytes:
    return data[:at] + (struct.pack(">I4s", 8 + len(body), kind) + body) * count + data[at:]


def jp2() -> bytes:
    return encoded(Image.fromarray(picture(3, 255)), "JPEG2000")


def jp2_of(count: int) -> bytes:
    """A file whose last box is its codestream, and whose codestream is as long as it says."""
    data = bytearray(encoded(Image.fromarray(picture(3, 255)), "JPEG2000", no_jp2=True))
    at = data.index(b"\xff\x90")
    struct.pack_into(">I", data, at + 6, len(data) - 2 - at + count)
    return bytes(data[:-2]) + bytes(count) + b"\xff\xd9"


def of_brand(brand: bytes) -> bytes:
    rgb = picture(3, 255, 40, 48)
    if brand == b"avif":
        return bytes(_codecs.avif_encode(rgb))
    import pillow_heif

    out = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(rgb)).save(out, quality=80)
    return out.getvalue()


def ispe(brand: bytes, width: int, height: int) -> bytes:
    data = bytearray(of_brand(brand))
    at = data.index(b"ispe") + 8
    data[at : at + 8] = struct.pack(">II", width, height)
    return bytes(data)


def nested(brand: bytes, depth: int) -> bytes:
    """Boxes in boxes: each of a kind that holds others."""
    inner = b"".join(struct.pack(">I4sI", 12 * (depth - level), b"meta", 0) for level in range(depth))
    return of_brand(brand)[:32] + inner


def avif_frames() -> bytes:
    frames = [Image.new("RGB", (8, 8), (i % 256, 0, 0)) for i in range(300)]
    return encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:], speed=10)


def jxl(**options: Any) -> bytes:
    return bytes(_codecs.jpegxl_encode(picture(3, 255, 40, 48), usecontainer=True, **options))


def jxl_frames() -> bytes:
    return bytes(_codecs.jpegxl_encode(np.zeros((300, 8, 8, 3), np.uint8), numthreads=1))


def jxl_brotli() -> bytes:
    packed = _codecs.brotli_encode(bytes(2**28), level=1)
    data = jxl()
    return boxes(data, b"brob", b"Exif" + packed, 4, 32)


MODERN_BOMBS: dict[str, Callable[[], bytes]] = {
    "JPEG 2000, 60000x60000": lambda: jpeg2000(width=60_000, height=60_000),
    "JPEG 2000, 6300x6300 of 2 KB": lambda: jpeg2000(width=6300, height=6300, tile_width=6300, tile_height=6300),
    "JPEG 2000, tiles of one pixel": lambda: jpeg2000(width=6300, height=6300, tile_width=1, tile_height=1),
    "JPEG 2000, tile of 2147483647": lambda: jpeg2000(tile_width=2**31 - 1, tile_height=2**31 - 1),
    "JPEG 2000, far from its corner": lambda: jpeg2000(x=2**31 - 27, y=2**31 - 22, width=2**31 - 1, height=2**31 - 1),
    "JPEG 2000, 65535 layers": lambda: jpeg2000_style(65535, 5),
    "JPEG 2000, 32 levels": lambda: jpeg2000_style(1, 32),
    "JPEG 2000, precincts of a pixel": lambda: jpeg2000_style(65535, 5, b"\x00" + b"\x11" * 5),
    "JPEG 2000, 40 MB": lambda: jp2_of(40 * 2**20),
    "JPEG 2000, a million boxes": lambda: boxes(jp2(), b"free", b"", 10**6, 12),
    "AVIF, 65535x65535": lambda: ispe(b"avif", 65535, 65535),
    "AVIF, 8000x8000 by its header": lambda: ispe(b"avif", 8000, 8000),
    "AVIF, 300 frames": avif_frames,
    "AVIF, boxes in boxes": lambda: nested(b"avif", 100_000),
    "HEIC, 65535x65535": lambda: ispe(b"heic", 65535, 65535),
    "HEIC, 8000x8000 by its header": lambda: ispe(b"heic", 8000, 8000),
    "HEIC, boxes in boxes": lambda: nested(b"heic", 100_000),
    "JPEG XL, 300 frames": jxl_frames,
    "JPEG XL, EXIF of 1 GB": jxl_brotli,
    "JPEG XL, a million boxes": lambda: boxes(jxl(), b"free", b"", 10**6, 32),
    "JPEG XL, 2^30 pixels wide": lambda: b"\xff\x0a" + struct.pack("<QQ", 2**64 - 2, 2**64 - 1) + bytes(64),
    "JPEG XL, 6300x6300 of 1 KB": lambda: bytes(_codecs.jpegxl_encode(np.zeros((6300, 6300, 3), np.uint8), effort=1)),
}

# ---------------------------------------------------------------- other formats, which are not read


def foreign(start: bytes) -> bytes:
    return start + random.Random(0).randbytes(10**5)


FOREIGN_BOMBS: dict[str, Callable[[], bytes]] = {
    "PSD, 30000x30000": lambda: foreign(b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 30_000, 30_000, 8, 3)),
    "TGA, run lengths": lambda: foreign(struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, 65535, 65535, 24, 0)),
    "PCX": lambda: foreign(b"\x0a\5\1\x08" + struct.pack("<HHHH", 0, 0, 65534, 65534)),
    "SGI": lambda: foreign(b"\1\xda\1\1\0\3" + struct.pack(">HHH", 65535, 65535, 3)),
    "ICO": lambda: foreign(b"\0\0\1\0\xff\xff"),
    "SVG, a billion laughs": lambda: b"<svg>" + b"&a;" * 10**6,
    "EPS": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n{}loop" + bytes(1000),
    "ZIP": lambda: foreign(b"PK\3\4"),
}

BOMBS = PNG_BOMBS | JPEG_BOMBS | TIFF_BOMBS | SMALL_BOMBS | MODERN_BOMBS | FOREIGN_BOMBS


class Bombs:
    """The job of the worker: read one bomb. Making it is not counted."""

    def __init__(self, seed: int) -> None:
        del seed  # there is only one of each
        for kind in ("PNG", "JPEG", "WEBP", "TIFF", "JPEG2000", "AVIF"):
            read_image(encoded(Image.new("RGB", (9, 9)), kind))
        for brand in (b"heic", b"jxl"):
            read_image(jxl() if brand == b"jxl" else of_brand(brand))

    def prepare(self, number: int) -> tuple[str, bytes]:
        """Make the file of a number: its name, and its bytes."""
        name = list(BOMBS)[number]
        return name, BOMBS[name]()

    def run(self, case: tuple[str, bytes]) -> str:
        """Read it: "read" or "refused"."""
        try:
            image = read_image(case[1], label=LABEL)
        except InputError as error:
            check_refusal(error)
            return "refused"
        assert image.double().sum().isfinite() if image.numel() < 10**6 else image[:, ::97].isfinite().all()
        return "read"
