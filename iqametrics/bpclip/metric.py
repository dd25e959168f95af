"""BPCLIP as metrics: images in, scores out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from iqametrics.bpclip import SPECS
from iqametrics.bpclip.config import LEVELS, BpclipConfig
from iqametrics.bpclip.distance import feature_distance
from iqametrics.bpclip.explain import BpclipExplanation, explain_levels, repairs
from iqametrics.bpclip.model import Bpclip
from iqametrics.errors import InputError, RecipeError
from iqametrics.images import ImageSource, check_pair, to_image_list
from iqametrics.metric import Metric, ReferenceFeatures, Sizing
from iqametrics.spec import MetricSpec


class BpclipMetric(Metric):
    """Base of both modes; the score is BPCLIP's prediction of the mean opinion score, scaled to [0, 1].

    Scores are nominally in [0, 1] and may leave it: the last layer is linear.
    """

    model: Bpclip
    # Five halvings need 32 pixels for one token; the longest side of the sets that the paper tests on is 768.
    default_sizing: ClassVar[Sizing] = Sizing(min_side=64, max_side=1024)

    @classmethod
    def build(cls, config: Mapping[str, Any] | None) -> Bpclip:
        """Build the network of a checkpoint's config, or the paper-size one, freshly initialised, for None.

        Raises:
            RecipeError: If the config is of the other mode, or impossible.
        """
        if config is None:
            return Bpclip(BpclipConfig(mode=cls.spec.mode))
        parsed = BpclipConfig.from_dict(config)
        if parsed.mode != cls.spec.mode:
            raise RecipeError(f"mode = {parsed.mode!r} is not that of {cls.spec.name}; ask for the other metric")
        return Bpclip(parsed)

    def score_images(self, dist: Tensor, ref: ReferenceFeatures | None) -> Tensor:
        """Score images (N, 3, H, W) in [0, 1] against the cached levels of their references: (N,)."""
        levels = self.model.levels(self.model.trunk(dist, differentiable=True))
        return self.model.score_levels(levels, None if ref is None else list(ref.levels[:LEVELS]))

    def encode_images(self, ref: Tensor) -> list[Tensor]:
        """Compute all five levels of references (N, 3, H, W)."""
        return self.picture_levels(ref)

    def picture_levels(self, images: Tensor) -> list[Tensor]:
        """Compute all five levels of images (N, 3, H, W)."""
        return self.model.levels(self.model.trunk(images))

    def explain(
        self, dist: ImageSource, ref: ImageSource | ReferenceFeatures | None = None, *, steps: int = 64
    ) -> BpclipExplanation:
        """Explain the score of one image: where in the image, and by which similarities, it came about.

        Nothing in the paper's training ties an adjective to its meaning: the texts are fixed directions, and the score
        MLP is free to use any of them in any way. A large contribution of "blurry" means that this direction moved the
        score; it does not mean that the image is blurry, unless the checkpoint was taught so for that adjective
        (`model.loss.word_weight`), as `bpclip-nr.lite2` was. See `BpclipExplanation`.

        Args:
            dist: One image.
            ref: Its reference, for the full-reference metric.
            steps: Steps of the integration; more make the contributions add up more exactly.

        Raises:
            InputError: If there is not exactly one image, or its reference is missing, superfluous or does not fit.
        """
        self._check_whole("explain")
        images = to_image_list(dist)
        if len(images) != 1:
            raise InputError(f"explain takes one image, not {len(images)}; call it once for each")
        self._check_mode(has_reference=ref is not None)
        if ref is not None and not isinstance(ref, ReferenceFeatures):
            refs = to_image_list(ref)
            if len(refs) != 1:
                raise InputError(f"explain takes one reference, not {len(refs)}; give that of this image")
            ref = refs[0]
        cached = self._cached_reference(images[0], ref)
        metric = self.in_working_precision()
        prepared = metric._prepare(images)
        with torch.no_grad():
            levels = metric.picture_levels(prepared)
        references = None if cached is None else list(cached.levels[:LEVELS])
        repair = repairs(metric.model, prepared, metric._prepare([ref])) if isinstance(ref, Tensor) else None
        found = explain_levels(metric.model, levels, references, steps=steps, picture=prepared[0], repair=repair)
        return replace(found, told=metric.told(prepared, found.score))

    def _cached_reference(self, image: Tensor, ref: ImageSource | ReferenceFeatures | None) -> ReferenceFeatures | None:
        """Return the features of the reference of one image, computed where they are not given."""
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
    # Eq. 1 takes |F_d - F_r| of features that are nearly equal: of bfloat16's eight bits few are left.
    exact_in_half: ClassVar[bool] = False

    @property
    def loss_is_of_score(self) -> bool:
        """Whether what is minimised with `as_loss` is 1 - score: not for the lite form, whose score leads astray."""
        return self.model.standardise is None

    def loss_images(self, dist: Tensor, ref: ReferenceFeatures | None) -> Tensor:
        """Compute what is minimised with `as_loss`: of the lite form `feature_distance`, which the paper does not have.

        A regression that never saw what its own gradient makes of a picture calls it better than the reference; a
        distance of features is 0 for the reference alone. docs/lite-models.md has figures of both.

        Raises:
            InputError: If the features of a reference were computed by a metric that was not made as a loss.
        """
        if self.loss_is_of_score or ref is None:
            return super().loss_images(dist, ref)
        if len(ref.levels) == LEVELS:
            raise InputError(
                f"the features of the reference were computed to score, and {self.full_name} as a loss needs its "
                "pixels too; call encode_reference of the metric that was made with as_loss=True"
            )
        *levels, pixels = ref.levels
        found = self.model.levels(self.model.trunk(dist, differentiable=True))
        return feature_distance([dist, *self._standard(found)], [pixels, *self._standard(levels)])

    def encode_images(self, ref: Tensor) -> list[Tensor]:
        """Compute all five levels of references (N, 3, H, W); for a distance, the pixels stand behind them."""
        levels = self.picture_levels(ref)
        return [*levels, ref] if self.as_loss and not self.loss_is_of_score else levels

    def _standard(self, levels: list[Tensor]) -> list[Tensor]:
        assert self.model.standardise is not None
        standard: list[Tensor] = self.model.standardise(levels)
        return standard


class BpclipNrMetric(BpclipMetric):
    """BPCLIP without a reference, `bpclip-nr`."""

    spec: ClassVar[MetricSpec] = SPECS[1]
