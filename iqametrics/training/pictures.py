"""Picture cache: the images of a run, decoded and sized once, and read in crops.

    FOLDER/pictures-KEY/key.json     the sizing; KEY is its SHA-256
    FOLDER/pictures-KEY/pixels.bin   one picture after the other, (H, W, 3) in 8 bits
    FOLDER/pictures-KEY/index.json   for each image (path, bytes, time of change) its size, place and checksum

Decoding and scaling a photograph takes far longer than a step on the crop that is cut from it. The index is replaced
atomically, after the pixels are on the disk, so an interrupted build continues where it stopped. Eight bits are what
most files hold; a value that scaling, transparency, a colour profile or 16 bits put between two of them is rounded, by
1/510 at most.
"""

import hashlib
import json
import os
import shutil
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from iqametrics.common.files import read_text
from iqametrics.common.locks import locked
from iqametrics.errors import TrainingError
from iqametrics.images import image_size, read_image
from iqametrics.metric import Sizing
from iqametrics.training.cache import amount, file_key, in_order
from iqametrics.training.data import View
from iqametrics.training.resume import write_run_file
from iqametrics.training.telling import Count, Telling, say

# Increased when the meaning of the stored numbers changes.
_VERSION = 1
_IMAGES_A_SAVE = 64
_GIGABYTE = 1e9
_LEFT_FREE = 2e9
_WHITE = 255


@dataclass(frozen=True)
class Place:
    """One picture in the cache.

    Attributes:
        height: Rows.
        width: Columns.
        offset: Position of its first byte.
        checksum: CRC-32 of its bytes.
    """

    height: int
    width: int
    offset: int
    checksum: int

    @property
    def count(self) -> int:
        """Number of bytes."""
        return self.height * self.width * 3


def read_sized(path: Path, sizing: Sizing) -> npt.NDArray[np.uint8]:
    """Read and size an image as it is stored: (H, W, 3), rounded to 8 bits."""
    image = sizing.apply(read_image(path)[None])[0]
    return (image * _WHITE).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


