"""How a page finds its pictures: linked by relative addresses, or as small copies inside the page."""

import base64
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

from iqametrics.common.url import is_url
from iqametrics.errors import IqaError
from iqametrics.images.video import FRAME_MARK

_LONGEST_SIDE = 1024
_QUALITY = 80


def address(path: str, root: Path, folder: Path) -> str | None:
    """Write the address of a picture from a page.

    Args:
        path: Path of the picture, from `root`; a frame of a video is `clip.mp4#t=3.000`.
        root: Folder that the paths of the run are relative to.
        folder: Folder of the page.

    Returns:
        The address; None for a picture that came on stdin.
    """
    if path == "-":
        return None
    if is_url(path):
        return path
    file, mark, time = path.rpartition(FRAME_MARK) if FRAME_MARK in path else (path, "", "")
    whole = os.path.abspath(root / file)
    try:
        relative = os.path.relpath(whole, os.path.abspath(folder)).replace(os.sep, "/")
    except ValueError:  # another drive
        return Path(whole).as_uri() + mark + time
    # A first part with a colon would be taken for a scheme.
    start = "./" if ":" in relative.partition("/")[0] else ""
    return start + quote(os.fsencode(relative)) + mark + time


def embedded(paths: Iterable[str], root: Path) -> Iterator[tuple[str, str]]:
    """Make copies of pictures that stand in the page, at most 1,024 pixels wide or high.

    Args:
        paths: Paths from `root`; what cannot be read is left out, since the run has said so.
        root: Folder that they are relative to.

    Yields:
        Path and `data:` address.
    """
    for path in dict.fromkeys(paths):
        if path == "-" or is_url(path) or FRAME_MARK in path:
            continue
        try:
            yield path, _copy(os.path.join(root, path))
        except (IqaError, OSError):
            continue


def _copy(path: str) -> str:
    from PIL import Image

    from iqametrics.images import read_image

    pixels = read_image(path).clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels)
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=_QUALITY)
    return data_address(stream.getvalue(), "image/jpeg")


def data_address(content: bytes, kind: str) -> str:
    """Write content as a `data:` address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
