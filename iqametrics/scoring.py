"""Many images through one or more metrics: decoded in threads, scored in batches of equal size, in order.

    for row in score_items([metric], [Item("a.jpg"), Item("b.jpg")]):
        print(row.image, row.score if row.error is None else row.error)

What is in memory at a time: the images of `3 * batch_size` items after sizing (fewer where they are large, see
`MAX_HELD_BYTES`), the image that each worker is decoding, a batch of at most `MAX_BATCH_PIXELS`, and the features of
references up to `MAX_REFERENCE_BYTES`. A score depends neither on the batch that its image is in nor on the order.
"""

import os
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread

import torch
from torch import Tensor

from iqametrics.errors import InputError, IqaError
from iqametrics.images import check_pair, read_image
from iqametrics.metric import Metric, ReferenceFeatures, Sizing

MAX_HELD_BYTES = 2**29
"""Decoded images that wait for their batch; beyond it only what is needed at once is decoded."""
MAX_REFERENCE_BYTES = 2**29
"""Features of references that are kept, the least recently used ones going first."""
MAX_BATCH_PIXELS = 2**21
"""Pixels in a batch, after sizing: a network's first maps take some 200 bytes a pixel."""


@dataclass(frozen=True)
class Item:
    """One image to be scored.

    Attributes:
        image: Path of the image.
        reference: Path of its reference, for full-reference metrics.
        error: Why it cannot be scored at all, where that is known beforehand.
        reference_error: Why it has no reference, where one was looked for.
    """

    image: str
    reference: str | None = None
    error: str | None = None
    reference_error: str | None = None


@dataclass(frozen=True)
class Row:
    """The score of one image by one metric.

    Attributes:
        image: Path of the image.
        reference: Path of the reference that was used; None for a no-reference metric.
        metric: Name of the metric with the tag of its checkpoint.
        score: The score; None where there is an error.
        error: Why there is no score; None where there is one.
    """

    image: str
    reference: str | None
    metric: str
    score: float | None
    error: str | None = None


def score_items(
    metrics: Sequence[Metric], items: Iterable[Item], *, batch_size: int | None = None, workers: int | None = None
) -> Iterator[Row]:
    """Score images, one row for each image and metric: image by image, and within an image metric by metric.

    Args:
        metrics: The metrics; an image is decoded once for all of them.
        items: The images; read as they are needed, so they may be endless.
        batch_size: Most images in a batch; None for 1 where all metrics are on the CPU, whose caches one image fills,
            and 8 elsewhere.
        workers: Threads that decode; None for as many as there are processors, up to four.

    Yields:
        Rows in the order of `items`. An image that cannot be scored yields rows with an error.

    Raises:
        InputError: `batch_size` or `workers` is less than 1, or a metric was made to be a loss.
    """
    for metric in metrics:
        if metric.as_loss:
            raise InputError(f"{metric.full_name} gives a loss, not scores; make it without as_loss")
    if workers is None:
        workers = min(4, os.cpu_count() or 1)
    if batch_size is None:
        batch_size = 1 if all(next(metric.parameters()).device.type == "cpu" for metric in metrics) else 8
    if batch_size < 1 or workers < 1:
        raise InputError(f"batch_size {batch_size} and workers {workers} must be 1 or more")
    decoder = _Decoder(workers)
    try:
        yield from _Scoring(metrics, batch_size, decoder).run(iter(items))
    finally:
        decoder.close()


@dataclass(frozen=True)
class _Picture:
    """A decoded image: its size in the file, and what each sizing makes of it."""

    size: tuple[int, int]
    sized: dict[Sizing, Tensor]

    @property
    def nbytes(self) -> int:
        # Sizings that change nothing share their memory.
        return sum({image.data_ptr(): image.nbytes for image in self.sized.values()}.values())


@dataclass
class _Slot:
    """An item on its way; `results` holds a score or an error for each metric as they become known."""

    item: Item
    picture: "Future[_Picture]"
    results: dict[int, float | str] = field(default_factory=dict)
    scored: bool = False


