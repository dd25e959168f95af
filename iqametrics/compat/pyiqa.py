"""pyiqa's calling conventions over our metrics: change the import, and keep the rest.

    from iqametrics.compat import pyiqa

    metric = pyiqa.create_metric("bpclip-fr", device="cpu")
    metric.lower_better, metric.metric_mode, metric.score_range
    score = metric("distorted.png", "reference.png")

Names without a package are ours, and else pyiqa's own ("niqe" means "pyiqa/niqe"), where pyiqa is installed. What
differs from pyiqa is in `docs/from-pyiqa.md`. No code of pyiqa is here; the names follow its public interface.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from iqametrics.common.suggest import did_you_mean
from iqametrics.errors import InputError, UnknownMetricError
from iqametrics.images import ImageSource
from iqametrics.registry import create_metric as _create_metric
from iqametrics.registry import list_metrics

if TYPE_CHECKING:
    from iqametrics.metric import Metric

Reduction = Literal["mean", "sum", "none"]
_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"mean": torch.mean, "sum": torch.sum, "none": lambda loss: loss}


class InferenceModel(nn.Module):
    """A metric of ours with the attributes and calls of pyiqa's class of this name.

    Args:
        metric: The metric.
        as_loss: Whether calls keep the gradient and are reduced, as pyiqa does: the score itself, not a loss that falls
            with better pictures.
        loss_weight: Factor of a loss; None for 1.
        loss_reduction: "mean", "sum" or "none".

    Attributes:
        metric_name: Name of the metric.
        metric_mode: "FR" or "NR".
        lower_better: Whether lower scores are better.
        score_range: Nominal range in words, such as "0, 1".
        net: The metric itself.
    """

    def __init__(
        self, metric: "Metric", *, as_loss: bool, loss_weight: float | None, loss_reduction: Reduction
    ) -> None:
        super().__init__()
        if loss_reduction not in _REDUCTIONS:
            raise InputError(f"loss_reduction {loss_reduction!r} is not one of {', '.join(_REDUCTIONS)}")
        self.net = metric
        self.metric_name = metric.name
        self.metric_mode = metric.mode.upper()
        self.lower_better = not metric.higher_is_better
        self.score_range = ", ".join(f"{end:g}" for end in metric.score_range)
        self.as_loss, self.loss_weight, self.loss_reduction = as_loss, loss_weight, loss_reduction

    @property
    def device(self) -> torch.device:
        """Device on which it computes."""
        return next(self.net.parameters()).device

    def forward(
        self,
        target: ImageSource | Sequence[ImageSource],
        ref: ImageSource | Sequence[ImageSource] | None = None,
        **_: Any,
    ) -> Tensor:
        """Score images.

        Args:
            target: Distorted images: a tensor (N, 3, H, W) in [0, 1], or whatever our metrics take.
            ref: Their references, for a full-reference metric; left aside by a no-reference one.

        Returns:
            (N, 1) scores; with `as_loss` reduced, with a gradient to the distorted images.

        Raises:
            InputError: If an image cannot be scored, or a reference is missing.
        """
        references = ref if self.metric_mode == "FR" else None
        score = self.net.score_with_gradient if self.as_loss else self.net
        scores: Tensor = score(target, references)
        if not self.as_loss:
            return scores[:, None]
        weight = 1.0 if self.loss_weight is None else self.loss_weight
        return _REDUCTIONS[self.loss_reduction](weight * scores[:, None])


def create_metric(
    metric_name: str,
    as_loss: bool = False,
    device: "str | torch.device | None" = None,
    *,
    loss_weight: float | None = None,
    loss_reduction: Reduction = "mean",
    weights: str = "default",
) -> InferenceModel:
    """Make a metric with pyiqa's interface.

    Args:
        metric_name: Name of a metric of ours, or of pyiqa's where that is installed.
        as_loss: Whether calls keep the gradient and are reduced.
        device: Where to compute; None for CUDA where there is one, as in pyiqa, else the CPU.
        loss_weight: Factor of a loss.
        loss_reduction: "mean", "sum" or "none".
        weights: As for `iqametrics.create_metric`; pyiqa calls it `pretrained_model_path`.

    Raises:
        UnknownMetricError: If there is no such metric.
        InputError: If the metric has no useful gradient to be a loss with.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    metric = _create_metric(_full_name(metric_name), device=device, weights=weights, as_loss=as_loss)
    return InferenceModel(metric, as_loss=as_loss, loss_weight=loss_weight, loss_reduction=loss_reduction)


def list_models(metric_mode: Literal["FR", "NR"] | None = None, filter: str = "") -> list[str]:
    """List the names of our metrics, and of piq's and pyiqa's where they are installed.

    Args:
        metric_mode: "FR" or "NR" for those alone.
        filter: Only names that match this pattern, such as "*clip*".
    """
    from fnmatch import fnmatch

    modes: dict[str | None, Literal["fr", "nr"] | None] = {None: None, "FR": "fr", "NR": "nr"}
    if metric_mode not in modes:
        raise UnknownMetricError(f"unknown mode {metric_mode!r}; use 'FR', 'NR' or None")
    names = list_metrics(modes[metric_mode], baselines=True)
    return [name for name in names if fnmatch(name, filter or "*")]


def _full_name(name: str) -> str:
    """Return our name of a metric; a name that is not close to one of ours is taken for pyiqa's."""
    metric, known = name.partition(".")[0], list_metrics()
    if "/" in name or metric in known or did_you_mean(metric, known):
        return name
    return f"pyiqa/{name}"
