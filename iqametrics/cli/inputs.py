"""From the arguments of a command line to images and their references."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from iqametrics.errors import InputError
from iqametrics.images import IMAGE_SUFFIXES, list_images, list_unread
from iqametrics.scoring import Item

_NAMED = 3
"""Files that a note names."""


@dataclass(frozen=True)
class ReferenceFolder:
    """A folder in which references are found by name.

    An image `sub/a.jpg` goes with `sub/a.jpg` of this folder, else with the only picture of `sub` called `a`, whatever
    its suffix.
    """

    root: Path
    used: set[Path] = field(default_factory=set)
    _stems: dict[Path, dict[str, list[Path]]] = field(default_factory=dict)

    def partner(self, relative: PurePath) -> Path:
        """Find the reference of an image.

        Args:
            relative: Path of the image from the folder that was to be scored; its name, where it was given itself.

        Raises:
            InputError: There is none, or there are several.
        """
        found = self._partner(relative)
        self.used.add(found)
        return found

    def unused(self, recursive: bool) -> list[Path]:
        """List the references that no image went with."""
        return [path for path in list_images(self.root, recursive) if path not in self.used]

    def _partner(self, relative: PurePath) -> Path:
        exact = self.root / relative
        if exact.is_file():
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
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
                    stems.setdefault(path.stem, []).append(path)
            self._stems[folder] = stems
        return self._stems[folder]


class Inputs:
    """The images that arguments mean, with their references, in order; read once, as they are needed.

    Args:
        arguments: Files, folders, and "-" for the paths on stdin, one a line.
        stdin: The lines.
        recursive: Whether folders are searched with their subfolders.
        ref: Path of one reference for all images.
        ref_dir: Folder of references.
        strict: Whether what would be passed over becomes an image with an error.

    Raises:
        InputError: `ref_dir` is not a folder.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        stdin: Iterable[str] = (),
        recursive: bool = False,
        ref: str | None = None,
        ref_dir: str | None = None,
        strict: bool = False,
    ) -> None:
        if ref_dir is not None and not Path(ref_dir).is_dir():
            raise InputError(f"{ref_dir}: is not a folder; give --ref-dir the folder of the references")
        self.arguments, self.stdin, self.recursive, self.ref, self.strict = arguments, stdin, recursive, ref, strict
        self.references = None if ref_dir is None else ReferenceFolder(Path(ref_dir))
        self.unread: list[Path] = []
        self.unused: list[Path] = []
        self.unsearched: list[Path] = []

    def __iter__(self) -> Iterator[Item]:
        whole_folders = True
        for argument in self.arguments:
            for given in _lines(self.stdin) if argument == "-" else (argument,):
                whole_folders &= Path(given).is_dir()
                yield from self._items(given)
        # One picture of many leaves references unused on purpose; a folder of outputs should use them all.
        if self.references is not None and whole_folders:
            self.unused = self.references.unused(self.recursive)
            if self.strict:
                yield from (
                    Item(os.fspath(path), error=f"{path}: no image of this name was scored against this reference")
                    for path in self.unused
                )

    def notes(self) -> Iterator[str]:
        """Tell what was passed over, once all images were read; nothing where `strict` made errors of it."""
        if self.strict:
            return
        if self.unread:
            kinds = "a format that is not read" if len(self.unread) == 1 else "formats that are not read"
            yield f"{_count(self.unread, 'file')} of {kinds} passed over: {_first(self.unread)}"
        if self.unsearched:
            yield f"{_count(self.unsearched, 'subfolder')} not searched (give --recursive): {_first(self.unsearched)}"
        if self.unused:
            yield f"{_count(self.unused, 'reference')} without an image: {_first(self.unused)}"

    def _items(self, given: str) -> Iterator[Item]:
        path = Path(given)
        if not path.is_dir():
            yield self._paired(given, PurePath(path.name))
            return
        try:
            found, unread = list_images(path, self.recursive), list_unread(path, self.recursive)
            self.unsearched += [] if self.recursive else _subfolders_with_images(path)
        except InputError as error:
            yield Item(given, error=str(error))
            return
        for image in found:
            yield self._paired(os.fspath(image), image.relative_to(path))
        self.unread += unread
        if self.strict:
            yield from (Item(os.fspath(file), error=_not_read(file)) for file in unread)
        elif not found:
            hint = "check the path" if self.recursive else "use --recursive to search its subfolders"
            passed = f" that can be read ({_first(unread)} cannot)" if unread else ""
            yield Item(given, error=f"{given}: holds no image{passed}; {hint}")

    def _paired(self, path: str, relative: PurePath) -> Item:
        if self.references is None:
            return Item(path, reference=self.ref)
        try:
            return Item(path, reference=os.fspath(self.references.partner(relative)))
        except InputError as error:
            return Item(path, reference_error=str(error))


def _lines(stream: Iterable[str]) -> Iterator[str]:
    for line in stream:
        path = line.rstrip("\r\n")
        if path:
            yield path


def _subfolders_with_images(folder: Path) -> list[Path]:
    """List the direct subfolders that hold a picture of their own."""
    found = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith("."):
            try:
                found += [entry] if list_images(entry) else []
            except InputError:
                found.append(entry)
    return found


def _not_read(path: Path) -> str:
    return f"{path}: {path.suffix.lower()[1:].upper()} files are not read; convert it, or leave out --strict"


def _count(paths: Sequence[Path], noun: str) -> str:
    return f"{len(paths)} {noun}{'' if len(paths) == 1 else 's'}"


def _first(paths: Sequence[Path]) -> str:
    names = ", ".join(path.name for path in paths[:_NAMED])
    return f"{names}, and {len(paths) - _NAMED} more" if len(paths) > _NAMED else names