class _Decoder:
    """Threads that decode in order of request while there is room, and what is waited for in any case."""

    def __init__(self, workers: int) -> None:
        self._changed = Condition()  # guards what follows
        self._queue: deque[tuple[Future[_Picture], str, frozenset[Sizing]]] = deque()
        self._urgent: Future[_Picture] | None = None
        self._held = 0
        self._closed = False
        self._threads = [Thread(target=self._work, name="iqametrics-decode", daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, path: str, sizings: frozenset[Sizing]) -> "Future[_Picture]":
        """Have an image decoded."""
        future: Future[_Picture] = Future()
        with self._changed:
            self._queue.append((future, path, sizings))
            self._changed.notify_all()
        return future

    def wait(self, future: "Future[_Picture]", *, urgent: bool) -> bool:
        """Wait for an image; one that is not urgent only while there is room. Return whether it is done."""
        with self._changed:
            if urgent:
                self._urgent = future
                self._changed.notify_all()
            self._changed.wait_for(lambda: future.done() or (not urgent and self._held >= MAX_HELD_BYTES))
        return future.done()

    def release(self, future: "Future[_Picture]") -> None:
        """Count an image as held no longer; one that is not decoded yet will not be."""
        with self._changed:
            self._queue = deque(task for task in self._queue if task[0] is not future)
            if future.done():
                self._held -= 0 if future.exception() else future.result().nbytes
            else:
                future.cancel()
            self._changed.notify_all()

    def close(self) -> None:
        """End the threads, each after the image that it is decoding.

        They are waited for: a thread that comes back from torch while the interpreter ends aborts the process.
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
            future, path, sizings = task
            try:
                picture = _decode(path, sizings)
            except BaseException as error:  # it is raised again where the image is wanted
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

    def _next(self) -> "tuple[Future[_Picture], str, frozenset[Sizing]] | None":
        urgent = next((task for task in self._queue if task[0] is self._urgent), None)
        if urgent is None and self._queue and self._held < MAX_HELD_BYTES:
            return self._queue[0]
        return urgent


class _References:
    """References: decoded ahead, encoded once a metric, kept while there is room."""

    def __init__(self, metrics: Sequence[Metric], sizings: frozenset[Sizing], decoder: _Decoder) -> None:
        self.metrics = metrics
        self.sizings = sizings
        self.decoder = decoder
        self.pending: dict[str, Future[_Picture]] = {}
        self.held: OrderedDict[str, tuple[tuple[int, int], dict[int, ReferenceFeatures]]] = OrderedDict()
        self.nbytes = 0

    def expect(self, path: str) -> None:
        """Have a reference decoded, unless that has been done."""
        if path not in self.held and path not in self.pending:
            self.pending[path] = self.decoder.submit(path, self.sizings)

    def release(self, path: str | None, wanted: Iterable[str | None]) -> None:
        """Let a decoded reference go that was not used, since its image could not be read, unless others want it."""
        if path in self.pending and path not in wanted:
            self.decoder.release(self.pending.pop(path))

    def get(self, path: str) -> tuple[tuple[int, int], dict[int, ReferenceFeatures]]:
        """Give the size of a reference in its file and its features by number of metric.

        Raises:
            InputError: It cannot be read.
        """
        if path in self.held:
            self.held.move_to_end(path)
            return self.held[path]
        self.expect(path)
        future = self.pending.pop(path)
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
        self.held[path] = (picture.size, features)
        self.nbytes += _nbytes(features)
        while self.nbytes > MAX_REFERENCE_BYTES and len(self.held) > 1:
            _, (_, dropped) = self.held.popitem(last=False)
            self.nbytes -= _nbytes(dropped)
        return picture.size, features


class _Scoring:
    """The window of items between the first that has not been yielded and the last that has been opened."""

    def __init__(self, metrics: Sequence[Metric], batch_size: int, decoder: _Decoder) -> None:
        self.metrics = metrics
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
            self.references.release(slot.item.reference, (other.item.reference for other in self.window))
            yield from self._rows(slot)

    def _open(self, item: Item) -> None:
        if item.error is None:
            picture = self.decoder.submit(item.image, self.sizings)
        else:
            picture = Future()
            picture.set_exception(InputError(item.error))
        if self.references.sizings and item.reference is not None:
            self.references.expect(item.reference)
        self.window.append(_Slot(item, picture))

    def _score_next_batch(self) -> None:
        """Score the first image of the window, with those after it that have its size."""
        batch: list[_Slot] = []
        limit = self.batch_size
        for slot in list(self.window)[: 2 * self.batch_size]:
            if slot.scored:
                continue
            if not self.decoder.wait(slot.picture, urgent=not batch):
                break  # what is held must be scored before there is room for more
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
        """Note an error for all metrics; one that is nobody's fault but ours is raised."""
        if not isinstance(error, IqaError | RuntimeError | MemoryError | OSError):
            raise error
        slot.results = dict.fromkeys(range(len(self.metrics)), _one_line(error))
        slot.scored = True

    def _score(self, batch: list[_Slot]) -> None:
        for number, metric in enumerate(self.metrics):
            held: list[ReferenceFeatures] = []
            slots = batch
            if metric.mode == "fr":
                slots, held = self._with_references(batch, number)
            if slots:
                images = [slot.picture.result().sized[metric.sizing] for slot in slots]
                for slot, result in zip(slots, _apply(metric, images, held), strict=True):
                    slot.results[number] = result
        for slot in batch:
            slot.scored = True

    def _with_references(self, batch: list[_Slot], number: int) -> tuple[list[_Slot], list[ReferenceFeatures]]:
        """Find the features of each image's reference; the images without get their error."""
        slots, held = [], []
        for slot in batch:
            try:
                held.append(self._reference(slot)[number])
                slots.append(slot)
            except (IqaError, RuntimeError, MemoryError) as error:
                slot.results[number] = _one_line(error)
        return slots, held

    def _reference(self, slot: _Slot) -> dict[int, ReferenceFeatures]:
        item = slot.item
        if item.reference is None:
            raise InputError(item.reference_error or f"{item.image}: has no reference; give one")
        size, features = self.references.get(item.reference)
        # The sizes in the files are compared: sizing could make different ones equal.
        check_pair(_shaped(slot.picture.result().size), _shaped(size), item.image)
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
            )


