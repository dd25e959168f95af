"""The metric `pfd-iqa`."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from iqametrics.metric import Metric, ReferenceFeatures, Sizing
from iqametrics.pfd_iqa import SPECS
from iqametrics.pfd_iqa.config import PfdIqaConfig
from iqametrics.pfd_iqa.model import PfdIqa
from iqametrics.spec import MetricSpec


class PfdIqaMetric(Metric):
    """PFD-IQA as users call it; `Metric` has the contract."""

    spec: ClassVar[MetricSpec] = SPECS[0]
    default_sizing: ClassVar[Sizing] = Sizing(min_side=224)
    model: PfdIqa

    @classmethod
    def build(cls, config: Mapping[str, Any] | None) -> nn.Module:
        """Make the network of a checkpoint's config; of None, the paper-size one, freshly initialised."""
        return PfdIqa(PfdIqaConfig() if config is None else PfdIqaConfig.from_dict(config))

    def score_images(self, dist: Tensor, ref: ReferenceFeatures | None) -> Tensor:
        """Score images of one size: (n, 3, H, W) in [0, 1] to (n,)."""
        return self.model(dist, differentiable=self.as_loss)
