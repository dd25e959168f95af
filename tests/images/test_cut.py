"""What is cut off is noticed: a file that ends early is refused, or nothing but a trailer was missing."""

import contextlib
import io
import re

import numpy as np
import pytest
import torch
from cut_files import cut_files, encoded
from PIL import Image
from sweep import picture
from sweep_tiff import hand_tiff

from iqametrics.errors import ImageReadError
from iqametrics.images import read_image

FILES = cut_files()


@pytest.mark.parametrize("name", FILES)
def test_cut_anywhere(name):
    if name == "AVIF" and "AVIF" not in Image.registered_extensions().values():
        pytest.skip("this Pillow reads no AVIF")
    data = FILES[name]
    whole = read_image(data)
    for end in sorted({*range(0, len(data), max(1, len(data) // 150)), *range(max(0, len(data) - 24), len(data))}):
        with contextlib.suppress(ImageReadError):
            assert torch.equal(read_image(data[:end]), whole), f"{len(data) - end} bytes are missing"


def refused(data):
    with pytest.raises(ImageReadError, match="damaged or cut short") as caught:
        read_image(data, label="a")
    return str(caught.value)


@pytest.mark.parametrize("count", range(12))
def test_text_of_too_few_numbers(count):
    message = refused(b"P3\n2 2\n255\n" + b"7 " * count)
    assert count == 0 or f"it holds {count} of 12 values" in message


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_one_of_three_strips(order):
    values = picture(3, 255, 42, 48)
    data = hand_tiff(order, 48, 42, [8, 8, 8], {262: (3, [2]), 278: (3, [14])}, values[:14].tobytes())
    assert "1 of 3 strips" in refused(data)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_that_lost_its_middle(mode, options):
    """The end mark is there, and libjpeg fills the rest with gray."""
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    photo = Image.fromarray(noise).resize((320, 320), Image.Resampling.BICUBIC).convert(mode)
    data = encoded(photo, "JPEG", quality=90, **options)
    read_image(data)
    start = data.index(b"\xff\xda") + 14
    end = re.compile(rb"\xff[\xc4\xda\xd9]").search(data, start).start()
    for share in (0.2, 0.5, 0.8):
        message = refused(data[: start + int(share * (end - start))] + data[end:])
        assert "its data end" in message or "restart markers" in message


def test_progressive_jpeg_that_lost_its_last_scans():
    data = encoded(Image.fromarray(picture(3, 255, 90, 90)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    assert "scans are missing" in refused(data[:last] + b"\xff\xd9")


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("size", [(1, 1), (7, 600), (600, 7), (64, 64), (333, 222)])
def test_flat_jpegs_are_not_suspected(mode, size):
    """A flat picture takes next to no data for many rows."""
    image = Image.new(mode, size, 0 if mode == "L" else tuple([200] * len(mode)))
    for options in ({}, {"optimize": True}, {"progressive": True}, {"quality": 1}, {"restart_marker_rows": 1}):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", **options)
        assert read_image(buffer.getvalue()).shape == (3, size[1], size[0])
