"""Which files of a folder are pictures, and in which order."""

import os
import re
from pathlib import Path

from iqametrics.errors import InputError

IMAGE_SUFFIXES = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".gif", ".bmp", ".dib"),
        *(".tif", ".tiff", ".jp2", ".j2k", ".j2c", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    ]
)
"""Suffixes (lower case, with the dot) of the formats that `read_image` reads."""

UNREAD_SUFFIXES = frozenset(
    [
        *(".heic", ".heif", ".hif", ".heics", ".jxl", ".jls", ".jxr", ".wdp", ".hdp"),
        *(".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw"),
        *(".3fr", ".iiq", ".x3f", ".raw", ".exr", ".hdr", ".dpx", ".cin", ".psd", ".psb", ".xcf", ".kra", ".tga"),
        *(".pcx", ".ico", ".icns", ".dds", ".sgi", ".svg", ".svgz", ".eps", ".dcm", ".fits", ".fit", ".qoi", ".bpg"),
    ]
)
"""Suffixes of further pictures, which a folder may hold and `read_image` does not read."""


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
    return _listed(folder, recursive, IMAGE_SUFFIXES)


def list_unread(folder: str | os.PathLike[str], recursive: bool = False) -> list[Path]:
    """List what looks like a picture and cannot be read, in natural order: HEIC, camera raw, drawings and the like.

    Args:
        folder: The folder.
        recursive: Whether to go into its subfolders.

    Returns:
        Paths that begin with `folder`, known by `UNREAD_SUFFIXES`.

    Raises:
        InputError: As for `list_images`.
    """
    return _listed(folder, recursive, UNREAD_SUFFIXES - IMAGE_SUFFIXES)


def _listed(folder: str | os.PathLike[str], recursive: bool, suffixes: frozenset[str]) -> list[Path]:
    root = Path(folder)
    if not root.is_dir():
        problem = "is not a folder; give a folder" if root.exists() else "does not exist; check the path"
        raise InputError(f"{root}: {problem}")
    found: list[Path] = []
    try:
        for here, subfolders, names in os.walk(root, onerror=_raise):
            subfolders[:] = [name for name in subfolders if recursive and not name.startswith(".")]
            found += [Path(here, name) for name in names if _has_suffix(name, suffixes)]
    except OSError as error:
        raise InputError(f"{error.filename or root}: cannot be listed ({error.strerror}); check its rights") from error
    return sorted(found, key=lambda path: natural_key(path.relative_to(root)))


def _has_suffix(name: str, suffixes: frozenset[str]) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in suffixes


def _raise(error: OSError) -> None:
    # os.walk skips a folder that it may not read unless it is told otherwise.
    raise error
