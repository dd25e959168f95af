"""Which files of a folder are pictures, and in which order."""

import os
import re
from pathlib import Path

from iqametrics.errors import InputError

IMAGE_SUFFIXES = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".gif", ".bmp", ".dib"),
        *(".tif", ".tiff", ".jp2", ".j2k", ".j2c", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
        *(".heic", ".heif", ".hif", ".jxl", ".jls"),
    ]
)
"""Suffixes (lower case, with the dot) of the formats that `read_image` reads, some of them with the extra `formats`."""


def natural_key(path: str | os.PathLike[str]) -> tuple[object, ...]:
    """Sort key of the natural order: folder by folder, numbers by value, letters without case.

    Args:
        path: A path, usually relative to the folder that is listed.

    Returns:
        A key that compares with any other such key; paths that differ only in case keep a fixed order.

    Examples:
        >>> sorted(["b1.png", "a10.png", "a2.png", "A1.png"], key=natural_key)
        ['A1.png', 'a2.png', 'a10.png', 'b1.png']
    """
    # re.split with a group alternates text, digits, text, ...: equal positions hold equal types.
    parts = tuple(
        tuple(int(piece) if position % 2 else piece.casefold() for position, piece in enumerate(pieces))
        for pieces in (re.split(r"([0-9]+)", part) for part in Path(path).parts)
    )
    return parts, str(path)


def is_file(path: str | os.PathLike[str]) -> bool:
    """Tell whether there is a file at a path; no where that cannot be told (names too long, folders without rights)."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Tell whether there is a folder at a path; no where that cannot be told."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def list_images(folder: str | os.PathLike[str], recursive: bool = False) -> list[Path]:
    """List the pictures of a folder in natural order (`a2.png` before `a10.png`).

    A picture is known by its suffix (`IMAGE_SUFFIXES`, without case); nothing is opened. Names that begin with a dot
    are left out (macOS writes `._photo.jpg` beside `photo.jpg`), and links to folders are not followed.

    Args:
        folder: The folder.
        recursive: Whether to go into its subfolders.

    Returns:
        Paths that begin with `folder`; empty when there is no picture.

    Raises:
        InputError: `folder` is missing, is not a folder or may not be read.
    """
    root = Path(folder)
    if not is_folder(root):
        raise InputError(f"{root}: {_why_no_folder(root)}")
    found: list[Path] = []
    try:
        for here, subfolders, names in os.walk(root, onerror=_raise):
            subfolders[:] = [name for name in subfolders if recursive and not name.startswith(".")]
            found += [Path(here, name) for name in names if _is_image_name(name)]
    except OSError as error:
        raise InputError(f"{error.filename or root}: cannot be listed ({error.strerror}); check its rights") from error
    return sorted(found, key=lambda path: natural_key(path.relative_to(root)))


def _why_no_folder(path: Path) -> str:
    try:
        return "is not a folder; give a folder" if path.exists() else "does not exist; check the path"
    except OSError as error:
        return f"cannot be opened ({error.strerror}); check its name and rights"


def _is_image_name(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def _raise(error: OSError) -> None:
    # os.walk skips a folder that it may not read unless it is told otherwise.
    raise error
