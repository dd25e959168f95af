"""The metric `pfd-iqa`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from iqametrics.errors import InputError, WeightsError
from iqametrics.images import ImageSource, to_image_list
from iqametrics.metric import Metric, ReferenceFeatures, Sizing
from iqametrics.pfd_iqa import SPECS
from iqametrics.pfd_iqa.config import CELL, PfdIqaConfig
from iqametrics.pfd_iqa.explain import PfdIqaExplanation, explain_image
from iqametrics.pfd_iqa.model import PfdIqa
from iqametrics.spec import MetricSpec


class PfdIqaMetric(Metric):
    """PFD-IQA as a metric: its prediction of the mean opinion score, scaled to [0, 1].

    Scores are nominally in [0, 1] and may leave it: the last layer is linear. The noise of equation 10 is a function of
    the checkpoint's seed and the number of the window, so the same image always gets the same score.
    """

    spec: ClassVar[MetricSpec] = SPECS[0]
    default_sizing: ClassVar[Sizing] = Sizing(min_side=224)
    model: PfdIqa

    def __init__(self, model: PfdIqa, sizing: Sizing, *, tag: str) -> None:
        # An image of one window has `grid` cells, of which the last may be cut.
        config = model.config
        least = config.crop_size if config.crop_space == "image" else CELL * (config.grid - 1) + 1
        if sizing.min_side < least:
            raise WeightsError(
                f"{self.spec.name}.{tag}: min_side = {sizing.min_side} of its sizing is smaller than a window of "
                f"{config.crop_size} pixels; get the checkpoint anew"
            )
        super().__init__(model, sizing, tag=tag)

    @classmethod
    def build(cls, config: Mapping[str, Any] | None) -> PfdIqa:
        """Build the network of a checkpoint's config, or the paper-size one, freshly initialised, for None.

        Raises:
            RecipeError: If the config is impossible.
        """
        return PfdIqa(PfdIqaConfig() if config is None else PfdIqaConfig.from_dict(config))

    def score_images(self, dist: Tensor, ref: ReferenceFeatures | None) -> Tensor:
        """Score images (N, 3, H, W) in [0, 1]: (N,)."""
        return self.model(dist, differentiable=True)

    def picture_levels(self, images: Tensor) -> list[Tensor]:
        """Compute all five levels of images (N, 3, H, W); a vision transformer has none."""
        return self.model.levels(images)

    def explain(self, dist: ImageSource, *, draws: int = 8) -> PfdIqaExplanation:
        """Explain the score of one image: what the network recognised, and where the score is lost.

        Args:
            dist: One image.
            draws: Number of draws of the noise whose spread is told, from 1 up.

        Raises:
            InputError: If there is not exactly one image, or `draws` is below 1.
        """
        self._check_whole("explain")
        if draws < 1:
            raise InputError(f"draws = {draws} explain nothing; give 1 or more")
        images = to_image_list(dist)
        if len(images) != 1:
            raise InputError(f"explain takes one image, not {len(images)}; call it once for each")
        metric = self.in_working_precision()
        prepared = metric._prepare(images)
        found = explain_image(metric.model, prepared, draws=draws)
        return replace(found, told=metric.told(prepared, found.score))

    @torch.no_grad()
    def noise_spread(self, dist: ImageSource | Sequence[ImageSource], *, samples: int = 8) -> Tensor:
        """Compute how much a score depends on the noise that the diffusion starts from.

        This is the spread of the model's own predictions, not a confidence interval of the mean opinion score.

        Args:
            dist: Images, as the metric itself takes them.
            samples: Number of draws of the noise, from 2 up.

        Returns:
            Standard deviations (N,) of the score over the draws.

        Raises:
            InputError: If an image cannot be scored, or there are fewer than two samples.
        """
        self._check_whole("noise_spread")
        if samples < 2:
            raise InputError(f"samples = {samples} have no spread; give 2 or more")
        metric = self.in_working_precision()
        scores = [
            metric.model.score_samples(metric.model.trunk(metric._prepare([image])), samples=samples)
            for image in to_image_list(dist)
        ]
        return self.checked(torch.cat(scores).std(dim=1))
