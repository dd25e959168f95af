"""Scorings one after another by one process: the same score each time, and no more memory."""

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from attack_worker import Fault, resident_megabytes
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sweep import picture

from iqametrics import create_metric
from iqametrics.weights.manifest import WEIGHTS_FOLDER

SIZES = ((64, 64), (90, 150), (150, 90), (37, 200))
FORMS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "JPEG2000", "array", "tensor")


class Scoring(NamedTuple):
    """One scoring: its name, its number, the metric and the picture."""

    name: str
    number: int
    metric: str
    source: Any


class Soak:
    """The job of the worker: one scoring, of pictures in several forms and sizes."""

    names: tuple[str, ...] = ("bpclip-nr.lite", "bpclip-fr.lite", "pfd-iqa.lite")
    growth_megabytes = 60.0

    def __init__(self, seed: int) -> None:
        del seed  # every combination comes in turn
        self.metrics = {name: self.metric(name) for name in self.names}
        self.scores: dict[str, float] = {}
        # Everything has been met twice then, and memory may not grow.
        self.warm = 2 * len(self.names) * len(SIZES) * len(FORMS)
        self.begin: float | None = None

    def metric(self, name: str) -> Any:
        return create_metric(name)

    def prepare(self, number: int) -> Scoring:
        """Make the picture of a number: as a file of some format, as an array, or as a tensor."""
        rest, place = divmod(number, len(self.names))
        metric = self.names[place]
        height, width = SIZES[rest % len(SIZES)]
        form = FORMS[rest // len(SIZES) % len(FORMS)]
        values = picture(3, 255, height, width)
        source: Any = values
        if form == "tensor":
            source = torch.from_numpy(values).permute(2, 0, 1).float() / 255
        elif form != "array":
            buffer = io.BytesIO()
            Image.fromarray(values).save(buffer, form)
            source = buffer.getvalue()
        return Scoring(f"{metric}: {form}, {width}x{height}", number, metric, source)

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
        if case.number == self.warm:
            self.begin = resident_megabytes()
        if self.begin is not None and resident_megabytes() - self.begin > self.growth_megabytes:
            raise Fault(f"grew by {resident_megabytes() - self.begin:.0f} MB")
        return "scored"

    @staticmethod
    def _shape(case: Scoring) -> tuple[int, int, int]:
        width, height = case.name.rpartition(" ")[2].split("x")
        return int(height), int(width), 3


class QuickSoak(Soak):
    """The same with two metrics that look at pictures of 64 pixels."""

    names = ("bpclip-nr.lite", "bpclip-fr.lite")
    growth_megabytes = 10.0

    def metric(self, name: str) -> Any:
        path, file = WEIGHTS_FOLDER / f"{name}.safetensors", Path("quick.safetensors")
        with safe_open(path, framework="pt") as stream:
            record = json.loads(stream.metadata()["iqametrics"]) | {"sizing": {"min_side": 64, "max_side": 256}}
        save_file(load_file(path), file, metadata={"iqametrics": json.dumps(record)})
        try:
            return create_metric(name.partition(".")[0], weights=file)
        finally:
            file.unlink()
