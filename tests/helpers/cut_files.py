"""One small file of each format and layout, to be cut."""

import importlib
import io
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image, ImageCms
from sweep import picture
from sweep_others import bmp, bmp_rows, chunk, png, run_lengths

imagecodecs: Any = importlib.import_module("imagecodecs")  # its types say less than is true
tifffile: Any = importlib.import_module("tifffile")  # its types say less than is true


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(values: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, metadata=None, **options)
    return buffer.getvalue()


def cut_files() -> dict[str, bytes]:
    """Name -> bytes."""
    rgb, deep, rgba = picture(3, 255, 40, 48), picture(3, 65535, 40, 48), picture(4, 255, 40, 48)
    photo = Image.fromarray(rgb)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    wide = profile.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")  # red is blue
    palette = bytes(range(256)) * 4
    places = np.random.default_rng(0).integers(0, 16, (21, 26))
    heif = io.BytesIO()
    pillow_heif.from_pillow(photo).save(heif, quality=80)
    return {
        "JPEG": encoded(photo, "JPEG"),
        "JPEG, restarts": encoded(photo, "JPEG", restart_marker_blocks=2),
        "JPEG, gray": encoded(photo.convert("L"), "JPEG"),
        "JPEG, progressive": encoded(photo, "JPEG", progressive=True, icc_profile=wide),
        "JPEG, 12 bits": imagecodecs.jpeg8_encode(deep >> 4, level=90, bitspersample=12),
        "JPEG-LS": imagecodecs.jpegls_encode(rgb),
        "PNG": encoded(photo, "PNG"),
        "PNG, 16 bits, profile": png(deep, 16, 2, True, chunk(b"tEXt", b"a\0b")),
        "GIF": encoded(photo.quantize(32), "GIF"),
        "BMP": encoded(photo, "BMP"),
        "BMP, run lengths": bmp(26, 21, 8, 1, palette, run_lengths(places, False)),
        "BMP, 4 bits": bmp(26, 21, 4, 0, palette[:64], bmp_rows(places[..., None], 4)),
        "PPM": encoded(photo, "PPM"),
        "PPM, text": b"P3\n6 5\n255\n" + " ".join(map(str, rgb[:5, :6].flatten())).encode() + b"\n",
        "PFM": b"Pf\n26 21\n-1.0\n" + (picture(1, 255) / 255).astype("<f4").tobytes(),
        "WebP": encoded(photo, "WEBP"),
        "WebP, lossless, alpha": encoded(Image.fromarray(rgba), "WEBP", lossless=True, icc_profile=wide),
        "AVIF": imagecodecs.avif_encode(rgb),
        "HEIC": heif.getvalue(),
        "JPEG XL": imagecodecs.jpegxl_encode(rgb, level=90),
        "JPEG XL, lossless": imagecodecs.jpegxl_encode(rgb, lossless=True),
        "JPEG 2000": encoded(photo, "JPEG2000"),
        "JPEG 2000, codestream, 16 bits": imagecodecs.jpeg2k_encode(deep, codecformat="j2k", reversible=True),
        "JPEG 2000, tiles": encoded(photo, "JPEG2000", tile_size=(16, 16)),
        "TIFF": tiff(rgb, rowsperstrip=7),
        "TIFF, three strips, profile last": encoded(photo, "TIFF", icc_profile=wide, strip_size=48 * 3 * 14),
        "TIFF, LZW": tiff(rgb, rowsperstrip=7, compression="lzw", predictor=2),
        "TIFF, deflate, tiles, planes": tiff(
            deep.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", compression="deflate", tile=(16, 16)
        ),
        "TIFF, JPEG": encoded(photo, "TIFF", compression="jpeg"),
        "TIFF, fax": encoded(photo.convert("1"), "TIFF", compression="group4"),
        "BigTIFF": tiff(rgb, bigtiff=True, byteorder=">", compression="packbits"),
    }
