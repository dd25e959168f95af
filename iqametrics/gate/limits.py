"""Limits that scores must keep, metric by metric."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from iqametrics.errors import InputError
from iqametrics.spec import MetricSpec


@dataclass(frozen=True)
class AskedMetric:
    """A metric as it was asked for.

    Attributes:
        text: The text that was given, such as "bpclip-nr.lite" or "bpclip-nr=mine.safetensors".
        spec: Constants of the metric.
    """

    text: str
    spec: MetricSpec

    def is_called(self, name: str) -> bool:
        """Return whether a name means this metric: as written, without the file, or without the checkpoint's tag."""
        return name in (self.text, self.text.partition("=")[0], self.spec.name)


@dataclass(frozen=True)
class Limit:
    """One bound for the scores of one metric.

    Attributes:
        value: The bound; a score equal to it passes.
        below: Whether scores below it fail; otherwise those above it.
    """

    value: float
    below: bool

    def __str__(self) -> str:
        return f"{'below' if self.below else 'above'} {self.value:g}"

    def fails(self, score: float) -> bool:
        """Return whether a score breaks the limit."""
        return score < self.value if self.below else score > self.value


def read_limits(asked: Sequence[AskedMetric], below: Sequence[str], above: Sequence[str]) -> list[tuple[Limit, ...]]:
    """Read the limits of `--fail-below` and `--fail-above`.

    Args:
        asked: The metrics, in the order of the command line.
        below: Texts `NAME=X`, or one bare number where there is one metric. A bare number means the worse side,
            whichever that is; a named one is below, and refused for a metric whose lower scores are better.
        above: The same for metrics whose lower scores are better.

    Returns:
        The limits of each metric, in the order of `asked`.

    Raises:
        InputError: If a text has no number, names no metric that was asked for, or is on the side of the better scores.

    Examples:
        >>> from iqametrics.registry import metric_spec
        >>> asked = [AskedMetric(name, metric_spec(name)) for name in ("bpclip-fr", "pfd-iqa")]
        >>> [list(map(str, limits)) for limits in read_limits(asked, ["bpclip-fr=0.8", "pfd-iqa=0.5"], [])]
        [['below 0.8'], ['below 0.5']]
    """
    limits: list[list[Limit]] = [[] for _ in asked]
    for option, texts in (("--fail-below", below), ("--fail-above", above)):
        for text in texts:
            name, value = _name_and_value(option, text)
            for number in _meant(asked, option, text, name):
                limits[number].append(_limit(asked[number], option, name, value))
    return [tuple(of_metric) for of_metric in limits]


def _name_and_value(option: str, text: str) -> tuple[str, float]:
    name, equals, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (equals and not name):
        raise InputError(f"{option} {text}: {number or 'nothing'} is not a finite number; write it as NAME=0.5")
    return name, value


def _meant(asked: Sequence[AskedMetric], option: str, text: str, name: str) -> list[int]:
    if not name:
        if len(asked) > 1:
            names = " or ".join(f"{option} {metric.text}={text}" for metric in asked[:2])
            raise InputError(f"{option} {text} does not say which of the {len(asked)} metrics it is for; write {names}")
        return [0]
    found = [number for number, metric in enumerate(asked) if metric.is_called(name)]
    if not found:
        known = ", ".join(metric.text for metric in asked)
        raise InputError(f"{option} {text}: {name} is not among the metrics that are asked for ({known})")
    return found


def _limit(metric: AskedMetric, option: str, name: str, value: float) -> Limit:
    higher = metric.spec.higher_is_better
    if option == "--fail-below":
        if name and not higher:
            raise InputError(f"--fail-below {name}: lower scores of {metric.spec.name} are better; use --fail-above")
        return Limit(value, below=higher)
    if higher:
        raise InputError(f"--fail-above: higher scores of {metric.spec.name} are better; use --fail-below")
    return Limit(value, below=False)
