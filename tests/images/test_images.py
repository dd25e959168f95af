"""The door for pictures. Oracles: hand-written PNG, TIFF and ICC files, Pillow, published colour matrices."""

import contextlib
import io
import logging
import os
import struct
import subprocess
import sys
import textwrap
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms, ImageFile, ImageOps, features
from places import ROOT

from iqametrics.errors import ImageReadError, InputError
from iqametrics.images import check_pair, check_tensor, list_images, read_image, to_image_list

RNG = np.random.default_rng(7)
PHOTO = np.asarray(
    Image.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((48, 36), Image.Resampling.BICUBIC)
)
QUICK = settings(max_examples=40, deadline=None)


# ---------------------------------------------------------------- files written by hand


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_filter(kind, row, above, bpp):
    """One row filtered as in the PNG specification (2nd edition, 9.2)."""
    a = np.concatenate([np.zeros(bpp, int), row[:-bpp]])
    c = np.concatenate([np.zeros(bpp, int), above[:-bpp]])
    p = a + above - c
    distances = np.stack([abs(p - a), abs(p - above), abs(p - c)])
    paeth = np.choose(distances.argmin(axis=0), [a, above, c])  # argmin takes the first: the tie order of the standard
    predicted = [np.zeros_like(row), a, above, (a + above) // 2, paeth][kind]
    return bytes([kind]) + ((row - predicted) % 256).astype(np.uint8).tobytes()


def png_rows(array, filters):
    if array.size == 0:
        return b""
    big_endian = array.astype(array.dtype.newbyteorder(">"))
    rows = np.frombuffer(big_endian.tobytes(), np.uint8).reshape(len(array), -1).astype(int)
    bpp = rows.shape[1] // array.shape[1]
    above = np.concatenate([np.zeros_like(rows[:1]), rows[:-1]])
    return b"".join(png_filter(filters[y % len(filters)], rows[y], above[y], bpp) for y in range(len(rows)))


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def write_png(array, filters=(0,), interlaced=False, chunks=b""):
    """(H,W,C) uint8 or uint16 -> the bytes of a PNG: C = 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA."""
    height, width, channels = array.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8 * array.dtype.itemsize, colour, 0, 0, interlaced)
    passes = [array[y::dy, x::dx] for y, x, dy, dx in ADAM7] if interlaced else [array]
    data = zlib.compress(b"".join(png_rows(part, filters) for part in passes))
    body = png_chunk(b"IHDR", header) + chunks + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def write_tiff16(array, order, photometric, deflate=False):
    """(H,W,C) uint16 -> the bytes of a TIFF of one strip; order "<" or ">"."""
    height, width, channels = array.shape
    data = array.astype(order + "u2").tobytes()
    data = zlib.compress(data) if deflate else data
    count = 10 if channels == 4 else 9
    bits_at = 8 + 2 + 12 * count + 4
    tags = [(256, 4, width), (257, 4, height), (258, 3, 16 if channels == 1 else None), (259, 3, 8 if deflate else 1)]
    tags += [(262, 3, photometric), (273, 4, bits_at + 8), (277, 3, channels), (278, 4, height), (279, 4, len(data))]
    tags += [(338, 3, 2)] if channels == 4 else []
    out = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, count)
    for tag, kind, value in tags:
        if value is None:
            out += struct.pack(order + "HHII", tag, kind, channels, bits_at)
        else:
            out += struct.pack(order + "HHI", tag, kind, 1) + struct.pack(order + ("I" if kind == 4 else "Hxx"), value)
    return out + b"\0\0\0\0" + struct.pack(order + "4H", 16, 16, 16, 16) + data


def s15(*values):
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def write_icc(tags, space=b"RGB ", kind=b"mntr", connection=b"XYZ "):
    tags = {
        b"desc": b"desc\0\0\0\0\0\0\0\5test\0" + bytes(78),
        b"wtpt": b"XYZ \0\0\0\0" + s15(0.9642, 1, 0.8249),
        **tags,
    }
    tags[b"cprt"] = b"text\0\0\0\0CC0\0"
    offset, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    head = struct.pack(">I4xI", offset + len(body), 0x02400000) + kind + space + connection
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + s15(0.9642, 1, 0.8249)
    return head.ljust(128, b"\0") + table + body


