"""Scorings one after another by one process: the same score each time, and no more memory."""

import io
from typing import Any, NamedTuple

import numpy as np
import torch
from attack_worker import Fault, resident_megabytes
from PIL import Image
from sweep import picture

from iqametrics import create_metric

METRICS = ("bpclip-nr.lite", "bpclip-fr.lite", "pfd-iqa.lite")
SIZES = ((64, 64), (90, 150), (150, 90), (37, 200))
WARM = 72
"""Scorings after which everything has been met twice, and memory may not grow."""

GROWTH_MEGABYTES = 60.0


class Scoring(NamedTuple):
    """One scoring: its name, its number, the metric and the picture."""

    name: str
    number: int
    metric: str
    source: Any


class Soak:
    """The job of the worker: one scoring, of pictures in several forms and sizes."""

    def __init__(self, seed: int) -> None:
        del seed  # every combination comes in turn
        self.metrics = {name: create_metric(name) for name in METRICS}
        self.scores: dict[str, float] = {}
        self.begin: float | None = None

    def prepare(self, number: int) -> Scoring:
        """Make the picture of a number: as bytes of a file, as an array, or as a tensor."""
        metric = METRICS[number % len(METRICS)]
        height, width = SIZES[number // 3 % len(SIZES)]
        form = number // 12 % 3
        values = picture(3, 255, height, width)
        source: Any = values
        if form == 0:
            buffer = io.BytesIO()
            Image.fromarray(values).save(buffer, "PNG")
            source = buffer.getvalue()
        elif form == 1:
            source = torch.from_numpy(values).permute(2, 0, 1).float() / 255
        return Scoring(f"{metric}: {width}x{height}", number, metric, source)

    def run(self, case: Scoring) -> str:
        """Score.

        Raises:
            Fault: If the score is another than before, or the process has grown.
        """
        metric = self.metrics[case.metric]
        found = float(
            metric(case.source, np.zeros(self._shape(case), np.uint8)) if metric.mode == "fr" else metric(case.source)
        )
        if abs(found - self.scores.setdefault(case.name, found)) > 1e-6:
            raise Fault(f"scores {found} after {self.scores[case.name]}")
        if case.number == WARM:
            self.begin = resident_megabytes()
        if self.begin is not None and resident_megabytes() - self.begin > GROWTH_MEGABYTES:
            raise Fault(f"grew by {resident_megabytes() - self.begin:.0f} MB")
        return "scored"

    @staticmethod
    def _shape(case: Scoring) -> tuple[int, int, int]:
        width, height = case.name.rpartition(" ")[2].split("x")
        return int(height), int(width), 3