class PictureCache:
    """Sized pictures on the disk.

    What lies beyond the limit is decoded each time it is needed, and rounded alike: the limit changes no result.

    Args:
        folder: Parent folder of all caches.
        sizing: Sizing of each image.
        gigabytes: Most that the pictures of this sizing may take.

    Raises:
        TrainingError: If the cache's folder cannot be made.
    """

    def __init__(self, folder: Path, sizing: Sizing, *, gigabytes: float) -> None:
        self._key = {"version": _VERSION, "sizing": sizing.to_dict()}
        digest = hashlib.sha256(json.dumps(self._key, sort_keys=True).encode()).hexdigest()
        self.folder = folder / f"pictures-{digest[:16]}"
        self.sizing, self.limit = sizing, int(gigabytes * _GIGABYTE)
        self._places: dict[str, Place] = {}
        self._names: dict[Path, str] = {}
        self._sizes: dict[Path, tuple[int, int]] = {}
        self._verified: set[int] = set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(
                f"{self.folder}: cannot be made ({error.strerror}); set cache.folder to another place or "
                "cache.images = false"
            ) from error

    def build(self, paths: Sequence[Path], workers: int) -> None:
        """Store those images that are not in the cache yet, as far as they fit.

        Raises:
            DataError: If an image cannot be read.
            TrainingError: If the disk is full; what is stored already is kept.
        """
        self._names = {path: file_key(path) for path in paths}
        with locked(self.folder / "lock", error=TrainingError):
            write_run_file(self.folder / "key.json", json.dumps(self._key, indent=1))
            self._places = self._read_index()
            missing = [path for path in self._names if self._names[path] not in self._places]
            chosen = self._announce(missing) if missing else []
            if chosen:
                self._extend(chosen, workers)

    def size(self, path: Path) -> tuple[int, int]:
        """Return height and width of a sized image, from the cache or from the file's header."""
        place = self._places.get(self._name(path))
        if place is not None:
            return place.height, place.width
        if path not in self._sizes:
            self._sizes[path] = self.sizing.fit(*image_size(path))
        return self._sizes[path]

    def rows(self, path: Path, top: int = 0, count: int | None = None) -> npt.NDArray[np.uint8]:
        """Read rows of a sized image from `top` on, all of them without `count`: (count, W, 3)."""
        place = self._places.get(self._name(path))
        if place is None:
            return read_sized(path, self.sizing)[top : None if count is None else top + count]
        if place.offset not in self._verified:
            # Once is enough: what decays does so between runs.
            self._verify(place)
        return self._read(place, top, place.height - top if count is None else count)

    def _name(self, path: Path) -> str:
        if path not in self._names:
            self._names[path] = file_key(path)
        return self._names[path]

    @property
    def _file(self) -> Path:
        return self.folder / "pixels.bin"

    def _read(self, place: Place, top: int, rows: int) -> npt.NDArray[np.uint8]:
        # In one piece: a memory map reads 4 kB for each page fault, a hundred times slower on a cold disk.
        count = rows * place.width * 3
        try:
            values = np.fromfile(self._file, np.uint8, count, offset=place.offset + top * place.width * 3)
        except OSError as error:
            raise TrainingError(f"{self._file}: cannot be read ({error.strerror}); run again with --resume") from error
        if len(values) < count:
            raise TrainingError(f"{self._file}: is shorter than its index says; delete its folder and run again")
        return values.reshape(rows, place.width, 3)

    def _verify(self, place: Place) -> None:
        if zlib.crc32(self._read(place, 0, place.height).data) != place.checksum:
            raise TrainingError(f"{self._file}: its pictures are not what was written; delete its folder and run again")
        self._verified.add(place.offset)

    def _read_index(self) -> dict[str, Place]:
        path = self.folder / "index.json"
        if not path.exists():
            return {}
        try:
            stored = json.loads(read_text(path, error=TrainingError))
            return {name: _place(values) for name, values in stored.items()}
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise TrainingError(f"{path}: is damaged ({error}); delete its folder and run again") from error

    def _end(self) -> int:
        return max((place.offset + place.count for place in self._places.values()), default=0)

    def _announce(self, paths: Sequence[Path]) -> list[Path]:
        """Say how much disk the pictures will take, before any is stored; return those that fit."""
        free = shutil.disk_usage(self.folder).free
        room = min(self.limit - self._end(), int(free - _LEFT_FREE))
        chosen, needed = [], 0
        for path in paths:
            height, width = self.size(path)
            if needed + height * width * 3 <= room:
                chosen.append(path)
                needed += height * width * 3
        if chosen:
            say(
                f"pictures of {len(chosen)} images: {amount(needed)} in {self.folder} ({amount(free)} free), decoded "
                "once for all runs with this sizing"
            )
        if left := len(paths) - len(chosen):
            say(
                f"pictures of {left} images do not fit (cache.images_gb = {self.limit / _GIGABYTE:g}, {amount(free)} "
                "free) and are decoded each time; raise it, delete what other runs left, or set cache.folder to a "
                "larger disk"
            )
        return chosen

    def _extend(self, paths: list[Path], workers: int) -> None:
        end = self._end()
        bar = tqdm(paths, desc="pictures", unit="image", disable=not sys.stderr.isatty())
        counted = Count(Telling(), "pictures: {} of {} images", len(paths))
        try:
            with self._file.open("ab") as stream:
                # Cut off what a killed build wrote after its last index.
                stream.truncate(end)
                stream.seek(0, os.SEEK_END)
                for number, (path, values) in enumerate(zip(bar, self._decode(paths, workers), strict=True), 1):
                    place = Place(values.shape[0], values.shape[1], end, zlib.crc32(values.data))
                    stream.write(values.data)
                    end += place.count
                    self._places[self._names[path]] = place
                    counted.update()
                    if number % _IMAGES_A_SAVE == 0 or number == len(paths):
                        self._save(stream)
        except OSError as error:
            raise TrainingError(
                f"{self.folder}: cannot be written ({error.strerror}); make room, then again"
            ) from error

    def _save(self, stream: BinaryIO) -> None:
        stream.flush()
        os.fsync(stream.fileno())
        index = {name: astuple(place) for name, place in self._places.items()}
        write_run_file(self.folder / "index.json", json.dumps(index, separators=(",", ":")))

    def _decode(self, paths: list[Path], workers: int) -> Iterator[npt.NDArray[np.uint8]]:
        """Decode in threads, each with one thread of torch: many small pools would wait for one another."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield from in_order(lambda path: read_sized(path, self.sizing), paths, workers or os.cpu_count() or 1)
        finally:
            torch.set_num_threads(threads)


class StoredPictures:
    """Crops of cached pictures, in 8 bits; the trainer turns them into [0, 1] where the step runs.

    Args:
        cache: The cache, built for the images of the run.
        crop: Side of a crop in pixels.
    """

    is_trunk_output = False

    def __init__(self, cache: PictureCache, *, crop: int) -> None:
        self.cache, self.side = cache, crop

    def crop(self, paths: Sequence[Path], views: Sequence[View]) -> list[Tensor]:
        """Return crops, (N, 3, side, side), channels last in memory."""
        return [_stacked([self._crop(path, view) for path, view in zip(paths, views, strict=True)])]

    def whole(self, paths: Sequence[Path]) -> list[Tensor]:
        """Return whole images."""
        return [_stacked([self.cache.rows(path) for path in paths])]

    def size(self, path: Path) -> tuple[int, int]:
        """Height and width of a file after sizing."""
        return self.cache.size(path)

    def _crop(self, path: Path, view: View) -> npt.NDArray[np.uint8]:
        top, left = crop_corner(self.cache.size(path), self.side, view)
        crop = self.cache.rows(path, top, self.side)[:, left : left + self.side]
        return crop[:: -1 if view.flip_v else 1, :: -1 if view.flip_h else 1]


def crop_corner(size: tuple[int, int], side: int, view: View) -> tuple[int, int]:
    """Return the first row and column of a view's crop in an image of this height and width."""
    height, width = size
    return int(view.top * (height - side + 1)), int(view.left * (width - side + 1))


def to_unit(images: Tensor) -> Tensor:
    """Return images in [0, 1]: those of 8 bits divided by 255, on their device; others as they are."""
    if images.dtype != torch.uint8:
        return images
    # A number would be multiplied by its inverse on a GPU, which differs from `read_image` in the last bit.
    return images.float() / torch.full((), float(_WHITE), device=images.device)


def _stacked(pictures: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def _place(values: Any) -> Place:
    """Read an entry of the index.

    Raises:
        ValueError, TypeError: If it is not an entry.
    """
    if isinstance(values, Mapping) or not all(type(number) is int and number >= 0 for number in values):
        raise ValueError("a place or a size is no whole number")
    return Place(*values)
