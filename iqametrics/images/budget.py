"""What a picture may cost: its size is read from the header, before anything is decoded."""

import os

from iqametrics.errors import ImageReadError, InputError

MAX_PIXELS = 64_000_000
"""Width times height above which a picture is refused, before it is decoded; five eighths of it for what takes more
memory a pixel: WebP, JPEG 2000, JPEG XL and more than 8 bits a channel. The environment variable
`IQAMETRICS_MAX_PIXELS` sets another limit, for all. At this limit a picture needs about 1 GB (docs/images.md has the
table)."""

MAX_PROFILE_BYTES = 2**24
"""Bytes of the largest colour profile, unpacked."""

MAX_JPEG_SCANS = 100
"""Encoders write some ten scans; each costs a pass over the whole picture."""

MAX_SCANNED_PIXELS = 2 * 10**9
"""Pixels of a JPEG times its scans: some seconds."""

MAX_PARTS = 2**18
"""Chunks, segments or blocks of a file, each of which costs some steps in Python; encoders write a tenth of it."""

MAX_WAVELET_BYTES = 2**25
"""Bytes of a JPEG 2000, of which a slow core decodes seven million a second; not kept to under a limit on pixels that
the user has set."""

MAX_RUN_LENGTH_BYTES = 8 * 10**6
"""Bytes of a BMP that is packed by run lengths, which are unpacked in Python."""


class CostlyError(ValueError):
    """A file that would take more memory or time than a picture of its size may."""


def max_pixels() -> int:
    """Return the greatest allowed width times height: `IQAMETRICS_MAX_PIXELS` if set, else `MAX_PIXELS`.

    Raises:
        InputError: If the variable does not hold a positive whole number.
    """
    text = os.environ.get("IQAMETRICS_MAX_PIXELS", "")
    if not text:
        return MAX_PIXELS
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise InputError(f"IQAMETRICS_MAX_PIXELS={text!r} is not a positive whole number; unset it or give a number")
    return int(text)


def check_size(width: int, height: int, name: str, *, deep: bool = False, cost: int = 1) -> None:
    """Refuse a picture without pixels, or with more than are allowed.

    Args:
        width: Width that the header states.
        height: Height that the header states.
        name: What to call the picture in an error message.
        deep: Whether it has more than 8 bits a channel, or is of a format that takes as much memory.
        cost: How many times the work of a usual picture each pixel is.

    Raises:
        ImageReadError: If it has no pixels, or too many.
    """
    if width < 1 or height < 1:
        raise ImageReadError(f"{name}: has no pixels ({width}x{height}); give at least 1x1")
    limit = max_pixels()
    if deep:
        limit = limit * 5 // 8 if limit == MAX_PIXELS else limit
    limit //= cost
    if width * height > limit:
        kind = " of its kind" if limit != max_pixels() else ""
        raise ImageReadError(
            f"{name}: {width}x{height} is more than {limit:,} pixels{kind}; "
            "scale it down, or set IQAMETRICS_MAX_PIXELS if you trust it"
        )
