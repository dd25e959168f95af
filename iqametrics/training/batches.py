"""From views to batches: crops of cached features, of cached pictures, or of images that are read each time."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from iqametrics.images import image_size, read_image
from iqametrics.metric import Sizing
from iqametrics.nn.levels import CELL
from iqametrics.objective import Batch
from iqametrics.ranking import UNCHAINED
from iqametrics.training.cache import FeatureCache, in_order, to_tensor
from iqametrics.training.data import Portion, RunImage, View
from iqametrics.training.pictures import crop_corner


class CropSource(Protocol):
    """A source of crops and whole images.

    Attributes:
        is_trunk_output: Whether they are output of the trunk, and not images.
    """

    is_trunk_output: bool

    def crop(self, paths: Sequence[Path], views: Sequence[View]) -> list[Tensor]:
        """Return one crop of each file as a list of tensors (N, C, H, W)."""

    def whole(self, paths: Sequence[Path]) -> list[Tensor]:
        """Return whole files of one size."""

    def size(self, path: Path) -> tuple[int, int]:
        """Height and width of a file after sizing."""


class CachedFeatures:
    """Crops of cached features, on the grid of 32-pixel cells.

    Flips mirror the maps. The features of a mirrored image are nearly but not exactly the same, since a stride uses
    only the even pixels.

    Args:
        cache: The cache, built for every image of the run.
        crop: Side of a crop in pixels, a multiple of 32.
        levels: Number of levels of the trunk; those that are not cached are empty tensors.
    """

    is_trunk_output = True

    def __init__(self, cache: FeatureCache, *, crop: int, levels: int) -> None:
        self.cache, self.cells, self.levels = cache, crop // CELL, levels

    def crop(self, paths: Sequence[Path], views: Sequence[View]) -> list[Tensor]:
        """Return crops of trunk features."""
        return self._levels([self._windows(path, view) for path, view in zip(paths, views, strict=True)])

    def whole(self, paths: Sequence[Path]) -> list[Tensor]:
        """Return trunk features of whole images."""
        return self._levels([self.cache.maps(path) for path in paths])

    def size(self, path: Path) -> tuple[int, int]:
        """Height and width of a file after sizing."""
        return self.cache.size(path)

    def _windows(self, path: Path, view: View) -> list[np.ndarray]:
        rows, columns = (side // CELL - self.cells + 1 for side in self.cache.size(path))
        windows = self.cache.windows(path, int(view.top * rows), int(view.left * columns), self.cells)
        return [w[:, :: -1 if view.flip_v else 1, :: -1 if view.flip_h else 1] for w in windows]

    def _levels(self, samples: list[list[np.ndarray]]) -> list[Tensor]:
        levels = [torch.empty(len(samples), 0)] * self.levels
        for number, views in zip(self.cache.levels, zip(*samples, strict=True), strict=True):
            levels[number - 1] = to_tensor(views)
        return levels


class ImageFiles:
    """Crops of images, read at each step.

    Args:
        sizing: Resizing that is applied to each image first.
        crop: Side of a crop in pixels.
    """

    is_trunk_output = False

    def __init__(self, sizing: Sizing, *, crop: int) -> None:
        self.sizing, self.side = sizing, crop
        self._sizes: dict[Path, tuple[int, int]] = {}

    def crop(self, paths: Sequence[Path], views: Sequence[View]) -> list[Tensor]:
        """Return crops of images in [0, 1]."""
        return [torch.stack([self._crop(path, view) for path, view in zip(paths, views, strict=True)])]

    def whole(self, paths: Sequence[Path]) -> list[Tensor]:
        """Return whole images."""
        return [torch.cat([self._read(path) for path in paths])]

    def size(self, path: Path) -> tuple[int, int]:
        """Height and width of a file after sizing."""
        if path not in self._sizes:
            self._sizes[path] = self.sizing.fit(*image_size(path))
        return self._sizes[path]

    def _read(self, path: Path) -> Tensor:
        return self.sizing.apply(read_image(path)[None])

    def _crop(self, path: Path, view: View) -> Tensor:
        image = self._read(path)[0]
        top, left = crop_corner((image.shape[-2], image.shape[-1]), self.side, view)
        crop = image[:, top : top + self.side, left : left + self.side]
        flips = [axis for axis, flip in ((1, view.flip_v), (2, view.flip_h)) if flip]
        return crop.flip(flips) if flips else crop


class Batches:
    """Makes the batches of a run, ahead of time and in order.

    Args:
        source: Source of crops and whole images.
        workers: Number of threads.
        with_reference: Whether references are needed.
        together: Number of crops of an image that follow one another in training.
        pin: Whether batches are put into memory from which a GPU copies while it computes.
    """

    def __init__(
        self, source: CropSource, *, workers: int, with_reference: bool, together: int = 1, pin: bool = False
    ) -> None:
        self.source, self.workers, self.with_reference = source, workers, with_reference
        self.together, self.pin = together, pin

    def training(self, items: Sequence[RunImage], portions: Sequence[Portion]) -> Iterator[Batch]:
        """Yield one batch for each portion."""
        # Asked of the run and not of each batch: a process whose share holds no ranked image must still compute, and
        # gather, what the others do.
        ranked = any(item.chain is not None for item in items)

        def make(portion: Portion) -> Batch:
            chosen = [items[view.item] for view in portion.views]
            images, references = _paths(chosen)
            dist = self.source.crop(images, portion.views)
            ref = self.source.crop(references, portion.views) if self.with_reference else None
            seeds = torch.tensor([view.seed for view in portion.views], dtype=torch.int64)
            batch = self._batch(chosen, dist, ref, ranked=ranked)
            return dataclasses.replace(batch, seeds=seeds, counts=portion.counts, views=self.together)

        return in_order(make, portions, max(self.workers, 1))

    def whole(self, items: Sequence[RunImage], batch_size: int) -> Iterator[tuple[list[int], Batch]]:
        """Yield whole images in batches of one size, with their indices in `items`."""
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, item in enumerate(items):
            by_size.setdefault(self.source.size(item.sample.image), []).append(index)
        chunks = [
            indices[start : start + batch_size]
            for indices in by_size.values()
            for start in range(0, len(indices), batch_size)
        ]

        def make(indices: list[int]) -> tuple[list[int], Batch]:
            chosen = [items[index] for index in indices]
            images, references = _paths(chosen)
            ref = self.source.whole(references) if self.with_reference else None
            return indices, self._batch(chosen, self.source.whole(images), ref)

        return in_order(make, chunks, max(self.workers, 1))

    def _batch(
        self, items: Sequence[RunImage], dist: list[Tensor], ref: list[Tensor] | None, *, ranked: bool = False
    ) -> Batch:
        batch = _batch(items, dist, ref, ranked=ranked)
        return batch.pinned() if self.pin else batch


def _paths(items: Sequence[RunImage]) -> tuple[list[Path], list[Path]]:
    references = [item.sample.reference for item in items if item.sample.reference is not None]
    return [item.sample.image for item in items], references


def _batch(items: Sequence[RunImage], dist: list[Tensor], ref: list[Tensor] | None, *, ranked: bool) -> Batch:
    chains = _chains(items) if ranked else None
    return Batch(
        dist=dist,
        ref=ref,
        mos=torch.tensor([item.sample.mos for item in items], dtype=torch.float32),
        distortion=torch.tensor([item.distortion_class for item in items], dtype=torch.int64),
        source=torch.tensor([item.source for item in items], dtype=torch.int64),
        scenes=torch.tensor([item.scenes for item in items], dtype=torch.float32),
        chains=chains,
        words=None if chains is None else torch.tensor([item.word for item in items], dtype=torch.int64),
        keys=tuple(item.sample.image.name for item in items),
    )


def _chains(items: Sequence[RunImage]) -> Tensor:
    """Return which images are versions of which."""
    return torch.tensor([item.chain or UNCHAINED for item in items], dtype=torch.int64)
