"""A file costs what docs/images.md says at most: small files that unfold to much are refused from their headers."""

import os
import struct
import subprocess
import sys
import textwrap
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from attack_bombs import (
    gif,
    gif_frame,
    jp2_of,
    jpeg2000_style,
    jpeg_with,
    png_around,
    segment,
    tiff_of_tag,
    tiff_shared_strips,
)
from PIL import Image
from sweep import picture
from sweep_others import bmp, chunk, encode, png
from sweep_tiff import hand_tiff

from iqametrics.errors import ImageReadError
from iqametrics.images import read_image


def webp_header(width, height):
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 26) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sizes + bytes(4)


def directories(count):
    """A TIFF of many directories, each pointing to the next."""
    one = hand_tiff("<", 8, 8, [8] * 3, {262: (3, [2])}, bytes(192))
    (first,) = struct.unpack_from("<I", one, 4)
    size = 2 + 12 * struct.unpack_from("<H", one, first)[0] + 4
    directory = one[first : first + size - 4]
    out = bytearray(one)
    struct.pack_into("<I", out, first + size - 4, len(one))
    return bytes(out) + b"".join(directory + struct.pack("<I", len(one) + size * (i + 1)) for i in range(count))


def circle():
    one = bytearray(hand_tiff("<", 8, 8, [8] * 3, {262: (3, [2])}, bytes(192)))
    (first,) = struct.unpack_from("<I", one, 4)
    struct.pack_into("<I", one, first + 2 + 12 * struct.unpack_from("<H", one, first)[0], first)
    return bytes(one)


def scans(count):
    data = encode(Image.fromarray(picture(3, 255, 64, 64)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + b"\xff\xd9"


def gif_frames(count):
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    return b"GIF89a" + struct.pack("<HHBBB", 4000, 4000, 0x80, 0, 0) + bytes(6) + frame * count + b";"


def tile_of(side):
    tags = {262: (3, [2]), 322: (4, [side]), 323: (4, [side]), 324: (4, [8]), 325: (4, [192]), 259: (3, [8])}
    return hand_tiff("<", 8, 8, [8] * 3, tags, bytes(192))


def unfolding(kind):
    prefix = b"a\0\0" if kind != b"iTXt" else b"a\0\1\0\0\0"
    return png(picture(3, 255), 8, 2, False, chunk(kind, prefix + zlib.compress(bytes(2**27), 9)))


COSTLY = {
    "WebP": (webp_header(16383, 16383), "16383x16383 is more than"),
    "directories": (directories(60_000), "has 1000 or more frames or pages"),
    "circle of directories": (circle(), "turns in a circle"),
    "scans": (scans(3000), "would take too much memory or time .*scans"),
    "GIF frames": (gif_frames(100_000), "has 1000 or more frames or pages"),
    "tile": (tile_of(30_000), "30000x30000 is more than"),
    "profile": (unfolding(b"iCCP"), "would take too much memory or time .*profile"),
    "run lengths": (bmp(6000, 6000, 8, 1, bytes(1024), b"\1\1\0\0" * 6000), "is more than"),
    "deep": (
        png(np.zeros((1, 1, 4), int), 16, 6, False, b"").replace(
            struct.pack(">II", 1, 1), struct.pack(">II", 7000, 7000), 1
        ),
        "damaged|more than 40,000,000 pixels of its kind",
    ),
    "JPEG 2000": (
        encode(Image.new("RGB", (9, 9)), "JPEG2000", no_jp2=True).replace(
            struct.pack(">II", 9, 9), struct.pack(">II", 60_000, 60_000), 1
        ),
        "60000x60000 is more than|cut short",
    ),
    "parts of a JPEG's profile": (jpeg_with(segment(0xE2, b"ICC_PROFILE\0\1\1ab") * 10_000), "too much .*segments"),
    "profile of a JPEG": (jpeg_with(segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(65_000)) * 300), "too much .*profile"),
    "chunks of a PNG": (png_around(chunk(b"abCd", b"") * 300_000), "too much .*chunks"),
    "blocks of a GIF": (gif(8, 8, gif_frame(8, 8, b"\1\x44" * 1_100_000 + b"\0")), "too much .*blocks"),
    "comments of a GIF": (gif(8, 8, b"!\xfe\1a\0" * 600_000 + gif_frame(8, 8)), "too much .*blocks"),
    "bytes between a GIF's blocks": (gif(8, 8, b"x" * 1_100_000 + gif_frame(8, 8)), "too much .*blocks"),
    "bytes of run lengths": (bmp(4000, 4000, 8, 1, bytes(1024), b"\1\7" * 4_100_000), "too much .*run lengths"),
    "strips that are one": (tiff_shared_strips(), "too much .*over one another"),
    "offsets of a TIFF": (tiff_of_tag(273, 1, 4), "too much .*tag 273"),
    "profile of a TIFF": (tiff_of_tag(34675, 1, 20), "too much .*tag 34675"),
    "precincts": (jpeg2000_style(1, 5, b"\x00" + b"\x11" * 5), "too much .*precincts"),
    "bytes of a JPEG 2000": (jp2_of(2**25), "too much .*IQAMETRICS_MAX_PIXELS"),
    "comments of a PGM": (b"P2\n8 8\n255\n" + b"#\n" * 300_000 + b"1 " * 64, "too much .*comments"),
    "text of a picture": (b"P3\n4000 4000\n255\n0\n", "is more than"),
}


@pytest.mark.parametrize("name", COSTLY)
def test_small_files_of_large_cost_are_refused_at_once(name):
    data, words = COSTLY[name]
    tracemalloc.start()
    begin = time.process_time()
    with pytest.raises(ImageReadError, match=words):
        read_image(data)
    seconds, (_, peak) = time.process_time() - begin, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 5  # what docs/images.md states; counting allocations slows it
    assert peak < 6e7 + 2 * len(data)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"tEXt"])
def test_texts_are_not_unfolded(kind):
    """Pillow refuses a text of more than a megabyte, though the picture is intact."""
    plain = read_image(png(picture(3, 255), 8, 2, False, b""))
    assert (read_image(unfolding(kind)) == plain).all()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak memory as Linux tells it")
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["JPEG", "WebP", "PNG"])
def test_memory_a_pixel(kind, tmp_path):
    """At the limits of 64 and 40 million pixels these are about 1 GB; measured here at a tenth of them."""
    pixels, side = (40, 2000) if kind == "WebP" else (64, 2530)
    Image.new("RGBA" if kind != "JPEG" else "RGB", (side, side), (9, 200, 99)).save(tmp_path / "a", kind)
    code = """
        import io
        from PIL import Image
        from iqametrics.images import read_image
        for kind in ("PNG", "JPEG", "WEBP"):
            small = io.BytesIO()
            Image.new("RGB", (9, 9)).save(small, kind)
            read_image(small.getvalue())
        now = lambda key: next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith(key)) / 1024
        before = now("VmRSS")
        open("/proc/self/clear_refs", "w").write("5")
        read_image("a")
        print(now("VmHWM") - before)
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 110
    assert pixels * 10**6 / side**2 > 9.9
