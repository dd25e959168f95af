"""Many images through one or more metrics: decoded in threads, scored in batches of equal size, in order.

    for row in score_items([metric], [Item("a.jpg"), Item("b.jpg")]):
        print(row.image, row.score if row.error is None else row.error)

In memory at a time are: the preprocessed images of `3 * batch_size` items (fewer where they are large, see
`MAX_HELD_BYTES`), the image that each worker is decoding, a batch of at most `MAX_BATCH_PIXELS`, and cached references
up to `MAX_REFERENCE_BYTES`. A score depends neither on the batch of its image nor on the order.
"""

import hashlib
import os
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from iqametrics.errors import InputError, IqaError
from iqametrics.images import check_sizes, read_image
from iqametrics.metric import Metric, ReferenceFeatures, Sizing

MAX_HELD_BYTES = 2**29
"""Size of the decoded images that wait for their batch; beyond it, only what is needed at once is decoded."""
MAX_REFERENCE_BYTES = 2**29
"""Size of the cached references; beyond it, the least recently used ones are dropped."""
MAX_BATCH_PIXELS = 2**21
"""Pixels of a preprocessed batch: the first maps of a network take some 200 bytes for each pixel."""


Content: TypeAlias = "bytes | np.ndarray | Callable[[], bytes] | None"


@dataclass(frozen=True)
class Item:
    """One image to be scored.

    Attributes:
        image: Path of the image.
        reference: Path of its reference, for full-reference metrics.
        error: Why it cannot be scored, if that is already known.
        reference_error: Why it has no reference, if one was looked for.
        content: The image itself, or what gives it where it is decoded, if it is in no file; `image` is then only what
            it is called.
        reference_content: The same for the reference; `reference` is then only what it is called.
    """

    image: str
    reference: str | None = None
    error: str | None = None
    reference_error: str | None = None
    content: Content = field(default=None, repr=False, compare=False)
    reference_content: Content = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Row:
    """The score of one image by one metric.

    Attributes:
        image: Path of the image.
        reference: Path of the reference that was used; None for a no-reference metric.
        metric: Name of the metric with the tag of its checkpoint.
        score: The score; None where there is an error.
        error: Why there is no score; None where there is one.
        uncertainty: How unlike the photographs of training the image is, where it was asked for and is known.
    """

    image: str
    reference: str | None
    metric: str
    score: float | None
    error: str | None = None
    uncertainty: float | None = None


def on_cpu(metrics: Sequence[Metric]) -> bool:
    """Tell whether all metrics compute on the CPU."""
    return all(next(metric.parameters()).device.type == "cpu" for metric in metrics)


def score_items(
    metrics: Sequence[Metric],
    items: Iterable[Item],
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    uncertainty: bool = False,
) -> Iterator[Row]:
    """Score images, one row for each image and metric: image by image, and within an image metric by metric.

    Args:
        metrics: The metrics; an image is decoded once for all of them.
        items: The images, taken only as they are needed, so there may be infinitely many.
        batch_size: Largest number of images in a batch; None for 1 if all metrics are on the CPU, whose caches one
            image fills, and 8 otherwise.
        workers: Number of threads that decode; None for one for each processor, up to four.
        uncertainty: Whether to compute `Metric.uncertainty` too, of the metrics that know it.

    Yields:
        Rows in the order of `items`. An image that cannot be scored yields rows with an error.

    Raises:
        InputError: If `batch_size` or `workers` is less than 1, or a metric was created as a loss.
    """
    for metric in metrics:
        if metric.as_loss:
            raise InputError(f"{metric.full_name} gives a loss, not scores; make it without as_loss")
    if workers is None:
        workers = min(4, os.cpu_count() or 1)
    if batch_size is None:
        batch_size = 1 if on_cpu(metrics) else 8
    if batch_size < 1 or workers < 1:
        raise InputError(f"batch_size {batch_size} and workers {workers} must be 1 or more")
    decoder = _Decoder(workers)
    try:
        yield from _Scoring(metrics, batch_size, decoder, uncertainty=uncertainty).run(iter(items))
    finally:
        decoder.close()