def _shaped(size: tuple[int, int]) -> Tensor:
    """Make a stand-in of an image's shape, without its memory."""
    return torch.empty(()).expand(3, *size)


def _decode(path: str, sizings: frozenset[Sizing]) -> _Picture:
    """Read an image and bring it to each size at which a metric looks at it; the full image is not kept."""
    image = read_image(path)
    height, width = image.shape[-2:]
    return _Picture((height, width), {sizing: sizing.apply(image[None])[0] for sizing in sizings})


def _apply(metric: Metric, images: list[Tensor], held: list[ReferenceFeatures]) -> list[float | str]:
    """Score images of one size; where that fails, one by one, so that the others are not lost."""
    try:
        batch = images[0][None] if len(images) == 1 else torch.stack(images)
        scores = metric(batch, ReferenceFeatures.cat(held)) if held else metric(batch)
        return [_finite(score) for score in scores.tolist()]
    except (IqaError, RuntimeError, MemoryError) as error:
        if len(images) == 1:
            return [_one_line(error)]
    return [result for index, image in enumerate(images) for result in _apply(metric, [image], held[index : index + 1])]


def _finite(score: float) -> float | str:
    if score - score == 0:
        return score
    return f"the score is {score}; the checkpoint or the dtype does not suit this image, try float32"


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else f"{type(error).__name__}: out of memory, or the image cannot be computed with"


def _nbytes(features: dict[int, ReferenceFeatures]) -> int:
    return sum(held.nbytes for held in features.values())
