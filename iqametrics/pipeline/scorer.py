"""One model a worker, batches of pictures in, one row a picture out."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeAlias

import numpy as np

from iqametrics.errors import InputError
from iqametrics.metric import Metric
from iqametrics.registry import create_metric, find_metric
from iqametrics.scoring import Content, Item, score_items
from iqametrics.spec import View

Picture: TypeAlias = "bytes | bytearray | memoryview | np.ndarray | str | os.PathLike[str] | Callable[[], bytes] | None"
"""A file's bytes, its pixels, its path, or a function that reads its bytes when its turn comes (in a thread; functions
that are equal give one reference); None for a picture that is not there, which costs its row an error."""


@dataclass(frozen=True)
class Scored:
    """The score of one picture.

    Attributes:
        image: What the picture is called.
        reference: What its reference is called; None for a no-reference metric.
        metric: Name of the metric with the tag of its checkpoint.
        score: The score; None where there is an error.
        error: Why there is no score, in one line; None where there is one.
        fingerprint: What the score was made with; see `iqametrics.fingerprint`.
    """

    image: str
    reference: str | None
    metric: str
    score: float | None
    error: str | None
    fingerprint: str


class BatchScorer:
    """A metric that scores batches of pictures, for a worker of any framework.

    It can be pickled and sent to a worker, where the model is made at the first batch (or by `metric`). Scores
    are those of `iqametrics score` on the same device: both run `score_items`. It may be called from several threads,
    which take turns.

    Args:
        metric: Name of the metric as everywhere: "NAME[.TAG][=FILE]".
        device: Where to compute: "auto", "cpu", "cuda", "cuda:1", "mps".
        dtype: What to compute in.
        batch_size: Most pictures that the model gets at once; None for 1 on a CPU and 8 elsewhere, as in `score`.
        workers: Threads that decode; None for one for each processor, up to four.
        view: "fit" for whole pictures, "native" for tiles at their own size; see `create_metric`.

    Raises:
        UnknownMetricError: If there is no such metric.
        InputError: If the metric has no such view; raised when it is made.

    Examples:
        >>> scorer = BatchScorer("bpclip-nr.lite", device="cpu")
        >>> good, bad = scorer([np.zeros((32, 32, 3), np.uint8), b"no picture"], names=["black", "bad"])
        >>> good.error is None, bad.score is None, bad.image
        (True, True, 'bad')
    """

    def __init__(
        self,
        metric: str,
        *,
        device: str = "auto",
        dtype: str = "float32",
        batch_size: int | None = None,
        workers: int | None = None,
        view: View = "fit",
    ) -> None:
        self.mode = find_metric(metric)[0].mode
        self.name, self.device, self.dtype, self.view = metric, device, dtype, view
        self.batch_size, self.workers = batch_size, workers
        self._metric: Metric | None = None
        self._lock = Lock()

    @property
    def metric(self) -> Metric:
        """The metric; made when first asked for."""
        with self._lock:
            return self._made()

    def __call__(
        self,
        images: Sequence[Picture],
        references: Sequence[Picture] | None = None,
        *,
        names: Sequence[str] | None = None,
        reference_names: Sequence[str] | None = None,
    ) -> list[Scored]:
        """Score pictures; one that is damaged costs its own row only.

        Args:
            images: The pictures.
            references: One for each picture, for a full-reference metric.
            names: What the pictures are called in rows and errors; None for paths as they are, and numbers.
            reference_names: The same for the references.

        Returns:
            One row a picture, in order.

        Raises:
            InputError: If the numbers of pictures, references and names differ, or a no-reference metric gets
                references.
            WeightsError: If the model cannot be made.
        """
        if references is not None and self.mode == "nr":
            raise InputError(f"{self.name} takes no reference; leave out references")
        for what, given in (("references", references), ("names", names), ("reference_names", reference_names)):
            if given is not None and len(given) != len(images):
                raise InputError(f"{len(images)} images and {len(given)} {what}: give one for each image")
        with self._lock:
            metric = self._made()
            fingerprint = str(metric.fingerprint)
            items = _items(images, references, names, reference_names)
            rows = score_items([metric], items, batch_size=self.batch_size, workers=self.workers)
            return [Scored(row.image, row.reference, row.metric, row.score, row.error, fingerprint) for row in rows]

    def _made(self) -> Metric:
        if self._metric is None:
            self._metric = create_metric(self.name, device=self.device, dtype=self.dtype, view=self.view)
        return self._metric

    def __getstate__(self) -> dict[str, Any]:
        # What is sent to a worker is how to make the model, not the model.
        return {name: value for name, value in self.__dict__.items() if name not in ("_metric", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _metric=None, _lock=Lock())


def _items(
    images: Sequence[Picture],
    references: Sequence[Picture] | None,
    names: Sequence[str] | None,
    reference_names: Sequence[str] | None,
) -> Iterator[Item]:
    for index, image in enumerate(images):
        name, content, error = _given(image, names[index] if names else None, f"images[{index}]")
        reference, reference_content, reference_error = None, None, None
        if references is not None:
            called = reference_names[index] if reference_names else None
            reference, reference_content, reference_error = _given(references[index], called, f"references[{index}]")
        yield Item(
            name,
            None if reference_error else reference,
            error=error,
            reference_error=reference_error,
            content=content,
            reference_content=reference_content,
        )


def _given(picture: Picture, name: str | None, position: str) -> tuple[str, Content, str | None]:
    """Return what a picture is called, its content if it is in no file of that name, and what is wrong with it."""
    if picture is None:
        return name or position, None, f"{name or position}: there is no picture (None); give bytes, an array or a path"
    if isinstance(picture, bytes | bytearray | memoryview):
        return name or position, bytes(picture), None
    if isinstance(picture, np.ndarray):
        return name or position, picture, None
    if callable(picture):
        return name or position, picture, None
    if not isinstance(picture, str | os.PathLike):
        kind = type(picture).__name__
        return name or position, None, f"{name or position}: a {kind} is no picture; give bytes, an array or a path"
    path = os.fspath(picture)
    if name is None or name == path:
        return path, None, None
    # A file that is called something else is read when its turn comes.
    return name, lambda: _read(path), None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); check its name and rights") from error
