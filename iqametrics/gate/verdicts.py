"""Whether a run of `score` passes: row by row while it runs, and on the whole at its end."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from iqametrics.gate.baseline import AllowedDrop, Baseline
from iqametrics.gate.change import FEW, TIE, measure_change
from iqametrics.gate.limits import Limit

if TYPE_CHECKING:
    from iqametrics.scoring import Row

_NAMED = 5
"""Pictures that a summary names."""


class Gate:
    """Judges rows by limits and by an earlier run.

    Args:
        limits: The limits of each metric, by its name with the checkpoint's tag.
        higher_is_better: Direction of each metric, by the same name.
        baseline: An earlier run; None for none.
        drop: How far scores may fall behind it.
        strict: Whether a picture of the baseline that has no score this time fails the run.
    """

    def __init__(
        self,
        limits: Mapping[str, Sequence[Limit]],
        higher_is_better: Mapping[str, bool],
        baseline: Baseline | None = None,
        drop: AllowedDrop | None = None,
        *,
        strict: bool = False,
    ) -> None:
        self.limits = limits
        self.higher_is_better = higher_is_better
        self.baseline = baseline
        self.drop = drop or AllowedDrop()
        self.strict = strict
        self.failed = False
        self._earlier: dict[str, dict[str, float]] = {}
        self._scores: dict[str, dict[str, float]] = defaultdict(dict)
        self._count: Counter[str] = Counter()
        self._broken: dict[tuple[str, str], _Worst] = {}

    @property
    def is_set(self) -> bool:
        """Whether anything can fail a row."""
        return any(self.limits.values()) or self.drop.picture is not None

    @property
    def needs_all(self) -> bool:
        """Whether all rows must be known before the first is judged: only then are names paired at their best."""
        return self.baseline is not None

    def pair(self, rows: "Sequence[Row]") -> None:
        """Find each picture's score in the baseline, for which all names must be known."""
        images: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            images[row.metric].append(row.image)
        if self.baseline is not None:
            self._earlier = {metric: self.baseline.paired(metric, names) for metric, names in images.items()}

    def judge(self, row: "Row") -> str | None:
        """Say why a row fails, such as "below 0.5"; None where it passes or has no score."""
        if row.score is None:
            return None
        self._count[row.metric] += 1
        # With limits alone no picture is kept, since there may be any number of them.
        if self.baseline is not None:
            self._scores[row.metric][row.image] = row.score
        reasons = [str(limit) for limit in self.limits.get(row.metric, ()) if limit.fails(row.score)]
        for reason in reasons:
            worst = self._broken.setdefault((row.metric, reason), _Worst(self.higher_is_better[row.metric]))
            worst.add(row.image, row.score)
        if (dropped := self._dropped(row.metric, row.image, row.score)) is not None:
            reasons.append(dropped)
        self.failed |= bool(reasons)
        return "; ".join(reasons) or None

    def finish(self) -> Iterator[str]:
        """Judge the averages, and return lines that sum up what failed and how the run compares."""
        for (metric, reason), broken in self._broken.items():
            yield f"{self._of(metric, broken.count)} {reason}: {broken}"
        if self.baseline is not None:
            for metric in self._scores:
                yield from self._against(self.baseline, metric)

    def _dropped(self, metric: str, image: str, score: float) -> str | None:
        earlier = self._earlier.get(metric, {}).get(image)
        if earlier is None or self.drop.picture is None:
            return None
        return f"was {earlier:.4f}" if self._loss(metric, earlier, score) > self.drop.picture + TIE else None

    def _loss(self, metric: str, earlier: float, score: float) -> float:
        return earlier - score if self.higher_is_better[metric] else score - earlier

    def _against(self, baseline: Baseline, metric: str) -> Iterator[str]:
        scores = self._scores[metric]
        earlier = {image: score for image, score in self._earlier[metric].items() if image in scores}
        if unknown := len(scores) - len(earlier):
            yield f"{metric}: {unknown} of {len(scores)} pictures are not in the baseline and were not compared with it"
        if missing := len(baseline.scores[metric]) - len(earlier):
            self.failed |= self.strict
            yield f"{metric}: {missing} pictures of the baseline have no score this time"
        if not earlier:
            self.failed = True
            yield f"{metric}: no picture has the name of one in the baseline, so nothing was compared; this fails"
            return
        change = measure_change(
            metric,
            list(earlier.values()),
            [scores[image] for image in earlier],
            higher_is_better=self.higher_is_better[metric],
            test=False,
        )
        interval = "" if math.isnan(change.low) else f" (95% interval {change.low:+.4f} to {change.high:+.4f})"
        few = f"; fewer than {FEW} pictures say little" if change.n < FEW else ""
        yield f"{metric}: mean {change.mean_b:.4f}, {change.difference:+.4f} against the baseline{interval}{few}"
        if dropped := self._all_dropped(metric, earlier):
            yield f"{self._of(metric, len(dropped))} worse by more than {self.drop.picture:g}: {_moves(dropped)}"
        loss = self._loss(metric, change.mean_a, change.mean_b)
        if self.drop.mean is not None and loss > self.drop.mean + TIE:
            self.failed = True
            yield f"{metric}: the mean is worse by {loss:.4f}, more than {self.drop.mean:g}"

    def _all_dropped(self, metric: str, earlier: Mapping[str, float]) -> list[tuple[str, float, float]]:
        """Return image, earlier and present score of the pictures that dropped too far, the worst first."""
        scores = self._scores[metric]
        dropped = [image for image, then in earlier.items() if self._dropped(metric, image, scores[image])]
        dropped.sort(key=lambda image: self._loss(metric, earlier[image], scores[image]), reverse=True)
        return [(image, earlier[image], scores[image]) for image in dropped]

    def _of(self, metric: str, count: int) -> str:
        return f"{metric}: {count} of {self._count[metric]}"


class _Worst:
    """How many pictures broke a limit, and the worst of them."""

    def __init__(self, higher_is_better: bool) -> None:
        self.higher_is_better = higher_is_better
        self.count = 0
        self.pictures: list[tuple[str, float]] = []

    def add(self, image: str, score: float) -> None:
        """Count a picture."""
        self.count += 1
        self.pictures.append((image, score))
        self.pictures.sort(key=lambda pair: pair[1], reverse=not self.higher_is_better)
        del self.pictures[_NAMED:]

    def __str__(self) -> str:
        return _listed([f"{image} {score:.4g}" for image, score in self.pictures], self.count)


def _moves(dropped: Sequence[tuple[str, float, float]]) -> str:
    return _listed([f"{image} {then:.4g} to {now:.4g}" for image, then, now in dropped[:_NAMED]], len(dropped))


def _listed(texts: Sequence[str], count: int) -> str:
    more = f", and {count - _NAMED} more" if count > _NAMED else ""
    return ", ".join(texts) + more
