"""Forms in which a program holds a picture: each works, or says in one line what to do."""

import contextlib
import io
import os
import tempfile
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from sweep import picture

from iqametrics.errors import ImageReadError, InputError
from iqametrics.images import list_images, read_image, to_image_list

PHOTO = Image.fromarray(picture(3, 255))
PLAIN = torch.from_numpy(picture(3, 255).transpose(2, 0, 1) / np.float32(255))


def png():
    buffer = io.BytesIO()
    PHOTO.save(buffer, "PNG")
    return buffer


def one_line(source, words, error=InputError):
    for read in (read_image, to_image_list):
        with pytest.raises(error, match=words) as caught:
            read(source)
        assert "\n" not in str(caught.value)
        assert ";" in str(caught.value)


def test_files_in_memory(tmp_path):
    data = png().getvalue()
    written = io.BytesIO()
    written.write(data)  # it stands at its end
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with path.open("rb") as file, tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(data)
        for source in (written, spooled, file, bytearray(data), memoryview(data), data):
            for _ in range(2):
                assert torch.equal(read_image(source), PLAIN)
                assert torch.equal(to_image_list(source)[0], PLAIN)
                assert torch.equal(to_image_list([source])[0], PLAIN)


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png().getvalue())
    closed = png()
    closed.close()
    one_line(closed, "cannot be read .*closed", ImageReadError)
    with path.open("r", encoding="latin-1") as text:
        one_line(text, r"a\.png: gives str, not bytes; open it with mode 'rb'")
    with (tmp_path / "b.png").open("wb") as out:
        one_line(out, r"b\.png: cannot be read")
    one_line(io.BytesIO(), "is empty")
    one_line(iter([PLAIN]), "is not an image; give")
    one_line({"a": 1}, "a dict is not an image")
    one_line(3, "an? int is not an image")


def test_closed_pil_images(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png().getvalue())
    with Image.open(path) as lazy:
        pass
    decoded = Image.open(path)
    decoded.load()
    decoded.close()
    for image in (lazy, decoded):
        one_line(image, "is a PIL image that is closed; score it while it is open")
    copy = Image.fromarray(picture(3, 255))
    assert torch.equal(read_image(copy), PLAIN)


@pytest.mark.parametrize("make", [lambda x: x, lambda x: x.numpy().transpose(1, 2, 0)])
def test_values_that_overshoot(make):
    one_line(make(PLAIN * 1.3), r"values from 0 to 1\.3 are not in \[0, 1\]; clamp what overshoots first")
    one_line(make(PLAIN * 1.2 - 0.1), "clamp what overshoots")
    one_line(make(PLAIN * 255), "divide by 255")
    one_line(make(PLAIN * 2 - 1), r"\(x \+ 1\) / 2")


def test_names_that_no_file_can_have(tmp_path):
    for name in ("a" * 300, "a" * 300 + "/b.png", "a\0b"):
        one_line(os.fspath(tmp_path / name), "cannot be opened|does not exist|is not a path", ImageReadError)
        with pytest.raises(InputError, match=r"does not exist|cannot be opened"):
            list_images(tmp_path / name)
    one_line(os.fsencode(tmp_path / "a.png"), "is not an image")  # bytes are a file's content, not its name


def test_what_is_not_read_is_named():
    for data, words in (
        (b"8BPS\0\1" + bytes(90), "Photoshop"),
        (b"\x76\x2f\x31\x01" + bytes(90), "OpenEXR"),
        (b"%PDF-1.7\n", "PDF"),
    ):
        one_line(data, f"{words}.*which is not read")


def test_decoders_write_nothing(capfd):
    """libtiff and libjpeg write to the process' stderr by themselves."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(
        buffer, "TIFF", compression="tiff_lzw"
    )
    lzw = buffer.getvalue()
    jpeg = io.BytesIO()
    PHOTO.resize((200, 200)).save(jpeg, "TIFF", compression="jpeg")
    middle = len(lzw) // 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in (
            lzw[:middle] + bytes(500) + lzw[middle + 500 :],
            lzw[:middle],
        ):
            with pytest.raises(ImageReadError):
                read_image(data)
        with contextlib.suppress(ImageReadError):
            read_image(jpeg.getvalue()[:800] + bytes(60) + jpeg.getvalue()[860:])
    assert capfd.readouterr() == ("", "")


def test_libtiff_speaks_again_afterwards(capfd):
    """Its lines are somebody else's to hear, outside of our calls."""
    buffer = io.BytesIO()
    PHOTO.save(buffer, "TIFF", compression="tiff_lzw")
    data = buffer.getvalue()
    read_image(data)
    broken = data[: len(data) // 3] + bytes(300) + data[len(data) // 3 + 300 :]
    with pytest.raises(OSError, match=r"decoder error|-2"), Image.open(io.BytesIO(broken)) as image:
        image.load()
    assert "LZW" in capfd.readouterr().err or os.name == "nt"
