"""BPCLIP: bottom-up image quality assessment from distortion to semantics, as a network.

Source: Song et al., "BPCLIP: A Bottom-up Image Quality Assessment from Distortion to Semantics Based on CLIP",
ICME 2025, arXiv 2506.17969. Equation numbers in this package are the paper's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqametrics.bpclip.branches import InformationBranch, NormedMlp, WeightBranch
from iqametrics.bpclip.config import BpclipConfig
from iqametrics.bpclip.pooling import GatedLocalPooling, PositionEncoding
from iqametrics.errors import InputError
from iqametrics.nn.backbones import LevelStandardiser, build_backbone
from iqametrics.nn.levels import LEVELS
from iqametrics.nn.precision import without_autocast, working_dtype


@dataclass(frozen=True)
class BpclipEncoding:
    """What the network computes for a batch before the score.

    Attributes:
        information: MLP(G'_i) of eq. 6, n - 1 tensors (N, L, D); empty without the information branch.
        weights: sigmoid(MLP(G''_i)) of eq. 6, in (0, 1), n - 1 tensors (N, L, D); empty unless both branches are on.
        tokens: What eq. 7 averages over the positions, n - 1 tensors (N, L, D): the product of the two.
        descriptors: What the score MLP of eq. 9 reads, (N, n - 1, K): the similarities s_i, or, in the ablation
            without text anchors, the features x_i (N, n - 1, C_t).
        grid: Height H_n and width W_n of the token grid, L = H_n W_n.
    """

    information: list[Tensor]
    weights: list[Tensor]
    tokens: list[Tensor]
    descriptors: Tensor
    grid: tuple[int, int]


class TextSimilarity(nn.Module):
    """Similarity of image features to the text anchors, eq. 8 and Figure 1.

    "softmax": softmax over the anchors of tau * cos(x_i, y_k), the default; "pairs": softmax over the two anchors of
    each antonym pair, which stand side by side; "scaled_cosine": tau * cos(x_i, y_k);
    "cosine": cos(x_i, y_k), eq. 8 alone. tau is learnable and stored as its logarithm.

    Args:
        config: The model's config.
    """

    anchors: Tensor

    def __init__(self, config: BpclipConfig) -> None:
        super().__init__()
        self.kind = config.similarity
        self.register_buffer("anchors", torch.randn(config.n_anchors, config.text_width))
        self.log_tau = None
        if self.kind != "cosine":
            self.log_tau = nn.Parameter(torch.tensor(math.log(config.logit_scale)))

    def forward(self, features: Tensor) -> Tensor:
        """Map features x_i, (N, n - 1, C_t), to similarities s_i, (N, n - 1, K)."""
        working = working_dtype(features, self.anchors)
        # Half precision would be wrong by a quarter in 100 times a cosine.
        with without_autocast(features):
            anchors = F.normalize(self.anchors.to(working), dim=-1)
            similarities = F.normalize(features.to(working), dim=-1) @ anchors.T
            if self.log_tau is not None:
                similarities = self.log_tau.exp() * similarities
            if self.kind == "softmax":
                similarities = similarities.softmax(dim=-1)
            if self.kind == "pairs":
                similarities = similarities.unflatten(-1, (-1, 2)).softmax(dim=-1).flatten(-2)
        return similarities.to(torch.promote_types(features.dtype, self.anchors.dtype))


class ScoreMlp(nn.Module):
    """Score of eq. 9 from the descriptors of all levels: linear to `score_hidden`, GELU, linear to one value.

    Args:
        config: The model's config.
    """

    def __init__(self, config: BpclipConfig) -> None:
        super().__init__()
        inputs = (LEVELS - 1) * (config.n_anchors if config.text_anchors else config.text_width)
        self.norm = nn.LayerNorm(inputs) if config.similarity_norm else nn.Identity()
        self.hidden = nn.Linear(inputs, config.score_hidden)
        self.out = nn.Linear(config.score_hidden, 1)

    def forward(self, descriptors: Tensor) -> Tensor:
        """Map (N, n - 1, K) to scores (N,)."""
        return self.out(F.gelu(self.hidden(self.norm(descriptors.flatten(1))))).squeeze(-1)


class Bpclip(nn.Module):
    """BPCLIP, paper-size or lite, with or without a reference.

    An image goes through `trunk` (the frozen lower levels), `levels` (the rest of the backbone), gated local pooling,
    the two branches, the mapping to the text space, the similarities and the score MLP. `forward` does all of it;
    `head` starts from the trunk's features and `score_levels` from all five levels, so that either can be cached.

    Args:
        config: Sizes and choices.

    Raises:
        RecipeError: If the backbone's name is not known, or it is a network that does not give five levels.
        MissingExtraError: If the backbone needs a package that is not installed.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: BpclipConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("pixel_mean", torch.tensor(config.pixel_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(config.pixel_std).view(3, 1, 1), persistent=False)
        self.backbone = build_backbone(config.backbone)
        self.backbone.freeze(config.frozen_levels)
        channels = self.backbone.channels
        self.standardise = LevelStandardiser(channels) if config.standardise_levels else None
        self.pooling = nn.ModuleList(
            GatedLocalPooling(config, channels=count, level=number) for number, count in enumerate(channels, start=1)
        )
        if config.frozen_pooling:
            for pool in self._pools:
                pool.hold_gate()
        self.position = PositionEncoding(config.width, config.position_size)
        self.information = InformationBranch(config) if config.information_branch else None
        self.weight = WeightBranch(config) if config.weight_branch else None
        self.mapping = nn.ModuleList(NormedMlp(config.width, config.text_width) for _ in range(LEVELS - 1))
        self.similarity = TextSimilarity(config) if config.text_anchors else None
        self.score = ScoreMlp(config)

    def set_anchors(self, anchors: Tensor) -> None:
        """Store the text anchors Y, (K, C_t); do nothing in the ablation without them.

        Raises:
            InputError: If their shape is not the config's.
        """
        if self.similarity is None:
            return
        if anchors.shape != self.similarity.anchors.shape:
            raise InputError(
                f"anchors of shape {tuple(anchors.shape)} do not fit n_anchors = {self.config.n_anchors}, "
                f"text_width = {self.config.text_width}: make them with the text encoder the config was written for"
            )
        self.similarity.anchors.copy_(anchors)

    def set_level_statistics(self, means: Sequence[Tensor], stds: Sequence[Tensor]) -> None:
        """Store the channel means and deviations of the levels, (C_i,) each, once and before training.

        Do nothing where the config does not standardise levels.
        """
        if self.standardise is not None:
            self.standardise.set_statistics(means, stds)

    def forward(self, dist: Tensor, ref: Tensor | None = None) -> Tensor:
        """Score images.

        Args:
            dist: Distorted images, RGB in [0, 1], (N, 3, H, W).
            ref: Their references, of the same shape, in mode "fr" and only there.

        Returns:
            Scores (N,), higher is better, nominally in [0, 1] but not bound to it.

        Raises:
            InputError: If a reference is missing, surplus, or of another shape.
        """
        self._check_pair(dist, ref)
        if ref is None:
            return self.head(self.trunk(dist))
        return self.head(*_split(self.trunk(torch.cat([dist, ref])), dist.shape[0]))

    def trunk(self, images: Tensor, *, differentiable: bool = False) -> list[Tensor]:
        """Compute the frozen lower part of the network.

        Args:
            images: RGB in [0, 1], (N, 3, H, W).
            differentiable: Whether gradients reach the images; training does not need that.

        Returns:
            Levels 1..k, k = `frozen_levels`, level i of shape (N, C_i, ceil(H / 2^i), ceil(W / 2^i)); for k = 0, the
            images themselves.
        """
        if self.config.frozen_levels == 0:
            return [images]
        with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
            return self.backbone.to_level(self._normalise(images), end=self.config.frozen_levels)

    def levels(self, trunk: list[Tensor]) -> list[Tensor]:
        """Compute all five levels from the output of `trunk`."""
        frozen = self.config.frozen_levels
        if frozen == 0:
            return self.backbone(self._normalise(trunk[0]))
        if frozen == LEVELS:
            return trunk
        return [*trunk, *self.backbone.from_level(trunk[-1], start=frozen)]

    def head(self, dist: list[Tensor], ref: list[Tensor] | None = None) -> Tensor:
        """Score the output of `trunk` for distorted images and, in mode "fr", for their references: (N,).

        The stages above the trunk process both in one batch.

        Raises:
            InputError: If a reference is missing, surplus, or of another shape.
        """
        self._check_pair(dist[-1], None if ref is None else ref[-1])
        if ref is None:
            return self.score_levels(self.levels(dist))
        return self.score_levels(*self._pair_levels(dist, ref))

    def score_levels(self, dist: list[Tensor], ref: list[Tensor] | None = None) -> Tensor:
        """Score all five levels of distorted images and, in mode "fr", of their references.

        Args:
            dist: Five levels of the distorted images, as `levels` returns them.
            ref: Five levels of the references; with N = 1, one reference serves all images.

        Returns:
            Scores (N,).
        """
        scores = self.score(self.encode(dist, ref).descriptors)
        if not self.config.relative or ref is None:
            return scores
        scores = 1 + scores - self.score(self.encode(ref, ref).descriptors)
        # A score above that of the identical pair must still be learnt from; nothing is better than the reference.
        return scores if self.training else scores.clamp(max=1)

    def encode(self, dist: list[Tensor], ref: list[Tensor] | None = None) -> BpclipEncoding:
        """Compute everything up to the similarities; arguments as in `score_levels`."""
        self._check_pair(dist[-1], None if ref is None else ref[-1])
        return self._encode_maps([pool(*pair) for pool, *pair in self._pooled(dist, ref)])

    def encode_gated(self, means: list[Tensor]) -> BpclipEncoding:
        """Go on from what `gated` gave to the similarities."""
        return self._encode_maps(self._reduced(means))

    def _encode_maps(self, maps: list[Tensor]) -> BpclipEncoding:
        """Go on from the levels on the smallest level's grid, (N, D, H_n, W_n) each."""
        tokens, grid = self._tokens(maps)
        information = [] if self.information is None else self.information(tokens)
        weights = [] if self.weight is None else self.weight(tokens)
        combined = information or weights
        if information and weights:
            weights = [torch.sigmoid(weight) for weight in weights]
            combined = [info * weight for info, weight in zip(information, weights, strict=True)]
        descriptors = self.describe([level.mean(dim=1) for level in combined])
        return BpclipEncoding(information, weights if information else [], combined, descriptors, grid)

    def describe(self, means: Sequence[Tensor]) -> Tensor:
        """Map one token of each level, n - 1 tensors (N, D), to what the score MLP reads (eq. 7 and 8): (N, n - 1, K).

        For a picture these are the means over its positions.
        """
        features = torch.stack([mlp(mean) for mlp, mean in zip(self.mapping, means, strict=True)], 1)
        return features if self.similarity is None else self.similarity(features)

    def gated(self, dist: list[Tensor], ref: list[Tensor] | None = None) -> list[Tensor]:
        """Return the gated window means of each level on the smallest level's grid (eq. 1 and 2 before the reduction).

        Arguments as in `score_levels`.

        Returns:
            Five maps (N, C_i, H_n, W_n) without reference, (N, 3 C_i, H_n, W_n) with one.
        """
        return [pool.gated(level, other) for pool, level, other in self._pooled(dist, ref)]

    def pool(self, dist: list[Tensor], ref: list[Tensor] | None = None) -> tuple[list[Tensor], tuple[int, int]]:
        """Return the tokens G_1..G_n with their positions, (N, L, D) each, and their grid H_n, W_n (eq. 1 and 2)."""
        return self._tokens(self._reduced(self.gated(dist, ref)))

    @property
    def _pools(self) -> Sequence[GatedLocalPooling]:
        # A ModuleList does not say of what.
        return cast("Sequence[GatedLocalPooling]", self.pooling)

    def _pooled(
        self, dist: list[Tensor], ref: list[Tensor] | None
    ) -> list[tuple[GatedLocalPooling, Tensor, Tensor | None]]:
        """Return the pooling of each level with what it pools: standardised levels, one reference for each image."""
        if self.standardise is not None:
            dist = self.standardise(dist)
            ref = None if ref is None else self.standardise(ref)
        refs = (
            [None] * LEVELS if ref is None else [other.expand_as(level) for other, level in zip(ref, dist, strict=True)]
        )
        return list(zip(self._pools, dist, refs, strict=True))

    def _reduced(self, means: list[Tensor]) -> list[Tensor]:
        return [pool.reduce(level) for pool, level in zip(self._pools, means, strict=True)]

    def _tokens(self, maps: list[Tensor]) -> tuple[list[Tensor], tuple[int, int]]:
        grid = (maps[-1].shape[-2], maps[-1].shape[-1])
        position = self.position(*grid)
        return [level.flatten(2).transpose(1, 2) + position for level in maps], grid

    def _pair_levels(self, dist: list[Tensor], ref: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Compute all five levels of both images of each pair from the output of `trunk`, in one batch."""
        frozen = self.config.frozen_levels
        if frozen == LEVELS:
            return dist, ref
        if frozen == 0:
            return _split(self.levels([torch.cat([dist[0], ref[0]])]), len(dist[0]))
        upper = self.backbone.from_level(torch.cat([dist[-1], ref[-1]]), start=frozen)
        upper_dist, upper_ref = _split(upper, len(dist[-1]))
        return [*dist, *upper_dist], [*ref, *upper_ref]

    def _normalise(self, images: Tensor) -> Tensor:
        return (images - self.pixel_mean) / self.pixel_std

    def _check_pair(self, dist: Tensor, ref: Tensor | None) -> None:
        """Check a pair against the mode and against each other.

        Raises:
            InputError: If a reference is missing, surplus, or of another shape.
        """
        if self.config.mode == "nr" and ref is not None:
            raise InputError("a no-reference model was given a reference; leave it out")
        if self.config.mode == "fr" and ref is None:
            raise InputError("a full-reference model was given no reference; give one for each image")
        if ref is not None and (ref.shape[1:] != dist.shape[1:] or ref.shape[0] not in (1, dist.shape[0])):
            raise InputError(
                f"distorted {tuple(dist.shape)} and reference {tuple(ref.shape)} differ in shape; "
                "give pairs of equal size"
            )


def _split(levels: list[Tensor], first: int) -> tuple[list[Tensor], list[Tensor]]:
    """Split each level of a joint batch into its `first` images and the rest."""
    return [level[:first] for level in levels], [level[first:] for level in levels]
