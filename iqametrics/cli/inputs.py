"""From the arguments of a command line to images and their references."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from iqametrics.errors import InputError
from iqametrics.images import IMAGE_SUFFIXES, is_file, is_folder, list_images
from iqametrics.scoring import Item


@dataclass(frozen=True)
class ReferenceFolder:
    """A folder in which references are found by name.

    An image `sub/a.jpg` goes with `sub/a.jpg` of this folder, else with the only picture of `sub` called `a`, whatever
    its suffix.
    """

    root: Path
    _stems: dict[Path, dict[str, list[Path]]] = field(default_factory=dict)

    def partner(self, relative: PurePath) -> Path:
        """Find the reference of an image.

        Args:
            relative: Path of the image from the folder that was to be scored; its name, where it was given itself.

        Raises:
            InputError: There is none, or there are several.
        """
        exact = self.root / relative
        if is_file(exact):
            return exact
        candidates = self._by_stem(exact.parent).get(relative.stem, [])
        if len(candidates) == 1:
            return candidates[0]
        if not candidates:
            raise InputError(f"{relative}: has no partner in {self.root}; put its reference there under the same name")
        names = ", ".join(path.name for path in candidates)
        raise InputError(f"{relative}: has several partners in {exact.parent} ({names}); keep one of them")

    def _by_stem(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self._stems:
            stems: dict[str, list[Path]] = {}
            for path in sorted(folder.iterdir()) if is_folder(folder) else []:
                if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
                    stems.setdefault(path.stem, []).append(path)
            self._stems[folder] = stems
        return self._stems[folder]


def find_items(
    arguments: Sequence[str],
    *,
    stdin: Iterable[str] = (),
    recursive: bool = False,
    ref: str | None = None,
    ref_dir: str | None = None,
) -> Iterator[Item]:
    """Find the images that arguments mean, with their references, in order.

    Args:
        arguments: Files, folders, and "-" for the paths on stdin, one a line.
        stdin: The lines.
        recursive: Whether folders are searched with their subfolders.
        ref: Path of one reference for all images.
        ref_dir: Folder of references.

    Raises:
        InputError: `ref_dir` is not a folder.
    """
    folder = None
    if ref_dir is not None:
        if not is_folder(ref_dir):
            raise InputError(f"{ref_dir}: is not a folder; give --ref-dir the folder of the references")
        folder = ReferenceFolder(Path(ref_dir))
    return _items(arguments, stdin, recursive, ref, folder)


def _items(
    arguments: Sequence[str], stdin: Iterable[str], recursive: bool, ref: str | None, folder: ReferenceFolder | None
) -> Iterator[Item]:
    for argument in arguments:
        for given in _lines(stdin) if argument == "-" else (argument,):
            for path, relative, error in _files(given, recursive):
                if error is not None:
                    yield Item(path, error=error)
                elif folder is None:
                    yield Item(path, reference=ref)
                else:
                    yield _paired(path, relative, folder)


def _lines(stream: Iterable[str]) -> Iterator[str]:
    for line in stream:
        path = line.rstrip("\r\n")
        if path:
            yield path


def _files(given: str, recursive: bool) -> Iterator[tuple[str, PurePath, str | None]]:
    """Path, path from the folder that was given, and error of each image that one argument means."""
    path = Path(given)
    if not is_folder(path):
        yield given, PurePath(path.name), None
        return
    try:
        found = list_images(path, recursive)
    except InputError as error:
        yield given, PurePath(), str(error)
        return
    for image in found:
        yield os.fspath(image), image.relative_to(path), None
    if not found:
        hint = "check the path" if recursive else "use --recursive to search its subfolders"
        yield given, PurePath(), f"{given}: holds no image; {hint}"


def _paired(path: str, relative: PurePath, folder: ReferenceFolder) -> Item:
    try:
        return Item(path, reference=os.fspath(folder.partner(relative)))
    except InputError as error:
        return Item(path, reference_error=str(error))
