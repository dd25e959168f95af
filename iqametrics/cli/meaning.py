"""`--meaning`: what scores mean, by pictures that people have scored."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from iqametrics.cli.common import UsageError

if TYPE_CHECKING:
    from iqametrics.metric import Metric
    from iqametrics.scoring import Row

COLUMNS = ("beats", "preferred")


class Meanings:
    """Places scores among those of a stored set, and two pictures against each other.

    Args:
        metrics: Metrics whose scores are placed; none where nobody asked.
        pair: Whether exactly two pictures are scored, which are then set against each other too.

    Raises:
        UsageError: If there are metrics, and of none it is known what its scores mean, as with tiles.
    """

    def __init__(self, metrics: "Sequence[Metric]", *, pair: bool = False) -> None:
        self._known = {metric.full_name: metric.meaning for metric in metrics if metric.meaning is not None}
        self._pair = pair and bool(self._known)
        self._rows: list[Row] = []
        self.columns = COLUMNS[: 1 + self._pair] if metrics else ()
        if metrics and not self._known:
            if all(metric.sizing.tile is not None for metric in metrics):
                raise UsageError("--meaning was measured on whole pictures; leave out --view native")
            names = " and ".join(metric.full_name for metric in metrics)
            raise UsageError(
                f"--meaning is not known of {names}; bpclip-fr, bpclip-nr and pfd-iqa with their bundled checkpoints "
                "have it"
            )

    def watch(self, rows: "Iterator[Row]") -> "Iterator[Row]":
        """Pass rows on; those of two pictures once all are known."""
        if not self._pair:
            yield from rows
            return
        self._rows = list(rows)
        yield from self._rows

    def of(self, row: "Row") -> dict[str, Any]:
        """Return what a row's score means: `beats` of `beats_of`, and of two pictures `preferred`."""
        meaning = self._known.get(row.metric)
        if meaning is None or row.score is None:
            return {}
        told: dict[str, Any] = {"beats": round(meaning.beats(row.score), 4), "beats_of": meaning.pictures}
        for other in self._rows:
            same = (other.metric, other.reference) == (row.metric, row.reference)
            if same and other is not row and other.score is not None:
                told["preferred"] = round(meaning.preference(row.score, other.score), 4)
        return told

    def lines(self) -> Iterator[str]:
        """Say what the columns are."""
        for name, meaning in self._known.items():
            yield f"{name}: beats is the share of {meaning.pictures} whose scores are worse"
        if self._pair:
            yield "preferred is the probability that people's mean score of a picture is above that of the other"