def curve(*parameters):
    return b"para\0\0\0\0" + struct.pack(">HH", {1: 0, 5: 3}[len(parameters)], 0) + s15(*parameters)


SRGB_CURVE = curve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
# Columns: primaries adapted to D50, as Apple's and Adobe's own profiles print them.
P3_XYZ = np.array([[0.51512, 0.29198, 0.1571], [0.2412, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
ADOBE_XYZ = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])


def matrix_profile(xyz, tone):
    colorants = {name: b"XYZ \0\0\0\0" + s15(*xyz[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return write_icc({**colorants, b"rTRC": tone, b"gTRC": tone, b"bTRC": tone})


DISPLAY_P3 = matrix_profile(P3_XYZ, SRGB_CURVE)
ADOBE_RGB = matrix_profile(ADOBE_XYZ, curve(563 / 256))
GRAY_18 = write_icc({b"kTRC": curve(1.8)}, space=b"GRAY")


def srgb_decode(x):
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def srgb_encode(x):
    x = np.clip(x, 0, 1)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def pixels_of(image):
    """(3,H,W) tensor -> (H,W,3) float64 array."""
    return image.double().numpy().transpose(1, 2, 0)


def on_white(colour, alpha):
    return colour * alpha + (1 - alpha)


# ---------------------------------------------------------------- depth


@QUICK
@given(st.data(), st.sampled_from([np.uint8, np.uint16]), st.sampled_from([1, 3, 4]), st.booleans())
def test_png_round_trip_is_exact(data, dtype, channels, interlaced):
    shape = data.draw(st.tuples(st.integers(1, 11), st.integers(1, 11), st.just(channels)))
    array = data.draw(hnp.arrays(dtype, shape))
    white = np.iinfo(dtype).max
    array[..., 3:] = white
    filters = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=11))
    image = read_image(write_png(array, filters, interlaced))
    assert image.dtype == torch.float32
    expected = np.broadcast_to(array[..., :3], (*shape[:2], 3))
    np.testing.assert_array_equal(np.rint(pixels_of(image) * white), expected)
    assert torch.equal(image, read_image(array if channels > 1 else array[..., 0]))


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("interlaced", [False, True])
def test_16_bit_alpha_is_composited_at_16_bits(channels, interlaced):
    array = RNG.integers(0, 65536, (9, 10, channels)).astype(np.uint16)
    expected = on_white(array[..., :-1] / 65535, array[..., -1:] / 65535)
    found = pixels_of(read_image(write_png(array, (4, 3, 1, 2), interlaced)))
    assert np.abs(found - expected).max() < 2e-7


def test_16_bit_transparent_colour():
    array = RNG.integers(0, 60000, (4, 5, 3)).astype(np.uint16)
    array[1, 2] = array[1, 2] // 256 * 256 + (1, 2, 3)
    array[1, 3] = array[1, 2] + (0, 0, 1)  # differs in the low byte only: not transparent
    found = pixels_of(read_image(write_png(array, chunks=png_chunk(b"tRNS", struct.pack(">3H", *array[1, 2])))))
    expected = array / 65535
    expected[1, 2] = 1
    assert np.abs(found - expected).max() < 1e-7
    gray = np.array([[[300], [301]]], np.uint16)
    found = read_image(write_png(gray, chunks=png_chunk(b"tRNS", struct.pack(">H", 300))))
    assert found[0].tolist() == [[1.0, pytest.approx(301 / 65535)]]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_tiff_keeps_its_precision(order, deflate, channels):
    array = RNG.integers(0, 65536, (5, 7, channels)).astype(np.uint16)
    found = pixels_of(read_image(write_tiff16(array, order, 1 if channels == 1 else 2, deflate)))
    expected = array / 65535
    expected = on_white(expected[..., :3], expected[..., 3:]) if channels == 4 else expected
    assert np.abs(found - expected).max() < 2e-7


def test_16_bit_pgm():
    image = read_image(b"P5 3 1 65535\n" + struct.pack(">3H", 0, 12345, 65535))
    assert torch.equal(image[1], torch.tensor([[0, 12345, 65535]]) / 65535)
    ten_bits = read_image(b"P5 2 1 1023\n" + struct.pack(">2H", 1023, 511))
    assert ten_bits[0].tolist() == [[1.0, pytest.approx(511 / 1023, abs=1e-5)]]


def test_16_bit_tiff_where_white_is_zero():
    array = RNG.integers(0, 65536, (5, 7, 1)).astype(np.uint16)
    assert np.abs(pixels_of(read_image(write_tiff16(array, "<", 0))) - (1 - array / 65535)).max() < 1e-7


def test_12_bit_tiff_has_its_white_at_4095():
    data = bytearray(write_tiff16(np.array([[[0xFFF0], [0x00FF]]], np.uint16), ">", 1))
    at = data.index(struct.pack(">HHIH", 258, 3, 1, 16))
    data[at + 9] = 12
    assert read_image(bytes(data))[0].tolist() == [[1.0, 0.0]]  # FFF, 00F, F: the last is not used


def test_float_images_must_lie_in_0_1():
    values = RNG.random((4, 5)).astype(np.float32)
    image = read_image(encode(Image.fromarray(values), "TIFF"))
    assert torch.equal(image, torch.from_numpy(values).expand(3, -1, -1))
    with pytest.raises(InputError, match=r"x\.tif: values from 0 to 2"):
        read_image(encode(Image.fromarray(np.array([[0, 2]], np.float32)), "TIFF"), label="x.tif")


def test_32_bit_integers_are_refused():
    image = Image.fromarray(np.array([[0, 70000]], np.int32))
    for source, words in ((image, "mode 'I'"), (encode(image, "TIFF"), "of a kind that is not read .*signed")):
        with pytest.raises(ImageReadError, match=words):
            read_image(source)


# ---------------------------------------------------------------- modes


def test_gray_palette_and_one_bit():
    gray = Image.fromarray(PHOTO).convert("L")
    expected = np.repeat(np.asarray(gray)[..., None], 3, axis=2)
    assert np.array_equal(np.rint(pixels_of(read_image(encode(gray, "PNG"))) * 255), expected)
    palette = Image.fromarray(PHOTO).quantize(16)
    found = np.rint(pixels_of(read_image(encode(palette, "PNG"))) * 255)
    assert np.array_equal(found, np.asarray(palette.getpalette()).reshape(-1, 3)[np.asarray(palette)])
    bits = RNG.integers(0, 2, (5, 9)).astype(bool)
    assert np.array_equal(pixels_of(read_image(encode(Image.fromarray(bits), "PNG")))[..., 0], bits)


def test_palette_with_transparency():
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    found = pixels_of(read_image(encode(palette, "PNG", transparency=bytes([255, 0, 51])))) * 255
    assert np.allclose(found, [[[10, 20, 30], [255, 255, 255], on_white(np.array([70, 80, 90]) / 255, 0.2) * 255]])


@pytest.mark.parametrize("mode", ["LA", "RGBA", "La", "RGBa", "PA"])
def test_alpha_is_composited_on_white(mode):
    alpha = RNG.integers(0, 256, PHOTO.shape[:2]).astype(np.uint8)
    image = Image.fromarray(np.dstack([PHOTO, alpha]))
    image = image.convert({"LA": "LA", "La": "LA", "PA": "PA"}.get(mode, "RGBA"))
    if mode in ("La", "RGBa"):  # premultiplied
        image = image.convert(mode)
    straight = image.convert("LA") if mode == "La" else image
    rgba = np.asarray(straight.convert("RGBA")) / 255
    expected = on_white(rgba[..., :3], rgba[..., 3:])
    assert np.abs(pixels_of(read_image(image)) - expected).max() < 1e-6


def test_alpha_of_every_level_stays_in_range():
    colour, alpha = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    image = read_image(np.stack([colour, colour, colour, alpha], axis=-1).astype(np.uint8))
    assert 0 <= image.min() <= image.max() <= 1
    assert np.abs(pixels_of(image)[..., 0] - on_white(colour / 255, alpha / 255)).max() < 1e-6


def test_cmyk_jpeg_of_adobe():
    """Adobe's JPEGs hold CMYK inverted; white paper and full black must come out so."""
    ink = np.zeros((16, 48, 4), np.uint8)
    ink[:, 16:32, 3] = 255
    ink[:, 32:, 0] = 255
    data = encode(Image.fromarray(ink, "CMYK"), "JPEG", quality=100)
    assert b"Adobe" in data
    image = pixels_of(read_image(data))
    for column, expected in ((8, (1, 1, 1)), (24, (0, 0, 0)), (40, (0, 1, 1))):
        assert np.abs(image[8, column] - expected).max() < 0.02


def test_cmyk_with_a_profile_goes_by_the_profile():
    """A made profile: cyan ink is a neutral of L* = 50, any black ink is L* = 0; L* = 50 is 118.9 in sRGB."""
    nodes = [(255 if c == k == 0 else 128 if k == 0 else 0, 128, 128) for c, _, _, k in np.ndindex(2, 2, 2, 2)]
    ramp = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + s15(1, 0, 0, 0, 1, 0, 0, 0, 1) + ramp * 4
    lut += np.array(nodes, np.uint8).tobytes() + ramp * 3
    profile = write_icc({b"A2B0": lut}, space=b"CMYK", kind=b"prtr", connection=b"Lab ")
    image = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    found = pixels_of(read_image(encode(image, "TIFF", icc_profile=profile))) * 255
    assert np.abs(found - 118.9).max() < 2
    assert np.abs(pixels_of(read_image(encode(image, "TIFF"))) - (0, 1, 1)).max() == 0


def turned(pixels, orientation):
    """As the EXIF standard has it: where row 0 and column 0 of the file are in the picture."""
    turns = {1: (0, False), 2: (0, True), 3: (2, False), 4: (2, True), 5: (1, True), 6: (3, False), 7: (3, True)}
    quarters, mirrored = turns.get(orientation, (1, False))
    return np.rot90(pixels[:, ::-1] if mirrored else pixels, quarters)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_tiff_that_pillow_decodes(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = encode(Image.fromarray(PHOTO), "TIFF", compression="jpeg")
    data = encode(Image.fromarray(PHOTO), "TIFF", compression="jpeg", exif=exif)
    expected = turned(pixels_of(read_image(plain)), orientation)
    assert np.array_equal(pixels_of(read_image(data)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind, options in (("PNG", {}), ("TIFF", {}), ("JPEG", {"quality": 95}), ("WEBP", {"lossless": True})):
        data = encode(Image.fromarray(PHOTO), kind, exif=exif, **options)
        upright = turned(PHOTO, orientation)
        if kind == "JPEG":
            upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
        assert np.array_equal(np.rint(pixels_of(read_image(data)) * 255), upright), kind
    chunk = png_chunk(b"eXIf", exif.tobytes()[6:])
    deep = PHOTO.astype(np.uint16) * 257
    assert torch.equal(
        read_image(write_png(deep, chunks=chunk)), read_image(encode(Image.fromarray(PHOTO), "PNG", exif=exif))
    )


# ---------------------------------------------------------------- colour profiles


@pytest.mark.parametrize(("profile", "xyz", "gamma"), [(DISPLAY_P3, P3_XYZ, None), (ADOBE_RGB, ADOBE_XYZ, 563 / 256)])
@pytest.mark.parametrize("depth", [8, 16])
def test_wide_gamut_profiles(profile, xyz, gamma, depth):
    white = 2**depth - 1
    array = RNG.integers(0, white + 1, (12, 20, 3)).astype(f"u{depth // 8}")
    image = read_image(write_png(array, chunks=png_chunk(b"iCCP", b"p\0\0" + zlib.compress(profile))))
    linear = array / white
    linear = srgb_decode(linear) if gamma is None else linear**gamma
    # sRGB's own columns at D50 (Lindbloom, "RGB/XYZ matrices", Bradford-adapted)
    to_xyz = [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
    expected = srgb_encode(linear @ xyz.T @ np.linalg.inv(to_xyz).T)
    assert np.abs(expected - array / white).max() > 0.1  # it would be seen if nothing were done
    assert np.abs(pixels_of(image) - expected).max() < (1.5 / 255 if depth == 8 else 6 / 65535 + 4e-4)


def test_gray_profile():
    array = np.arange(256).reshape(16, 16, 1)
    for scaled in (array.astype(np.uint8), (array * 257).astype(np.uint16)):
        image = read_image(write_png(scaled, chunks=png_chunk(b"iCCP", b"p\0\0" + zlib.compress(GRAY_18))))
        expected = srgb_encode((array / 255) ** 1.8)
        # the line of sRGB near black is steep in 1.8: littlecms rounds there
        assert np.abs(pixels_of(image) - expected).max() < 2 / 255


def test_srgb_profiles_leave_pixels_alone():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = read_image(encode(Image.fromarray(PHOTO), "PNG"))
    assert torch.equal(read_image(encode(Image.fromarray(PHOTO), "PNG", icc_profile=srgb)), plain)
    chunk = png_chunk(b"iCCP", b"p\0\0" + zlib.compress(srgb))
    assert torch.equal(read_image(write_png(PHOTO.astype(np.uint16) * 257, chunks=chunk)), plain)


def test_unusable_profile_is_ignored_with_a_warning(caplog):
    plain = read_image(encode(Image.fromarray(PHOTO), "PNG"))
    profiles = [b"garbage", DISPLAY_P3[:300], GRAY_18, b""]
    for profile in profiles:
        chunk = png_chunk(b"iCCP", b"p\0\0" + zlib.compress(profile)) if profile else b""
        for array in (PHOTO, PHOTO.astype(np.uint16) * 257):
            with caplog.at_level(logging.WARNING):
                assert torch.equal(read_image(write_png(array, chunks=chunk), label="a.png"), plain)
            assert bool(caplog.records) == bool(profile)
            assert all(record.getMessage().startswith("a.png: ") for record in caplog.records)
            caplog.clear()


# ---------------------------------------------------------------- files that are refused


def refused(source, words, error=ImageReadError, **options):
    with pytest.raises(error, match=words) as caught:
        read_image(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert ";" in message  # "what is wrong; what to do"
    return message


def test_paths_that_are_not_files(tmp_path):
    assert refused(tmp_path / "no.png", "does not exist").startswith(str(tmp_path / "no.png"))
    refused(str(tmp_path), "is a folder")
    (tmp_path / "empty.png").touch()
    refused(tmp_path / "empty.png", r"empty\.png: is empty")
    (tmp_path / "text.jpg").write_text("hello, this is not a picture")
    refused(tmp_path / "text.jpg", "is not an image that can be read")
    refused(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is PostScript, which is not read")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        refused(tmp_path / "pipe", "not a regular file")


def test_path_kinds_agree(tmp_path):
    path = tmp_path / "a b é.png"
    Image.fromarray(PHOTO).save(path)
    expected = torch.from_numpy(PHOTO / np.float32(255)).permute(2, 0, 1).contiguous()
    for source in (path, str(path), path.read_bytes(), Image.open(path), PHOTO, expected):
        image = read_image(source)
        assert image.shape == (3, 36, 48)
        assert image.is_contiguous()
        assert torch.equal(image, expected)


def test_one_pixel():
    assert read_image(encode(Image.new("RGB", (1, 1), (255, 0, 51)), "PNG")).flatten().tolist() == pytest.approx(
        [1, 0, 0.2]
    )


def samples():
    noise = Image.fromarray((PHOTO // 2 + RNG.integers(0, 100, PHOTO.shape)).astype(np.uint8))
    kinds = {"JPEG": {}, "PNG": {}, "GIF": {}, "TIFF": {}, "BMP": {}, "PPM": {}, "WEBP": {}, "AVIF": {}, "JPEG2000": {}}
    feature = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}
    files = {k: encode(noise, k) for k in kinds if k not in feature or (k in Image.SAVE and features.check(feature[k]))}
    files["progressive JPEG"] = encode(noise, "JPEG", progressive=True)
    files["LZW TIFF"] = encode(noise, "TIFF", compression="tiff_lzw")
    files["16-bit PNG"] = write_png(RNG.integers(0, 65536, (9, 9, 3)).astype(np.uint16), (4, 3))
    return files


Image.init()
SAMPLES = samples()


@pytest.mark.parametrize("kind", SAMPLES)
def test_truncated_is_refused_or_whole(kind):
    data = SAMPLES[kind]
    whole = read_image(data)
    outcomes = []
    for end in sorted({*range(0, len(data), max(1, len(data) // 60)), len(data) - 1}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                # A picture may come out only if nothing but a trailer is missing.
                assert torch.equal(read_image(data[:end]), whole)
                outcomes.append(end)
            except ImageReadError:
                pass
    assert all(end > 0.7 * len(data) for end in outcomes)
    message = refused(data[: len(data) // 2], "damaged|cut short", label="half")
    assert message.startswith("half: ")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_bytes_raise_only_our_error(data):
    start = data.draw(st.sampled_from([b"", *(sample[:40] for sample in SAMPLES.values())]))
    junk = start[: data.draw(st.integers(0, 40))] + data.draw(st.binary(max_size=200))
    with contextlib.suppress(InputError):
        assert read_image(junk).shape[0] == 3


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(SAMPLES)), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=6))
def test_damaged_files_raise_only_our_error(kind, edits):
    data = bytearray(SAMPLES[kind])
    for position, value in edits:
        data[position % len(data)] = value
    with warnings.catch_warnings(), contextlib.suppress(InputError):
        warnings.simplefilter("ignore")
        assert read_image(bytes(data)).shape[0] == 3


def test_load_truncated_images_is_refused(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    refused(SAMPLES["JPEG"], "LOAD_TRUNCATED_IMAGES", InputError)


def test_enormous_is_refused_before_decoding(monkeypatch):
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(9)))
    refused(bomb, r"30000x30000 is more than 64,000,000 pixels.*IQAMETRICS_MAX_PIXELS")
    monkeypatch.setenv("IQAMETRICS_MAX_PIXELS", "1727")
    refused(SAMPLES["JPEG"], "48x36 is more than 1,727 pixels")
    refused(Image.fromarray(PHOTO), "48x36 is more than 1,727 pixels")
    monkeypatch.setenv("IQAMETRICS_MAX_PIXELS", "1728")
    assert read_image(SAMPLES["JPEG"]).shape == (3, 36, 48)
    monkeypatch.setenv("IQAMETRICS_MAX_PIXELS", "many")
    refused(SAMPLES["JPEG"], "IQAMETRICS_MAX_PIXELS='many'", InputError)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_several_frames_are_refused(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    refused(encode(frames[0], kind, save_all=True, append_images=frames[1:]), "has 2 frames or pages")
    assert read_image(encode(frames[0], kind, save_all=True)).shape == (3, 8, 8)


def test_mpo_is_its_first_picture():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    image = read_image(encode(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert image[0].min() > 0.9
    assert image[2].max() < 0.1


@pytest.mark.parametrize("mode", ["HSV", "LAB"])
def test_other_modes_are_refused(mode):
    refused(Image.new(mode, (4, 4)), f"mode '{mode}'")


def test_truncated_pil_image_is_refused(tmp_path):
    path = tmp_path / "cut.jpg"
    path.write_bytes(SAMPLES["JPEG"][:-300])
    with Image.open(path) as image:
        assert refused(image, "cut short").startswith(str(path))


# ---------------------------------------------------------------- arrays and tensors


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((0, 5, 3), np.uint8), "has no pixels"),
        (np.zeros((4, 5), bool), "dtype bool"),
        (np.zeros((4, 5), np.int64), "dtype int64"),
        (np.zeros((3, 4, 5), np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((6, 5, 2), np.uint8), "give "),
        (np.zeros((2, 4, 5, 3), np.uint8), r"list\(array\)"),
        (np.zeros(5, np.uint8), "is not an image"),
        (np.array(3.0), "is not an image"),
        (np.full((4, 5), np.nan), "NaN"),
        (np.full((4, 5), np.inf), "NaN or infinity"),
        (np.full((4, 5), 200.0), "divide by 255"),
        (np.full((4, 5), -0.5), r"\(x \+ 1\) / 2"),
        (np.full((4, 5), -3.0), "normalisation"),
        ({"a": 1}, "a dict is not an image"),
        (None, "NoneType"),
    ],
)
def test_arrays_that_are_refused(array, words):
    refused(array, words, InputError, label="x")


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "f2", "<f4", ">f8"])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
def test_arrays_that_are_read(dtype, shape):
    white = {"u1": 255, "u2": 65535}.get(dtype[-2:], 1)
    array = (RNG.random(shape) * white).astype(dtype)
    values = np.atleast_3d(array.astype(float)) / white
    expected = on_white(values[..., :3], values[..., 3:]) if shape[-1] == 4 else np.broadcast_to(values, (4, 5, 3))
    assert np.abs(pixels_of(read_image(array)) - expected).max() < 1e-6
    flipped = np.ascontiguousarray(array[::-1])[::-1]  # negative strides
    assert torch.equal(read_image(flipped), read_image(array))


def test_rounding_outside_the_range_of_an_array_is_clamped():
    array = np.array([[-9e-4, 0.25, 1.0009]])
    assert read_image(array)[0].tolist() == [[0.0, 0.25, 1.0]]


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(()), "is not an RGB image"),
        (torch.zeros(4, 5), "is not an RGB image"),
        (torch.zeros(1, 4, 5), "expand"),
        (torch.zeros(2, 4, 4, 5), "alpha"),
        (torch.zeros(4, 5, 3), "movedim"),
        (torch.zeros(0, 3, 4, 5), "empty"),
        (torch.zeros(3, 0, 5), "empty"),
        (torch.zeros(1, 1, 3, 4, 5), "is not an RGB image"),
        (torch.zeros(3, 4, 5, dtype=torch.int64), r"torch\.int64"),
        (torch.zeros(3, 4, 5, dtype=torch.bool), r"torch\.bool"),
        (torch.full((3, 4, 5), float("nan")), "NaN"),
        (torch.full((3, 4, 5), -float("inf")), "infinity"),
        (torch.full((3, 4, 5), 1.01), "from 1.01 to 1.01"),
        (np.zeros((3, 4, 5)), "expected a torch.Tensor"),
    ],
)
def test_tensors_that_are_refused(tensor, words):
    with pytest.raises(InputError, match=words) as caught:
        check_tensor(tensor, "x")
    assert str(caught.value).startswith("x: ")


def test_uint8_tensors_are_scaled():
    tensor = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256)
    assert torch.equal(check_tensor(tensor), torch.arange(256).expand(3, 1, 256) / 255)
    assert torch.equal(read_image(tensor), to_image_list(tensor)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_keep_gradient_dtype_and_order(dtype):
    batch = torch.rand(3, 3, 4, 5).to(dtype).requires_grad_()
    images = to_image_list(batch)
    assert [image.dtype for image in images] == [dtype] * 3
    sum((i + 1) * image.sum() for i, image in enumerate(images)).backward()
    assert torch.equal(batch.grad, torch.arange(1, 4).to(dtype).view(3, 1, 1, 1).expand_as(batch))
    single = to_image_list(batch[1])[0]
    assert torch.equal(single, batch[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_rounding_outside_the_range_is_clamped_with_its_gradient(dtype):
    image = torch.tensor([-9e-4, 0.0, 0.3, 1.0, 1.0009]).to(dtype).expand(3, 1, 5).clone().requires_grad_()
    clamped = check_tensor(image)
    assert clamped[0, 0].tolist() == [0.0, 0.0, image[0, 0, 2].item(), 1.0, 1.0]
    clamped.sum().backward()
    assert torch.equal(image.grad, torch.ones_like(image))


def test_lists_of_any_kind_and_size(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PHOTO).save(path)
    leaf = torch.rand(3, 4, 5, dtype=torch.float64, requires_grad=True)
    images = to_image_list(
        [path, str(path), path.read_bytes(), Image.new("L", (2, 3)), PHOTO[:5, :6], leaf, leaf[None]]
    )
    sizes = [(36, 48)] * 3 + [(3, 2), (5, 6), (4, 5), (4, 5)]
    assert [tuple(image.shape) for image in images] == [(3, *size) for size in sizes]
    assert images[5] is leaf
    assert images[6].requires_grad
    assert len(to_image_list((path,))) == len(to_image_list(path)) == 1
    with pytest.raises(InputError, match=r"images\[1\]: is damaged"):
        to_image_list([path, path.read_bytes()[:90]])
    with pytest.raises(InputError, match=r"images\[0\]: a batch of 2"):
        to_image_list([torch.rand(2, 3, 4, 5)])
    with pytest.raises(InputError, match="empty"):
        to_image_list([])
    with pytest.raises(InputError, match="a dict is not"):
        to_image_list({})
    with pytest.raises(InputError, match="a batch of 2"):
        read_image(torch.rand(2, 3, 4, 5))


def test_pairs_of_different_size():
    check_pair(torch.zeros(3, 4, 5), torch.zeros(1, 3, 4, 5))
    with pytest.raises(InputError, match=r"^d\.png: is 5x4 but its reference is 6x4; crop or resize"):
        check_pair(torch.zeros(3, 4, 5), torch.zeros(3, 4, 6), "d.png")
    with pytest.raises(InputError, match="rotated"):
        check_pair(torch.zeros(3, 4, 5), torch.zeros(3, 5, 4))


# ---------------------------------------------------------------- folders, memory, imports


def test_list_images(tmp_path):
    for name in [
        "a10.png",
        "a2.PNG",
        "B1.jpeg",
        "notes.txt",
        "._a2.png",
        "sub/x2/p.webp",
        "sub/x10/p.tif",
        ".git/h.png",
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    flat = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert flat == ["a2.PNG", "a10.png", "B1.jpeg"]
    deep = [path.relative_to(tmp_path).as_posix() for path in list_images(str(tmp_path), recursive=True)]
    assert deep == [*flat, "sub/x2/p.webp", "sub/x10/p.tif"]
    assert list_images(tmp_path / "folder.png") == []
    for wrong, words in ((tmp_path / "none", "does not exist"), (tmp_path / "notes.txt", "is not a folder")):
        with pytest.raises(InputError, match=words):
            list_images(wrong)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak memory as Linux tells it")
def test_twelve_megapixels_in_stated_memory(tmp_path):
    """docs/images.md states 180 MB above the idle process for a 12-megapixel JPEG; 144 MB are the tensor itself."""
    photo = Image.fromarray(PHOTO).resize((4000, 3000), Image.Resampling.BILINEAR)
    photo.save(tmp_path / "big.jpg", quality=90)
    Image.fromarray(PHOTO).save(tmp_path / "small.jpg")
    code = """
        import sys
        from iqametrics.images import read_image
        read_image("small.jpg")
        assert not {"torchvision", "scipy", "PIL.ImageCms"} & set(sys.modules)
        now = lambda key: next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith(key)) / 1024
        before = now("VmRSS")
        open("/proc/self/clear_refs", "w").write("5")
        read_image("big.jpg")
        print(now("VmHWM") - before)
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 200
