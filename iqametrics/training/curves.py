"""The history of a run as curves: a picture, and events for TensorBoard; each where what it needs is installed."""

import importlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iqametrics.errors import TrainingError
from iqametrics.training.telling import say

CURVES, EVENTS = "curves.png", "tensorboard"
_NO_CURVE = {"epoch", "seconds"}
_WRITERS = ("tensorboardX", "torch.utils.tensorboard")


class Events:
    """Writes the figures of each epoch for TensorBoard, into `RUN/tensorboard`; does nothing where no writer is there.

    Args:
        folder: Of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / EVENTS
        self._writer: Any = None
        self._known = True

    def add(self, row: Mapping[str, Any]) -> None:
        """Write the figures of one epoch, a row of the history.

        Raises:
            TrainingError: If they cannot be written.
        """
        try:
            if self._writer is None and self._known:
                self._writer = _event_writer(self.folder)
                self._known = self._writer is not None
            if self._writer is None:
                return
            for name, value in row.items():
                if name not in _NO_CURVE and math.isfinite(value):
                    part, _, figure = name.partition("_")
                    self._writer.add_scalar(f"{figure}/{part}" if figure else name, value, row["epoch"])
            self._writer.flush()
        except OSError as error:
            raise TrainingError(
                f"{self.folder}: cannot be written ({error.strerror}); make room, then again"
            ) from error

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


def write_curves(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw loss, agreement and learning rate over the epochs as `RUN/curves.png`; say so where matplotlib is missing.

    Args:
        folder: Of the run.
        rows: Its history.

    Raises:
        TrainingError: If the picture cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        say(f'note: no {CURVES}, which takes matplotlib: pip install "iqametrics[report]"')
        return
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in _NO_CURVE]
    panels = {
        "loss": [name for name in names if name.startswith("train_")],
        "agreement": [name for name in names if name.endswith(("_srcc", "_plcc"))],
        "learning rate": [name for name in names if name == "lr"],
    }
    panels = {title: shown for title, shown in panels.items() if shown}
    figure = Figure(figsize=(4 * len(panels), 3), layout="constrained")
    for number, (title, shown) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), number, title=title, xlabel="epoch")
        for name in shown:
            points = [(row["epoch"], row[name]) for row in rows if name in row]
            axes.plot(*zip(*points, strict=True), marker=".", label=name)
        if len(shown) > 1:
            axes.legend(fontsize="small")
    try:
        # Without the version, which would make the file of another matplotlib another one.
        figure.savefig(folder / CURVES, dpi=100, metadata={"Software": None})
    except OSError as error:
        raise TrainingError(
            f"{folder / CURVES}: cannot be written ({error.strerror}); make room, then again"
        ) from error


def _event_writer(folder: Path) -> Any:
    """Open a writer of whichever package is installed; None where none is."""
    for name in _WRITERS:
        try:
            return importlib.import_module(name).SummaryWriter(str(folder))
        except ImportError:
            continue
    return None
