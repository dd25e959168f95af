"""Requests that wait together are scored together."""

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Thread

from iqametrics.pipeline import BatchScorer, Scored


class BusyError(Exception):
    """So many requests wait that one more would only wait for its time to be over."""


@dataclass(frozen=True)
class Asked:
    """A picture to be scored.

    Attributes:
        image: The bytes of the picture.
        reference: Those of its reference, for a full-reference metric.
        result: Gets the row.
    """

    image: bytes
    reference: bytes | None = None
    result: "Future[Scored]" = field(default_factory=Future)


class Batcher:
    """One thread that scores what waits, as much at once as there is; nobody waits for a batch to be full.

    While a batch is scored the next one gathers, so batches grow with the load by themselves.

    Args:
        scorer: Scores the pictures.
        most_at_once: Size of the largest batch.
        most_waiting: How many requests may wait.
        watch: Is told the size of each batch.
    """

    def __init__(
        self, scorer: BatchScorer, *, most_at_once: int, most_waiting: int, watch: Callable[[int], None]
    ) -> None:
        self.scorer, self.most_at_once, self.watch = scorer, most_at_once, watch
        self._waiting: queue.Queue[Asked | None] = queue.Queue(most_waiting)
        self._thread = Thread(target=self._work, name="iqametrics-serve", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._waiting.qsize()

    def submit(self, asked: Asked) -> "Future[Scored]":
        """Put a picture into the next batch; return what will give its row.

        Raises:
            BusyError: If too many wait.
        """
        try:
            self._waiting.put_nowait(asked)
        except queue.Full as error:
            raise BusyError from error
        return asked.result

    def close(self) -> None:
        """End the thread after what waits, and wait for it."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        open_still = True
        while open_still:
            batch: list[Asked] = []
            asked = self._waiting.get()
            while asked is not None:
                # Who has given up waiting is not scored.
                if asked.result.set_running_or_notify_cancel():
                    batch.append(asked)
                if len(batch) == self.most_at_once:
                    break
                try:
                    asked = self._waiting.get_nowait()
                except queue.Empty:
                    break
            open_still = asked is not None
            if batch:
                self.watch(len(batch))
                self._score(batch)

    def _score(self, batch: Sequence[Asked]) -> None:
        count = len(batch)
        references = [asked.reference for asked in batch] if self.scorer.mode == "fr" else None
        names = ["image"] * count
        try:
            rows = self.scorer(
                [asked.image for asked in batch], references, names=names, reference_names=["reference"] * count
            )
        except Exception as error:  # each request tells it, and the server goes on
            for asked in batch:
                asked.result.set_exception(error)
            return
        for asked, row in zip(batch, rows, strict=True):
            asked.result.set_result(row)
