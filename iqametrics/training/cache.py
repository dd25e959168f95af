"""Feature cache: the frozen levels of whole images, computed once and read in crops.

    FOLDER/KEY/key.json      everything the features depend on besides the image; KEY is its SHA-256
    FOLDER/KEY/level3.bin    the maps of level 3, one image after the other, (C, H, W) each
    FOLDER/KEY/index.json    for each image (path, bytes, time of change) its size, where its maps are, their checksums

The index is replaced atomically, after its data are on the disk, so an interrupted build continues where it stopped.
Images are computed one by one, each on one thread, so its features depend on the image alone.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from iqametrics.common.devices import as_float64
from iqametrics.common.files import read_text
from iqametrics.common.locks import locked
from iqametrics.errors import DataError, TrainingError
from iqametrics.images import image_size, read_image
from iqametrics.metric import Sizing
from iqametrics.nn.levels import CELL
from iqametrics.objective import Objective
from iqametrics.training.resume import write_run_file
from iqametrics.training.telling import Count, Telling, say

# Increased when the meaning of the stored numbers changes.
_VERSION = 1
_IMAGES_A_SAVE = 64
_PROBE_SIDE = 96


@dataclass(frozen=True)
class Entry:
    """One image in the cache.

    Attributes:
        size: Height and width of the preprocessed image, in pixels.
        offsets: Position of each stored level's map, in elements.
        shapes: Shape (C, H, W) of each map.
        checksums: CRC-32 of each map; none where the cache is older than checksums.
    """

    size: tuple[int, int]
    offsets: tuple[int, ...]
    shapes: tuple[tuple[int, int, int], ...]
    checksums: tuple[int, ...] = ()


def cache_key(objective: Objective, sizing: Sizing, dtype: str) -> dict[str, object]:
    """Return everything besides the image that the stored features depend on.

    The weights enter by their hash; pixel normalisation and the code itself enter by the features of a fixed pattern.
    """
    weights = hashlib.sha256()
    for name, tensor in sorted(objective.trunk_tensors().items()):
        weights.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    levels = _probe(objective)
    # Rounded: the last bits of a convolution differ between processors.
    probe = [f"{float(as_float64(level).abs().mean()):.4e}" for level in levels]
    return {
        "version": _VERSION,
        "weights": weights.hexdigest(),
        "probe": probe,
        "levels": list(_stored_levels(objective, len(levels))),
        "sizing": sizing.to_dict(),
        "dtype": dtype,
    }


def _probe(objective: Objective) -> list[Tensor]:
    """Compute the levels of a fixed pattern."""
    pattern = torch.arange(3 * _PROBE_SIDE * _PROBE_SIDE, dtype=torch.float32).view(1, 3, _PROBE_SIDE, _PROBE_SIDE)
    device = next((tensor.device for tensor in objective.trunk_tensors().values()), torch.device("cpu"))
    with torch.no_grad():
        return objective.trunk((pattern * 0.618034 % 1).to(device))


def _stored_levels(objective: Objective, count: int) -> tuple[int, ...]:
    return objective.needed_levels or tuple(range(1, count + 1))


class FeatureCache:
    """Features of frozen levels on the disk.

    Args:
        folder: Parent folder of all caches.
        objective: Objective whose trunk computes the features.
        sizing: Preprocessing of each image.
        dtype: Type of the stored numbers.

    Raises:
        TrainingError: If the objective has no frozen levels, so that there is nothing to store.
    """

    def __init__(
        self, folder: Path, objective: Objective, sizing: Sizing, dtype: Literal["float16", "float32"]
    ) -> None:
        if objective.frozen_levels == 0:
            raise TrainingError("cache.enabled = true, but model.frozen_levels = 0 leaves nothing to store; change one")
        key = cache_key(objective, sizing, dtype)
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        self.folder = folder / digest[:16]
        self.objective, self.sizing, self.dtype = objective, sizing, np.dtype(dtype)
        self.levels: tuple[int, ...] = tuple(key["levels"])  # type: ignore[arg-type]
        self._entries: dict[str, Entry] = {}
        self._names: dict[Path, str] = {}
        self._key = key
        self._verified: set[tuple[int, int]] = set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(
                f"{self.folder}: cannot be made ({error.strerror}); set cache.folder to another place or "
                "cache.enabled = false"
            ) from error

    def build(self, paths: Sequence[Path], workers: int) -> None:
        """Compute the features of those images that are not in the cache yet.

        Raises:
            DataError: If an image cannot be read, or its features do not fit the dtype.
            TrainingError: If the disk is too small or full; what is stored already is kept.
        """
        self._names = {path: file_key(path) for path in paths}
        with locked(self.folder / "lock", error=TrainingError):
            write_run_file(self.folder / "key.json", json.dumps(self._key, indent=1))
            self._entries = self._read_index()
            missing = [path for path in self._names if self._names[path] not in self._entries]
            if missing:
                self._announce(missing)
                self._extend(missing, workers)

    def size(self, path: Path) -> tuple[int, int]:
        """Return height and width of a preprocessed image, in pixels."""
        return self._entries[self._names[path]].size

    def maps(self, path: Path) -> list[npt.NDArray]:
        """Read the stored levels of a whole image, (C, H, W) each."""
        entry = self._entries[self._names[path]]
        checksums = entry.checksums or (None,) * len(self.levels)
        return [
            self._read(level, offset, shape, checksum)
            for level, offset, shape, checksum in zip(self.levels, entry.offsets, entry.shapes, checksums, strict=True)
        ]

    def windows(self, path: Path, top: int, left: int, cells: int) -> list[npt.NDArray]:
        """Read a square crop of `cells` x `cells` cells from the cell (top, left); a cell is 32x32 pixels."""
        crops = []
        for level, whole in zip(self.levels, self.maps(path), strict=True):
            scale = CELL // self.objective.trunk_strides[level - 1]
            rows, columns = slice(top * scale, (top + cells) * scale), slice(left * scale, (left + cells) * scale)
            crops.append(whole[:, rows, columns])
        return crops

    def _read(self, level: int, offset: int, shape: tuple[int, int, int], checksum: int | None) -> npt.NDArray:
        # Read in one piece: a memory map reads 4 kB for each page fault, a hundred times slower on a cold disk.
        path, count = self._level_file(level), int(np.prod(shape))
        values = np.fromfile(path, self.dtype, count, offset=offset * self.dtype.itemsize)
        if len(values) < count:
            raise TrainingError(f"{path}: is shorter than its index says; delete its folder and run again")
        # Once is enough: what decays does so between runs.
        if checksum is not None and (level, offset) not in self._verified:
            if zlib.crc32(values.data) != checksum:
                raise TrainingError(f"{path}: its features are not what was written; delete its folder and run again")
            self._verified.add((level, offset))
        return values.reshape(shape)

    def _level_file(self, level: int) -> Path:
        return self.folder / f"level{level}.bin"

    def _read_index(self) -> dict[str, Entry]:
        path = self.folder / "index.json"
        if not path.exists():
            return {}
        try:
            stored = json.loads(read_text(path, error=TrainingError))
            return {name: _entry(values, len(self.levels)) for name, values in stored.items()}
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise TrainingError(f"{path}: is damaged ({error}); delete its folder and run again") from error

    def _ends(self) -> list[int]:
        """Return the number of elements of each level's file that the index covers."""
        ends = [0] * len(self.levels)
        for entry in self._entries.values():
            for i, (offset, shape) in enumerate(zip(entry.offsets, entry.shapes, strict=True)):
                ends[i] = max(ends[i], offset + int(np.prod(shape)))
        return ends

    def _extend(self, paths: list[Path], workers: int) -> None:
        ends = self._ends()
        with contextlib.ExitStack() as stack:
            files = []
            for level, end in zip(self.levels, ends, strict=True):
                stream = stack.enter_context(self._level_file(level).open("ab"))
                # Cut off what a killed build wrote after its last index.
                stream.truncate(end * self.dtype.itemsize)
                stream.seek(0, os.SEEK_END)
                files.append(stream)
            bar = tqdm(paths, desc="features", unit="image", disable=not sys.stderr.isatty())
            counted = Count(Telling(), "features: {} of {} images", len(paths))
            try:
                for number, (path, (size, maps)) in enumerate(zip(bar, self._compute(paths, workers), strict=True), 1):
                    self._append(files, ends, path, size, maps)
                    counted.update()
                    if number % _IMAGES_A_SAVE == 0 or number == len(paths):
                        self._save(files)
            except OSError as error:
                raise TrainingError(
                    f"{self.folder}: cannot be written ({error.strerror}); make room, then again"
                ) from error

    def _append(
        self, files: Sequence[BinaryIO], ends: list[int], path: Path, size: tuple[int, int], maps: list[npt.NDArray]
    ) -> None:
        contents = [values.tobytes() for values in maps]
        entry = Entry(size, tuple(ends), tuple(m.shape for m in maps), tuple(map(zlib.crc32, contents)))
        for i, (stream, values, content) in enumerate(zip(files, maps, contents, strict=True)):
            stream.write(content)
            ends[i] += values.size
        self._entries[self._names[path]] = entry

    def _save(self, files: Sequence[BinaryIO]) -> None:
        for stream in files:
            stream.flush()
            os.fsync(stream.fileno())
        index = {name: dataclasses.astuple(entry) for name, entry in self._entries.items()}
        write_run_file(self.folder / "index.json", json.dumps(index, separators=(",", ":")))

    def _announce(self, paths: Sequence[Path]) -> None:
        """Say how much disk the features will take, before any is computed; refuse where there is too little."""
        needed, free = self._needed_bytes(paths), shutil.disk_usage(self.folder).free
        if needed > free:
            raise TrainingError(
                f"{self.folder}: the features need about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
                "set cache.folder to a larger disk or cache.enabled = false"
            )
        say(
            f"features of {len(paths)} images: {amount(needed)} in {self.folder} ({amount(free)} free), computed "
            "once for all runs that need the same"
        )

    def _needed_bytes(self, paths: Sequence[Path]) -> int:
        """Compute the size of the features from the sizes that the images' headers give."""
        levels = _probe(self.objective)
        shapes = [levels[number - 1].shape[1:] for number in self.levels]
        count = 0
        for path in paths:
            height, width = self.sizing.fit(*image_size(path))
            # A stride leaves a part of a step at the edge as a whole one.
            count += sum(c * -(-height * h // _PROBE_SIDE) * -(-width * w // _PROBE_SIDE) for c, h, w in shapes)
        return count * self.dtype.itemsize

    def _compute(self, paths: list[Path], workers: int) -> Iterator[tuple[tuple[int, int], list[npt.NDArray]]]:
        self.objective.eval()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield from in_order(self._features, paths, workers or os.cpu_count() or 1)
        finally:
            torch.set_num_threads(threads)

    def _features(self, path: Path) -> tuple[tuple[int, int], list[npt.NDArray]]:
        image = self.sizing.apply(read_image(path)[None])
        device = next((tensor.device for tensor in self.objective.trunk_tensors().values()), image.device)
        # Infinity is reported as an error below, not as NumPy's warning.
        with torch.no_grad(), np.errstate(over="ignore"):
            levels = self.objective.trunk(image.to(device))
            maps = [levels[number - 1][0].cpu().numpy().astype(self.dtype) for number in self.levels]
        if not all(np.isfinite(m).all() for m in maps):
            raise DataError(f"{path}: its features do not fit {self.dtype}; set cache.dtype = 'float32'")
        return (image.shape[-2], image.shape[-1]), maps


def in_order(function: Callable, items: Sequence, workers: int) -> Iterator:
    """Apply a function to items in threads; yield results in order, with at most one waiting for each worker."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future] = []
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def to_tensor(views: Sequence[npt.NDArray]) -> Tensor:
    """Copy views of equal size into one float32 tensor (N, C, H, W).

    It is channels-last in memory, with which convolutions take half as long on a CPU.
    """
    out = np.empty((len(views), *views[0].shape), views[0].dtype)
    for target, view in zip(out, views, strict=True):
        np.copyto(target, view)
    return torch.from_numpy(out).to(torch.float32, memory_format=torch.channels_last)


def amount(count: int) -> str:
    """Write a number of bytes for people."""
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def _entry(values: Sequence[Any], levels: int) -> Entry:
    """Read an entry of the index.

    Raises:
        ValueError, TypeError: If it is not an entry.
    """
    size, offsets, shapes, *rest = values
    checksums = rest[0] if rest else []
    lengths = (len(size), len(offsets), len(shapes), len(checksums) or levels, *map(len, shapes))
    numbers = [*size, *offsets, *checksums, *(side for shape in shapes for side in shape)]
    if lengths != (2, levels, levels, levels, *(3,) * levels) or len(rest) > 1:
        raise ValueError(f"it has {lengths} numbers for {levels} levels")
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("a place or a size is no whole number")
    return Entry(tuple(size), tuple(offsets), tuple(map(tuple, shapes)), tuple(checksums))


def file_key(path: Path) -> str:
    """Name a file with its length and time of change, so that a changed one is another."""
    status = path.stat()
    return f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
