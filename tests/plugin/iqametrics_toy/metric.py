"""The toy's network, and the metric around it: how sharp an image is at a few scales."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqametrics.errors import RecipeError
from iqametrics.metric import Metric, ReferenceFeatures, Sizing
from iqametrics.spec import MetricSpec
from iqametrics_toy import SPEC


class ToyModel(nn.Module):
    """Logarithms of the mean gradients of the luma at `scales` halvings, and two linear layers."""

    def __init__(self, scales: int = 3, hidden: int = 8) -> None:
        super().__init__()
        if not (isinstance(scales, int) and isinstance(hidden, int) and scales > 0 and hidden > 0):
            raise RecipeError(f"scales = {scales}, hidden = {hidden}: give whole numbers from 1 up")
        self.config = {"scales": scales, "hidden": hidden}
        self.hidden = nn.Linear(2 * scales, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) in [0, 1] to scores (N,)."""
        luma, gradients = images.mean(1, keepdim=True), []
        for _ in range(self.config["scales"]):
            gradients += [luma.diff(dim=dim).abs().mean((1, 2, 3)) for dim in (2, 3)]
            luma = F.avg_pool2d(luma, 2)
        features = torch.stack(gradients, 1).add(1e-3).log()
        return self.out(F.gelu(self.hidden(features))).squeeze(1)


class ToyMetric(Metric):
    """The metric `toy-nr`."""

    spec: ClassVar[MetricSpec] = SPEC
    default_sizing: ClassVar[Sizing] = Sizing(min_side=32, max_side=512)

    @classmethod
    def build(cls, config: Mapping[str, Any] | None) -> ToyModel:
        """Make the network that a checkpoint's config describes, or the default one."""
        return ToyModel(**(config or {}))

    def score_images(self, dist: Tensor, ref: ReferenceFeatures | None) -> Tensor:
        """Score images (n, 3, H, W) of one size: (n,)."""
        return self.model(dist)
