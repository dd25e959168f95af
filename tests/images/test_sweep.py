"""Every kind of file that has a name is read right or refused as unsupported; never wrong, never called damaged.

`benchmarks/decoding_sweep.py` runs all 7,700 files and prints the table; here are all but TIFF's, and a part of those.
"""

import sys

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image
from sweep import Case, outcome, picture, shown, table
from sweep_others import encode, other_cases
from sweep_tiff import COLOURS, tiff_case, tiff_cases

from iqametrics.errors import ImageReadError, InputError
from iqametrics.images import read_image


def read(data):
    return read_image(data).double().numpy().transpose(1, 2, 0)


def wrong(cases):
    outcomes = [(case, outcome(case, read, InputError)) for case in cases]
    allowed = {True: ("refused",), False: ("right", "refused")}
    return [
        f"{case.group}: {case.name}: {how}" for case, how in outcomes if how not in allowed[case.expected is None]
    ], outcomes


@pytest.mark.slow
def test_tiff():
    faults, outcomes = wrong(tiff_cases(every=11))
    assert faults == []
    assert {case.group for case, _ in outcomes} >= {f"TIFF {colour}" for colour in COLOURS}
    assert sum(how == "right" for _, how in outcomes) > 250


@pytest.mark.slow
def test_other_formats():
    faults, outcomes = wrong(other_cases())
    assert faults == []
    refused = [case.name for case, how in outcomes if how == "refused" and case.expected is not None]
    assert refused == ["gray, 12 bits", "gray, 16 bits"]  # lossless JPEGs, as some cameras and scanners write them


def test_the_sweep_can_fail():
    values = picture(3, 255)
    data = encode(Image.fromarray(values), "PNG")
    assert outcome(Case("", "", data, shown(values, 255)), read, InputError) == "right"
    assert outcome(Case("", "", data, shown(255 - values, 255)), read, InputError) == "wrong"
    assert outcome(Case("", "", data[:-30], shown(values, 255)), read, InputError) == "called damaged"
    assert "wrong" in next(table([]))


@pytest.mark.parametrize("layout", ["strips", "tiles"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("colour", ["RGB", "RGBA"])
def test_planes_of_16_bits_without_compression(order, big, layout, colour):
    """What one, planes, was garbled; the same picture in one piece was right."""
    planes, chunky = (
        read(tiff_case(order, big, "none", 1, layout, planar, colour, "u2").data) for planar in (True, False)
    )
    np.testing.assert_array_equal(planes, chunky)


@pytest.mark.parametrize("codec", ["jp2", "j2k"])
@pytest.mark.parametrize("depth", range(9, 17))
@pytest.mark.parametrize("channels", [3, 4])
def test_white_of_deep_jpeg2000_is_white(depth, codec, channels):
    white = np.full((16, 20, channels), 2**depth - 1, np.uint16)
    data = imagecodecs.jpeg2k_encode(white, codecformat=codec, bitspersample=depth, reversible=True)
    assert (read_image(data) == 1).all()


@pytest.mark.parametrize(
    ("module", "what", "make"),
    [
        ("imagecodecs", "JPEG 2000 of 16 bits", lambda v: imagecodecs.jpeg2k_encode(v, reversible=True)),
        ("imagecodecs", "JPEG-LS", imagecodecs.jpegls_encode),
        ("imagecodecs", "JPEG of 12 bits", lambda v: imagecodecs.jpeg8_encode(v >> 4, bitspersample=12)),
        ("pillow_heif", "HEIC", None),
        ("pillow_jxl", "JPEG XL", lambda v: imagecodecs.jpegxl_encode((v >> 8).astype(np.uint8))),
    ],
)
def test_without_the_extra_the_command_is_named(module, what, make, monkeypatch):
    values = picture(3, 65535, 32, 32)
    data = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(40) if make is None else make(values)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ImageReadError, match=rf"{what}.* needs {module}; pip install 'iqametrics\[formats\]'"
    ) as caught:
        read_image(data, label="x")
    assert "damaged" not in str(caught.value)


def test_a_pil_image_of_a_tiff_or_jpeg2000_is_read_as_its_file(tmp_path):
    values = picture(3, 65535, 40, 40)
    for name, data in (
        ("a.tif", tiff_case("<", False, "none", 1, "strips", True, "RGB", "u2").data),
        ("a.jp2", imagecodecs.jpeg2k_encode(values, reversible=True)),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        with Image.open(path) as image:
            assert torch.equal(read_image(image), read_image(path))
        with Image.open(path) as image:
            image.load()
            with pytest.raises(ImageReadError, match="give its path or bytes"):
                read_image(image)
