"""Matrix and tone curve profiles (Display P3, Adobe RGB, ProPhoto, gray gamma) applied to 16-bit pixels.

littlecms through Pillow works on 8 bits only. Nearly every RGB profile is a "matrix/TRC" one, whose arithmetic is
short: a tone curve a channel, a 3x3 matrix to the profile connection space (ICC.1:2022, annex F.3; XYZ at D50), and
back by the sRGB standard (IEC 61966-2-1).
"""

import struct

import numpy as np

# Columns: XYZ of the sRGB primaries, adapted to D50 by Bradford's method (as in the ICC's own sRGB profile).
_SRGB_TO_XYZ = np.array(
    [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
)


class Shaper:
    """A profile of tone curves, ready to bring pixels to sRGB.

    Args:
        profile: The bytes of an ICC profile with tone curves: gray, or RGB with a matrix.
        pixels: The pixels that it is for; a gray profile fits gray ones only.

    Raises:
        ValueError: If the profile is damaged, works by a table instead, or is for other pixels.
    """

    def __init__(self, profile: bytes, pixels: np.ndarray) -> None:
        tags = _tags(profile)
        space = profile[16:20]
        if space == b"GRAY" and (pixels.ndim == 2 or (pixels[..., :3] == pixels[..., :1]).all()):
            names, self._matrix = [b"kTRC"], np.ones((3, 1))
        elif space == b"RGB " and b"A2B0" not in tags:
            names = [b"rTRC", b"gTRC", b"bTRC"]
            to_xyz = np.stack([_xyz(_tag(tags, name)) for name in (b"rXYZ", b"gXYZ", b"bXYZ")], axis=1)
            self._matrix = np.linalg.solve(_SRGB_TO_XYZ, to_xyz)
        else:
            raise ValueError("the profile has no tone curves for these pixels")
        self._curves = [_curve(_tag(tags, name)).astype(np.float32) for name in names]

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Convert pixels.

        Args:
            pixels: (H,W) gray, (H,W,3) RGB or (H,W,4) RGB with alpha, uint16.

        Returns:
            (H,W,3), or (H,W,4) with the alpha as it was; float32 in [0, 1], colours outside sRGB clipped.
        """
        colours = pixels[..., None] if pixels.ndim == 2 else pixels[..., :3]
        last = colours.shape[-1] - 1
        linear = np.stack([curve[colours[..., min(i, last)]] for i, curve in enumerate(self._curves)], axis=-1)
        encoded = _encode(linear @ self._matrix.T.astype(np.float32))
        if pixels.ndim == 2 or pixels.shape[2] != 4:
            return encoded
        return np.concatenate([encoded, np.divide(pixels[..., 3:], np.float32(65535), dtype=np.float32)], axis=-1)


def _encode(linear: np.ndarray) -> np.ndarray:
    """Bring linear light to sRGB values (IEC 61966-2-1), both clipped to [0, 1]."""
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).clip(0, 1)


def _tags(profile: bytes) -> dict[bytes, bytes]:
    """Return the tag table of a profile (ICC.1:2022, 7.3): signature -> data."""
    if profile[36:40] != b"acsp":
        raise ValueError("it is not an ICC profile")
    try:
        (count,) = struct.unpack_from(">I", profile, 128)
        entries = [struct.unpack_from(">4sII", profile, 132 + 12 * i) for i in range(min(count, 100))]
    except struct.error as error:
        raise ValueError("its tag table is cut short") from error
    return {signature: profile[offset : offset + size] for signature, offset, size in entries}


def _tag(tags: dict[bytes, bytes], name: bytes) -> bytes:
    data = tags.get(name, b"")
    if len(data) < 12:
        raise ValueError(f"its tag {name.decode()} is missing or cut short")
    return data


def _fixed(data: bytes, offset: int, count: int) -> np.ndarray:
    """Read `count` numbers of type s15Fixed16."""
    if len(data) < offset + 4 * count:
        raise ValueError("a tag is cut short")
    return np.frombuffer(data, ">i4", count, offset) / 65536


def _xyz(data: bytes) -> np.ndarray:
    return _fixed(data, 8, 3)


def _curve(data: bytes) -> np.ndarray:
    """Return a tone curve (ICC.1:2022, 10.6 curv and 10.18 para) at each of the 65536 values of a channel."""
    x = np.arange(65536) / 65535
    if data[:4] == b"para":
        return _parametric(x, data)
    if data[:4] != b"curv":
        raise ValueError(f"a tone curve is of unknown type {data[:4]!r}")
    (count,) = struct.unpack_from(">I", data, 8)
    if len(data) < 12 + 2 * count:
        raise ValueError("a tone curve is cut short")
    values = np.frombuffer(data, ">u2", count, 12)
    if count == 0:
        return x
    if count == 1:
        return x ** (values[0] / 256)
    return np.interp(x, np.linspace(0, 1, count), values / 65535)


def _parametric(x: np.ndarray, data: bytes) -> np.ndarray:
    """Compute Y = (a X + b)^g + e for X >= d, else c X + f, of which the simpler types leave out a part."""
    (kind,) = struct.unpack_from(">H", data, 8)
    if kind > 4:
        raise ValueError(f"a tone curve is of unknown function type {kind}")
    g, *rest = _fixed(data, 12, (1, 3, 4, 5, 7)[kind]).tolist()
    a, b, c, d, e, f = 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if kind in (1, 2):
        a, b = rest[:2]
        e = f = rest[2] if kind == 2 else 0.0
        d = -b / a if a else 0.0
    elif kind >= 3:
        a, b, c, d = rest[:4]
        e, f = rest[4:] if kind == 4 else (0.0, 0.0)
    with np.errstate(all="ignore"):  # a senseless exponent: what it gives is clipped
        return np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f).clip(0, 1)
