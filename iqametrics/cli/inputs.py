"""From the arguments of a command line to images and their references."""

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import PurePath, PurePosixPath
from urllib.parse import urlsplit

from iqametrics.cli.videos import frame_items
from iqametrics.common.remote import is_remote, read_remote
from iqametrics.errors import InputError
from iqametrics.images import IMAGE_SUFFIXES, walk_pictures
from iqametrics.images.video import is_video
from iqametrics.scoring import Item

_NAMED = 3
"""Files that a note names."""


class ReferenceFolder:
    """A folder in which references are found by name.

    An image `sub/a.jpg` goes with `sub/a.jpg` of this folder, else with the only picture of `sub` called `a`, whatever
    its suffix. Names that differ only in how Unicode spells them (NFC, NFD) are the same, where there is but one.

    Args:
        root: The folder.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.used: set[str] = set()
        self._listings: dict[str, dict[str, list[str]]] = {}

    def partner(self, relative: PurePath) -> str:
        """Find the reference of an image.

        Args:
            relative: Path of the image from the folder that was to be scored; its name, where it was given itself.

        Raises:
            InputError: If there is no partner, or there are several.
        """
        found = self._partner(relative)
        self.used.add(found)
        return found

    def unused(self, recursive: bool) -> Iterator[str]:
        """Return the references that were used for no image."""
        for found in walk_pictures(self.root, recursive):
            if found.kind == "image" and found.path not in self.used:
                yield found.path

    def _partner(self, relative: PurePath) -> str:
        folder = self._folder(relative.parent)
        if folder is not None:
            exact = os.path.join(folder, relative.name)
            if os.path.isfile(exact):
                return exact
            name, stem = _composed(relative.name), _composed(relative.stem)
            pictures = self._listing(folder)
            same = [path for path in pictures.get(stem, []) if _composed(os.path.basename(path)) == name]
            candidates = same or pictures.get(stem, [])
            if len(candidates) == 1:
                return candidates[0]
            if candidates:
                names = _told_apart([os.path.basename(path) for path in candidates])
                raise InputError(f"{relative}: has several partners in {folder} ({names}); keep one of them")
        raise InputError(f"{relative}: has no partner in {self.root}; put its reference there under the same name")

    def _folder(self, relative: PurePath) -> str | None:
        """Find a folder below the root by its path; None where there is none, or where two look alike."""
        here = self.root
        for part in relative.parts:
            exact = os.path.join(here, part)
            if not os.path.isdir(exact):
                alike = [name for name in _names(here) if _composed(name) == _composed(part)]
                exact = os.path.join(here, alike[0]) if len(alike) == 1 else ""
                if not os.path.isdir(exact):
                    return None
            here = exact
        return here

    def _listing(self, folder: str) -> dict[str, list[str]]:
        """Return the pictures of a folder by their stems."""
        if folder not in self._listings:
            stems: dict[str, list[str]] = {}
            for name in sorted(_names(folder)):
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                    stems.setdefault(_composed(stem), []).append(os.path.join(folder, name))
            self._listings[folder] = stems
        return self._listings[folder]


class PassedOver:
    """How many files were passed over, and the names of the first; a hundred thousand names are not kept."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, path: str) -> None:
        """Count a file."""
        self.count += 1
        if len(self.first) < _NAMED:
            self.first.append(os.path.basename(path))

    def counted(self, noun: str) -> str:
        """Return the number with its noun."""
        return f"{self.count} {noun}{'' if self.count == 1 else 's'}"

    def __str__(self) -> str:
        names = ", ".join(self.first)
        return f"{names}, and {self.count - _NAMED} more" if self.count > _NAMED else names


