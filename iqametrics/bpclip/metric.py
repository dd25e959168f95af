"""BPCLIP as metrics: images in, scores out."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from iqametrics.bpclip import SPECS
from iqametrics.bpclip.config import BpclipConfig
from iqametrics.bpclip.explain import BpclipExplanation, explain_levels
from iqametrics.bpclip.model import Bpclip
from iqametrics.errors import InputError, RecipeError
from iqametrics.images import ImageSource, check_pair, to_image_list
from iqametrics.metric import Metric, ReferenceFeatures, Sizing
from iqametrics.spec import MetricSpec


class BpclipMetric(Metric):
    """What both modes share. The score is BPCLIP's prediction of the mean opinion score, scaled to [0, 1].

    Scores are nominally in [0, 1] and may leave it: the last layer is linear.
    """

    model: Bpclip
    # Five halvings need 32 pixels for one token; the longest side of the sets that the paper tests on is 768.
    default_sizing: ClassVar[Sizing] = Sizing(min_side=64, max_side=1024)

    @classmethod
    def build(cls, config: Mapping[str, Any] | None) -> Bpclip:
        """Make the network of a checkpoint's config; of None, the paper-size one, freshly initialised.

        Raises:
            RecipeError: if the config is of the other mode, or impossible.
        """
        if config is None:
            return Bpclip(BpclipConfig(mode=cls.spec.mode))
        parsed = BpclipConfig.from_dict(config)
        if parsed.mode != cls.spec.mode:
            raise RecipeError(f"mode = {parsed.mode!r} is not that of {cls.spec.name}; ask for the other metric")
        return Bpclip(parsed)

    def score_images(self, dist: Tensor, ref: ReferenceFeatures | None) -> Tensor:
        """Score images (n, 3, H, W) in [0, 1] against held levels of their references: (n,)."""
        levels = self.model.levels(self.model.trunk(dist, differentiable=True))
        return self.model.score_levels(levels, None if ref is None else list(ref.levels))

    def encode_images(self, ref: Tensor) -> list[Tensor]:
        """Compute all five levels of references (n, 3, H, W)."""
        return self.model.levels(self.model.trunk(ref))

    def explain(
        self, dist: ImageSource, ref: ImageSource | ReferenceFeatures | None = None, *, steps: int = 64
    ) -> BpclipExplanation:
        """Say where and by which similarities the score of one image came about.

        Nothing in the training ties an adjective to its meaning: the texts are fixed directions, and the score MLP is
        free to read any of them in any way. A large contribution of "blurry" means that this direction moved the
        score, and is no statement that the image is blurry. See `BpclipExplanation`.

        Args:
            dist: one image.
            ref: its reference, for the full-reference metric.
            steps: steps of the integration; more make the contributions add up more exactly.

        Raises:
            InputError: if there is not exactly one image, or its reference is missing, superfluous or does not fit.
        """
        images = to_image_list(dist)
        if len(images) != 1:
            raise InputError(f"explain takes one image, not {len(images)}; call it once for each")
        self._check_mode(has_reference=ref is not None)
        held = self._held(images[0], ref)
        with torch.no_grad():
            levels = self.encode_images(self._prepare(images))
        return explain_levels(self.model, levels, None if held is None else list(held.levels), steps=steps)

    def _held(self, image: Tensor, ref: ImageSource | ReferenceFeatures | None) -> ReferenceFeatures | None:
        """Give the features of the reference of one image."""
        if ref is None:
            return None
        if not isinstance(ref, ReferenceFeatures):
            refs = to_image_list(ref)
            check_pair(image, refs[0], "image")
            ref = self.encode_reference(ref)
        if tuple(image.shape[-2:]) != ref.size:
            raise InputError(
                f"an image of {image.shape[-1]}x{image.shape[-2]} does not fit a reference of {ref.size[1]}x"
                f"{ref.size[0]}; give the reference of this image"
            )
        return ref


class BpclipFrMetric(BpclipMetric):
    """BPCLIP with a reference, `bpclip-fr`."""

    spec: ClassVar[MetricSpec] = SPECS[0]


class BpclipNrMetric(BpclipMetric):
    """BPCLIP without a reference, `bpclip-nr`."""

    spec: ClassVar[MetricSpec] = SPECS[1]