@dataclass(frozen=True)
class _Picture:
    """A decoded image: its size in the file, and its pixels preprocessed by each sizing."""

    size: tuple[int, int]
    sized: dict[Sizing, Tensor]

    @property
    def nbytes(self) -> int:
        # Sizings that change nothing share their memory.
        return sum({image.data_ptr(): image.nbytes for image in self.sized.values()}.values())


@dataclass
class _Slot:
    """An item being scored; `results` gets a score or an error for each metric, `uncertainties` what was asked for."""

    item: Item
    picture: "Future[_Picture]"
    results: dict[int, float | str] = field(default_factory=dict)
    uncertainties: dict[int, float] = field(default_factory=dict)
    scored: bool = False


_Task: TypeAlias = "tuple[Future[_Picture], str, frozenset[Sizing], Content]"


class _Decoder:
    """Threads that decode images in order of request while there is memory; an urgent image is decoded in any case."""

    def __init__(self, workers: int) -> None:
        self._changed = Condition()  # guards the attributes below
        self._queue: deque[_Task] = deque()
        self._urgent: Future[_Picture] | None = None
        self._held = 0
        self._closed = False
        self._threads = [Thread(target=self._work, name="iqametrics-decode", daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, path: str, sizings: frozenset[Sizing], content: Content = None) -> "Future[_Picture]":
        """Request an image, of a file or of its content; return its future."""
        future: Future[_Picture] = Future()
        with self._changed:
            self._queue.append((future, path, sizings, content))
            self._changed.notify_all()
        return future

    def wait(self, future: "Future[_Picture]", *, urgent: bool) -> bool:
        """Wait for an image, unless it is not urgent and there is no memory for it; return whether it is done."""
        with self._changed:
            if urgent:
                self._urgent = future
                self._changed.notify_all()
            self._changed.wait_for(lambda: future.done() or (not urgent and self._held >= MAX_HELD_BYTES))
        return future.done()

    def release(self, future: "Future[_Picture]") -> None:
        """Give up an image: free its memory, or cancel its decoding."""
        with self._changed:
            self._queue = deque(task for task in self._queue if task[0] is not future)
            if future.done():
                self._held -= 0 if future.exception() else future.result().nbytes
            else:
                future.cancel()
            self._changed.notify_all()

    def close(self) -> None:
        """End the threads, each after the image that it is decoding, and wait for them.

        A thread that returns from torch while the interpreter ends would abort the process.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._next() is not None)
                task = self._next()
                if self._closed or task is None:
                    return
                self._queue.remove(task)
            future, path, sizings, content = task
            try:
                picture = _decode(path, sizings, content)
            except BaseException as error:  # raised again where the image is used
                self._finish(future, None, error)
            else:
                self._finish(future, picture, None)

    def _finish(self, future: "Future[_Picture]", picture: _Picture | None, error: BaseException | None) -> None:
        with self._changed:
            if future.cancelled():  # released while it was being decoded
                return
            if picture is None:
                future.set_exception(error)
            else:
                self._held += picture.nbytes
                future.set_result(picture)
            self._changed.notify_all()

    def _next(self) -> "_Task | None":
        urgent = next((task for task in self._queue if task[0] is self._urgent), None)
        if urgent is None and self._queue and self._held < MAX_HELD_BYTES:
            return self._queue[0]
        return urgent


class _References:
    """Cached references: decoded ahead, encoded once for each metric, kept while there is memory."""

    def __init__(self, metrics: Sequence[Metric], sizings: frozenset[Sizing], decoder: _Decoder) -> None:
        self.metrics = metrics
        self.sizings = sizings
        self.decoder = decoder
        self.pending: dict[Hashable, Future[_Picture]] = {}
        self.cached: OrderedDict[Hashable, tuple[tuple[int, int], dict[int, ReferenceFeatures]]] = OrderedDict()
        self.nbytes = 0

    def expect(self, item: Item) -> None:
        """Request an item's reference, unless it is cached or requested already."""
        key = _reference_key(item)
        if key is not None and key not in self.cached and key not in self.pending:
            self.pending[key] = self.decoder.submit(str(item.reference), self.sizings, item.reference_content)

    def release(self, item: Item, others: Iterable[Item]) -> None:
        """Release a requested reference that was not used, as when its image cannot be read, unless others want it."""
        key = _reference_key(item)
        if key in self.pending and all(key != _reference_key(other) for other in others):
            self.decoder.release(self.pending.pop(key))

    def get(self, item: Item) -> tuple[tuple[int, int], dict[int, ReferenceFeatures]]:
        """Return the size of an item's reference in its file and its features by number of metric.

        Raises:
            InputError: If the reference cannot be read.
        """
        key = _reference_key(item)
        if key in self.cached:
            self.cached.move_to_end(key)
            return self.cached[key]
        self.expect(item)
        future = self.pending.pop(key)
        try:
            self.decoder.wait(future, urgent=True)
            picture = future.result()
            features = {
                number: metric.encode_reference(picture.sized[metric.sizing])
                for number, metric in enumerate(self.metrics)
                if metric.mode == "fr"
            }
        finally:
            self.decoder.release(future)
        self.cached[key] = (picture.size, features)
        self.nbytes += _nbytes(features)
        while self.nbytes > MAX_REFERENCE_BYTES and len(self.cached) > 1:
            _, (_, dropped) = self.cached.popitem(last=False)
            self.nbytes -= _nbytes(dropped)
        return picture.size, features


class _Scoring:
    """Window of items, from the first that is not yielded yet to the last that is requested."""

    def __init__(
        self, metrics: Sequence[Metric], batch_size: int, decoder: _Decoder, *, uncertainty: bool = False
    ) -> None:
        self.metrics = metrics
        self.uncertain = [number for number, metric in enumerate(metrics) if uncertainty and metric.knows_uncertainty]
        self.batch_size = batch_size
        self.decoder = decoder
        self.sizings = frozenset(metric.sizing for metric in metrics)
        self.references = _References(
            metrics, frozenset(metric.sizing for metric in metrics if metric.mode == "fr"), decoder
        )
        self.window: deque[_Slot] = deque()

    def run(self, items: Iterator[Item]) -> Iterator[Row]:
        exhausted = False
        while True:
            while not exhausted and len(self.window) < 3 * self.batch_size:
                item = next(items, None)
                exhausted = item is None
                if item is not None:
                    self._open(item)
            if not self.window:
                return
            if not self.window[0].scored:
                self._score_next_batch()
            slot = self.window.popleft()
            self.decoder.release(slot.picture)
            self.references.release(slot.item, (other.item for other in self.window))
            yield from self._rows(slot)

    def _open(self, item: Item) -> None:
        if item.error is None:
            picture = self.decoder.submit(item.image, self.sizings, item.content)
        else:
            picture = Future()
            picture.set_exception(InputError(item.error))
        if self.references.sizings:
            self.references.expect(item)
        self.window.append(_Slot(item, picture))

    def _score_next_batch(self) -> None:
        """Score the first image of the window together with later ones of the same size."""
        batch: list[_Slot] = []
        limit = self.batch_size
        for slot in list(self.window)[: 2 * self.batch_size]:
            if slot.scored:
                continue
            if not self.decoder.wait(slot.picture, urgent=not batch):
                break  # the decoded images must be scored before there is memory for more
            if (error := slot.picture.exception()) is not None:
                self._fail(slot, error)
                if not batch:
                    return
                continue
            picture = slot.picture.result()
            if not batch:
                largest = max(image.shape[-2] * image.shape[-1] for image in picture.sized.values())
                limit = max(1, min(limit, MAX_BATCH_PIXELS // largest))
            if not batch or picture.size == batch[0].picture.result().size:
                batch.append(slot)
            if len(batch) == limit:
                break
        self._score(batch)

    def _fail(self, slot: _Slot, error: BaseException) -> None:
        """Record an error for all metrics; raise it if it is a fault of our own."""
        if not isinstance(error, IqaError | RuntimeError | MemoryError | OSError):
            raise error
        slot.results = dict.fromkeys(range(len(self.metrics)), _one_line(error))
        slot.scored = True

    def _score(self, batch: list[_Slot]) -> None:
        for number, metric in enumerate(self.metrics):
            references: list[ReferenceFeatures] = []
            slots = batch
            if metric.mode == "fr":
                slots, references = self._with_references(batch, number)
            if slots:
                images = [slot.picture.result().sized[metric.sizing] for slot in slots]
                for slot, result in zip(slots, _apply(metric, images, references), strict=True):
                    slot.results[number] = result
                    if number in self.uncertain and isinstance(result, float):
                        image = slot.picture.result().sized[metric.sizing]
                        slot.uncertainties[number] = metric.uncertainty(image).item()
        for slot in batch:
            slot.scored = True

    def _with_references(self, batch: list[_Slot], number: int) -> tuple[list[_Slot], list[ReferenceFeatures]]:
        """Return the images that have a reference, with its features; record an error for the others."""
        slots, references = [], []
        for slot in batch:
            try:
                references.append(self._reference(slot)[number])
                slots.append(slot)
            except (IqaError, RuntimeError, MemoryError) as error:
                slot.results[number] = _one_line(error)
        return slots, references

    def _reference(self, slot: _Slot) -> dict[int, ReferenceFeatures]:
        item = slot.item
        if item.reference is None:
            raise InputError(item.reference_error or f"{item.image}: has no reference; give one")
        size, features = self.references.get(item)
        # The sizes in the files are compared: preprocessing could make different ones equal.
        check_sizes(slot.picture.result().size, size, item.image)
        return features

    def _rows(self, slot: _Slot) -> Iterator[Row]:
        for number, metric in enumerate(self.metrics):
            result = slot.results[number]
            reference = slot.item.reference if metric.mode == "fr" else None
            good = isinstance(result, float)
            yield Row(
                image=slot.item.image,
                reference=reference,
                metric=metric.full_name,
                score=result if isinstance(result, float) else None,
                error=None if good else str(result),
                uncertainty=slot.uncertainties.get(number),
            )


def _reference_key(item: Item) -> Hashable:
    """Tell references apart: by name, and where they are in no file by what they are; None where there is none."""
    content = item.reference_content
    if item.reference is None:
        return None
    if isinstance(content, np.ndarray):
        digest = hashlib.sha256(content.tobytes()).digest()
        return item.reference, digest, content.shape, content.dtype.str
    return item.reference, content


def _decode(path: str, sizings: frozenset[Sizing], content: Content) -> _Picture:
    """Read an image and preprocess it by each sizing; the full image is not kept."""
    given = content() if callable(content) else content
    image = read_image(path) if given is None else read_image(given, label=path)
    height, width = image.shape[-2:]
    return _Picture((height, width), {sizing: sizing.apply(image[None])[0] for sizing in sizings})


def _apply(metric: Metric, images: list[Tensor], refs: list[ReferenceFeatures]) -> list[float | str]:
    """Score images of one size; if that fails, score them one by one, so that only the bad ones get an error."""
    try:
        batch = images[0][None] if len(images) == 1 else torch.stack(images)
        scores = metric(batch, ReferenceFeatures.cat(refs)) if refs else metric(batch)
        return list(scores.tolist())
    except (IqaError, RuntimeError, MemoryError) as error:
        if len(images) == 1:
            return [_one_line(error)]
    return [result for index, image in enumerate(images) for result in _apply(metric, [image], refs[index : index + 1])]


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else f"{type(error).__name__}: out of memory, or the image cannot be computed with"


def _nbytes(features: dict[int, ReferenceFeatures]) -> int:
    return sum(part.nbytes for part in features.values())
