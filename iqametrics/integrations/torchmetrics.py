"""Metrics in the conventions of torchmetrics (extra `torchmetrics`).

    from iqametrics.integrations.torchmetrics import QualityScore

    quality = QualityScore("bpclip-fr")
    for dist, ref in loader:
        quality.update(dist, ref)
    quality.compute()

docs/integrations.md says more.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from iqametrics.errors import InputError, MissingExtraError

try:
    from torchmetrics import Metric as _TorchMetric
    from torchmetrics.utilities import dim_zero_cat
except ImportError as error:
    raise MissingExtraError(
        'iqametrics.integrations.torchmetrics needs torchmetrics: pip install "iqametrics[torchmetrics]"'
    ) from error

from iqametrics.common.suggest import did_you_mean
from iqametrics.images import ImageSource
from iqametrics.metric import Metric, ReferenceFeatures
from iqametrics.registry import create_metric

Reduction = Literal["mean", "sum", "none"]
_REDUCTIONS = ("mean", "sum", "none")


class QualityScore(_TorchMetric):
    """Quality of images over batches and processes, as `create_metric` scores them.

    Args:
        metric: Name of a metric, as `create_metric` takes it, or a metric that was made.
        reduction: "mean" of the scores, their "sum", or "none" for all scores, (N,), in the order of the updates (of
            several processes, one process after the other).
        **kwargs: Arguments of torchmetrics' own, such as `sync_on_compute`.

    Attributes:
        metric: The metric that scores.
        reduction: What `compute` makes of the scores.

    Raises:
        InputError: If `reduction` is none of the three.
        IqaError: If `create_metric` cannot make the metric.
    """

    full_state_update: bool = False
    # What `compute` reads; torchmetrics makes these attributes of `add_state`.
    total: Tensor
    lost: Tensor
    count: Tensor
    scores: list[Tensor]

    def __init__(self, metric: str | Metric, *, reduction: Reduction = "mean", **kwargs: Any) -> None:
        if reduction not in _REDUCTIONS:
            hint = did_you_mean(str(reduction), _REDUCTIONS)
            raise InputError(f"reduction {reduction!r} is not one of {', '.join(_REDUCTIONS)}{hint}")
        super().__init__(**kwargs)
        if isinstance(metric, str):
            metric = create_metric(metric)
            metric.as_loss = metric.differentiable
        self.metric = metric
        self.reduction = reduction
        if reduction == "none":
            self.add_state("scores", default=[], dist_reduce_fx="cat")
            return
        # The sum and what rounding lost of it: float32 alone drifts over a million scores, and not every device that
        # torchmetrics moves its states to has float64.
        self.add_state("total", default=torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("lost", default=torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """Direction of the score."""
        return self.metric.higher_is_better

    @property
    def is_differentiable(self) -> bool:  # type: ignore[override]
        """Whether what `forward` returns has a gradient to the distorted images."""
        return self.metric.as_loss and self.metric.differentiable

    @property
    def plot_lower_bound(self) -> float:  # type: ignore[override]
        """Lower end of the nominal range."""
        return self.metric.score_range[0]

    @property
    def plot_upper_bound(self) -> float:  # type: ignore[override]
        """Upper end of the nominal range."""
        return self.metric.score_range[1]

    def update(
        self,
        dist: ImageSource | Sequence[ImageSource],
        ref: ImageSource | Sequence[ImageSource] | ReferenceFeatures | None = None,
    ) -> None:
        """Score a batch.

        Args:
            dist: Distorted images, as a call of the metric takes them: (N,3,H,W) in [0, 1], or a list.
            ref: Their references, for a full-reference metric.

        Raises:
            InputError: If a call of the metric would refuse the images; what was scored before is kept.
        """
        if self.metric.as_loss:
            scores = self.metric.checked(self.metric.score_with_gradient(dist, ref))
        else:
            scores = self.metric(dist, ref)
        if self.reduction == "none":
            self.scores.append(scores)
            return
        added = scores.sum().to(self.total.dtype) + self.lost
        total = self.total + added
        self.lost = added - (total - self.total)
        self.total = total
        self.count = self.count + len(scores)

    def compute(self) -> Tensor:
        """Reduce the scores so far: the mean or sum, (), or all of them, (N,).

        Without an update the mean is NaN, the sum 0, and of all scores there are none.
        """
        if self.reduction == "none":
            return dim_zero_cat(self.scores) if len(self.scores) else torch.empty(0, device=self.device)
        total = self.total + self.lost
        return total if self.reduction == "sum" else total / self.count

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> Any:
        """Plot one value or several over time, within the metric's range; needs matplotlib.

        Args:
            val: Values that `forward` or `compute` returned; None for what `compute` gives now.
            ax: Axes of matplotlib to draw on; None for a new figure.

        Returns:
            The figure and its axes.
        """
        return self._plot(val, ax)
