"""What is constant about a metric, known without importing torch."""

from dataclasses import dataclass
from typing import Literal

Mode = Literal["fr", "nr"]


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """The constants of a metric, declared beside its definition.

    Attributes:
        name: Registered name, lower case, e.g. "bpclip-nr".
        mode: "fr" compares a distorted image with its reference, "nr" needs the distorted image only.
        higher_is_better: Direction of the score.
        score_range: Nominal range (worst or best first, always ascending).
        range_is_bound: Whether scores can never leave `score_range`.
        differentiable: Whether the score has a useful gradient with respect to the distorted image.
        paper: Title, venue and year.
        paper_url: Where the paper is.
        factory: "module:Class" of the Metric subclass, imported when the metric is first asked for.
    """

    name: str
    mode: Mode
    higher_is_better: bool
    score_range: tuple[float, float]
    range_is_bound: bool
    differentiable: bool
    paper: str
    paper_url: str
    factory: str
