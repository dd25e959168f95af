"""Which rows are shown, and in which order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from iqametrics.images.files import natural_key
from iqametrics.scoring import Row

Judged = tuple[Row, str | None]
"""A row, and why it fails; None where it does not."""


@dataclass(frozen=True)
class RowOrder:
    """The order of rows, and how many of them are shown.

    Attributes:
        by: "name" for natural order, "score" for the worst first, metric by metric; None for the order of the images.
        top: Number of rows of each metric to show, the worst ones; rows with errors are shown too. None for all.
    """

    by: Literal["name", "score"] | None = None
    top: int | None = None

    @property
    def needs_all(self) -> bool:
        """Whether all rows must be known before the first is shown."""
        return self.by is not None or self.top is not None

    def arrange(self, rows: Sequence[Judged], higher_is_better: Mapping[str, bool]) -> list[Judged]:
        """Choose and sort rows; those with errors come first.

        Args:
            rows: All rows, in the order of the images.
            higher_is_better: Direction of each metric, by the name in the rows.
        """
        metrics = list(higher_is_better)

        def worst_first(judged: Judged) -> tuple[int, bool, float]:
            row = judged[0]
            score = row.score or 0.0
            return metrics.index(row.metric), row.score is not None, score if higher_is_better[row.metric] else -score

        chosen = sorted(rows, key=worst_first)
        if self.top is not None:
            chosen = [judged for metric in metrics for judged in _first(chosen, metric, self.top)]
        return sorted(chosen, key=lambda judged: natural_key(judged[0].image)) if self.by == "name" else chosen


def _first(rows: Sequence[Judged], metric: str, number: int) -> list[Judged]:
    """Return the rows of a metric that have errors, and the first `top` of the others."""
    of_metric = [judged for judged in rows if judged[0].metric == metric]
    errors = sum(row.score is None for row, _ in of_metric)
    return of_metric[: errors + number]
