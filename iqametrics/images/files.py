"""Which files of a folder are pictures, and in which order."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from iqametrics.errors import InputError

IMAGE_SUFFIXES = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".gif", ".bmp", ".dib"),
        *(".tif", ".tiff", ".jp2", ".j2k", ".j2c", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
        *(".heic", ".heif", ".hif", ".jxl", ".jls"),
    ]
)
"""Suffixes (lower case, with the dot) of what `read_image` reads; the last five need the extra `formats`."""

UNREAD_SUFFIXES = frozenset(
    [
        *(".heics", ".jxr", ".wdp", ".hdp"),
        *(".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw"),
        *(".3fr", ".iiq", ".x3f", ".raw", ".exr", ".hdr", ".dpx", ".cin", ".psd", ".psb", ".xcf", ".kra", ".tga"),
        *(".pcx", ".ico", ".icns", ".dds", ".sgi", ".svg", ".svgz", ".eps", ".dcm", ".fits", ".fit", ".qoi", ".bpg"),
    ]
)
"""Suffixes of further pictures, which a folder may hold and `read_image` does not read."""


_PICTURE_SUFFIXES = IMAGE_SUFFIXES | UNREAD_SUFFIXES
_DIGITS = re.compile("([0-9]+)")


@dataclass(frozen=True, slots=True)
class Found:
    """What is found in a folder.

    Attributes:
        path: Path that begins with the folder's.
        kind: "image"; "unread" for a picture in a format that is not read; "unlisted" for a folder that cannot be
            read.
        problem: Why it cannot be read; empty for pictures.
    """

    path: str
    kind: Literal["image", "unread", "unlisted"]
    problem: str = ""


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
    return tuple(map(_name_key, Path(path).parts)), str(path)


def walk_pictures(folder: str | os.PathLike[str], recursive: bool = False) -> Iterator[Found]:
    """Find the pictures of a folder in natural order (`a2.png` before `a10.png`), a folder at a time.

    A picture is known by its suffix (`IMAGE_SUFFIXES`, `UNREAD_SUFFIXES`, without case); nothing is opened. Names that
    begin with a dot are left out (macOS writes `._photo.jpg` beside `photo.jpg`), and links to folders are not
    followed. In memory are the names of one folder and of those above it. A folder that cannot be read is yielded as
    such, and the others are searched.

    Args:
        folder: The folder.
        recursive: Whether to go into its subfolders.

    Yields:
        Pictures, and folders that cannot be read.
    """
    # Not a recursive function: folders may be nested deeper than Python's stack.
    waiting = [iter([(str(Path(folder)), True)])]
    while waiting:
        path, is_folder = next(waiting[-1], (None, False))
        if path is None:
            waiting.pop()
        elif is_folder:
            try:
                waiting.append(_entries(path, recursive))
            except OSError as error:
                yield Found(path, "unlisted", f"{path}: cannot be listed ({error.strerror}); check its rights")
        else:
            suffix = os.path.splitext(path)[1].lower()
            yield Found(path, "image" if suffix in IMAGE_SUFFIXES else "unread")


def list_images(folder: str | os.PathLike[str], recursive: bool = False) -> list[Path]:
    """List the pictures of a folder in natural order; see `walk_pictures`.

    Args:
        folder: The folder.
        recursive: Whether to go into its subfolders.

    Returns:
        Paths that begin with `folder`; empty when there is no picture.

    Raises:
        InputError: If `folder` does not exist or is not a folder, or it or a subfolder may not be read.
    """
    return _listed(folder, recursive, "image")


def list_unread(folder: str | os.PathLike[str], recursive: bool = False) -> list[Path]:
    """List what looks like a picture and cannot be read, in natural order: HEIC, camera raw, drawings and the like.

    Args:
        folder: The folder.
        recursive: Whether to go into its subfolders.

    Returns:
        Paths that begin with `folder` and end with one of `UNREAD_SUFFIXES`.

    Raises:
        InputError: If `list_images` would refuse the folder.
    """
    return _listed(folder, recursive, "unread")


def _listed(folder: str | os.PathLike[str], recursive: bool, kind: str) -> list[Path]:
    root = os.fspath(folder)
    if not os.path.isdir(root):
        problem = "is not a folder; give a folder" if os.path.exists(root) else "does not exist; check the path"
        raise InputError(f"{root}: {problem}")
    found = []
    for each in walk_pictures(root, recursive):
        if each.kind == "unlisted":
            raise InputError(each.problem)
        found += [Path(each.path)] if each.kind == kind else []
    return found


def _entries(folder: str, recursive: bool) -> Iterator[tuple[str, bool]]:
    """Return the pictures and, where they are searched, the subfolders of a folder in natural order."""
    names: list[tuple[str, bool]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                names += [(entry.name, True)] if recursive and not entry.is_symlink() else []
            elif os.path.splitext(entry.name)[1].lower() in _PICTURE_SUFFIXES:
                names.append((entry.name, False))
    names.sort(key=lambda pair: (_name_key(pair[0]), pair[0]))
    before = "" if folder == os.curdir else folder
    return ((os.path.join(before, name), is_folder) for name, is_folder in names)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle
        return False


def _name_key(name: str) -> tuple[object, ...]:
    # re.split with a group alternates text, digits, text, ...: equal positions hold equal types.
    pieces = _DIGITS.split(name)
    return tuple(_number(piece) if position % 2 else piece.casefold() for position, piece in enumerate(pieces))


def _number(digits: str) -> tuple[int, str]:
    """Order numbers by value: by number of digits, then digit by digit, since int() refuses very long ones."""
    significant = digits.lstrip("0")
    return len(significant), significant