class Inputs:
    """The images that arguments mean, with their references, in order; found as they are needed.

    Args:
        arguments: Files, folders, and "-" for the paths on stdin, one a line.
        stdin: These paths.
        stdin_image: The bytes of a picture; "-" then means that picture.
        recursive: Whether folders are searched with their subfolders.
        ref: Path of one reference for all images.
        ref_dir: Folder of references.
        strict: Whether what would be passed over becomes an image with an error.
        allow_urls: Whether http and https addresses are fetched.
        every: Seconds between the frames of a video.

    Raises:
        InputError: If `ref_dir` is not a folder.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        stdin: Iterable[str] = (),
        stdin_image: bytes | None = None,
        recursive: bool = False,
        ref: str | None = None,
        ref_dir: str | None = None,
        strict: bool = False,
        allow_urls: bool = False,
        every: float = 1.0,
    ) -> None:
        if ref_dir is not None and not os.path.isdir(ref_dir):
            raise InputError(f"{ref_dir}: is not a folder; give --ref-dir the folder of the references")
        self.arguments, self.stdin, self.recursive, self.ref, self.strict = arguments, stdin, recursive, ref, strict
        self.stdin_image = stdin_image
        self.references = None if ref_dir is None else ReferenceFolder(ref_dir)
        self.allow_urls, self.every = allow_urls, every
        self.unread, self.unused, self.unsearched = PassedOver(), PassedOver(), PassedOver()

    def count(self) -> int | None:
        """Count the images; None where they come on stdin, or are frames, and nobody knows."""
        if any(given == "-" or _is_video_file(given) for given in self.arguments) and self.stdin_image is None:
            return None
        return sum(
            sum(found.kind == "image" for found in walk_pictures(given, self.recursive)) if os.path.isdir(given) else 1
            for given in self.arguments
        )

    def __iter__(self) -> Iterator[Item]:
        whole_folders = True
        for argument in self.arguments:
            if argument == "-" and self.stdin_image is not None:
                whole_folders = False
                yield self._from_stdin(self.stdin_image)
                continue
            try:
                for given in self.stdin if argument == "-" else (argument,):
                    whole_folders &= os.path.isdir(given)
                    yield from self._items(given)
            except InputError as error:
                yield Item(argument, error=str(error))
        # One picture of many leaves references unused on purpose; a folder of outputs should use them all.
        if self.references is not None and whole_folders:
            for path in self.references.unused(self.recursive):
                self.unused.add(path)
                if self.strict:
                    yield Item(path, error=f"{path}: no image of this name was scored against this reference")

    def notes(self) -> Iterator[str]:
        """Tell what was passed over, once all images were read; nothing where `strict` made errors of it."""
        if self.strict:
            return
        if self.unread.count:
            kinds = "a format that is not read" if self.unread.count == 1 else "formats that are not read"
            yield f"{self.unread.counted('file')} of {kinds} passed over: {self.unread}"
        if self.unsearched.count:
            yield f"{self.unsearched.counted('subfolder')} not searched (give --recursive): {self.unsearched}"
        if self.unused.count:
            yield f"{self.unused.counted('reference')} without an image: {self.unused}"

    def _items(self, given: str) -> Iterator[Item]:
        if is_remote(given):
            yield self._at_address(given)
        elif _is_video_file(given):
            yield from frame_items(given, self.every, self.ref, paired=self.references is not None)
        elif os.path.isdir(given):
            yield from self._in_folder(given)
        else:
            yield self._paired(given, os.path.dirname(given))

    def _in_folder(self, given: str) -> Iterator[Item]:
        anything, before = False, self.unread.count
        for found in walk_pictures(given, self.recursive):
            anything |= found.kind != "unread"
            if found.kind == "image":
                yield self._paired(found.path, given)
            elif found.kind == "unlisted":
                yield Item(found.path, error=found.problem)
            else:
                self.unread.add(found.path)
                if self.strict:
                    anything = True
                    yield Item(found.path, error=_not_read(found.path))
        if not self.recursive:
            for subfolder in _subfolders_with_images(given):
                self.unsearched.add(subfolder)
        if not anything:
            hint = "check the path" if self.recursive else "use --recursive to search its subfolders"
            passed = f" that can be read ({self.unread} cannot)" if self.unread.count > before else ""
            yield Item(given, error=f"{given}: holds no image{passed}; {hint}")

    def _at_address(self, url: str) -> Item:
        if not self.allow_urls:
            return Item(url, error=f"{url}: is an address; `iqametrics score --allow-urls` fetches it")
        # The last part of an address is its name, as far as references are looked for.
        named = self._paired(PurePosixPath(urlsplit(url).path).name, "")
        return replace(named, image=url, content=partial(read_remote, url))

    def _from_stdin(self, content: bytes) -> Item:
        if self.references is None:
            return Item("-", reference=self.ref, content=content)
        problem = "-: a picture on stdin has no name to find its reference by; give --ref"
        return Item("-", reference_error=problem, content=content)

    def _paired(self, path: str, folder: str) -> Item:
        if self.references is None:
            return Item(path, reference=self.ref)
        relative = PurePath(path).relative_to(folder)
        try:
            return Item(path, reference=self.references.partner(relative))
        except InputError as error:
            return Item(path, reference_error=str(error))


def _is_video_file(given: str) -> bool:
    return is_video(given) and not is_remote(given) and not os.path.isdir(given)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror}); check its rights") from error


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _told_apart(names: Sequence[str]) -> str:
    """Write names one after the other; those that look alike with the code points that differ."""
    alike = {_composed(name) for name in names if sum(_composed(other) == _composed(name) for other in names) > 1}
    return ", ".join(f"{name} = {name!a}" if _composed(name) in alike else name for name in names)


def _subfolders_with_images(folder: str) -> list[str]:
    """List the direct subfolders that hold a picture of their own, or that cannot be looked into."""
    try:
        with os.scandir(folder) as entries:
            paths = [each.path for each in entries if _is_searchable(each)]
    except OSError:
        return []
    return [path for path in sorted(paths) if any(found.kind != "unread" for found in walk_pictures(path))]


def _is_searchable(entry: "os.DirEntry[str]") -> bool:
    return entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")


def _not_read(path: str) -> str:
    suffix = os.path.splitext(path)[1].lower()[1:].upper()
    return f"{path}: {suffix} files are not read; convert it, or leave out --strict"
