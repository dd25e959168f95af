"""The seam between the methods and the trainer: what a method must offer so that it can be trained.

The trainer knows files, splits, crops, steps and resuming; a method's objective knows its model and its loss. Each
method's room holds its objectives; this module holds what they share.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor, nn

from iqametrics.common.fields import read_fields
from iqametrics.errors import RecipeError

_Loss = TypeVar("_Loss")


@dataclass(frozen=True)
class Batch:
    """N images (or N pairs) on their way into an objective.

    Attributes:
        dist: what the model's trunk gave for the distorted images: feature levels (N, C_i, H_i, W_i), finest first, or
            the images themselves, `[(N, 3, H, W)]` in [0, 1], where no level is frozen. A level that the objective
            does not name in `needed_levels` is an empty tensor (N, 0) in its place.
        ref: the same of the references, or None.
        mos: opinion scores (N,) in [0, 1], higher is better.
        distortion: (N,) int64, index into LIQE's eleven distortion names, -1 where unknown.
        source: (N,) int64, which of the recipe's CSV files an image is from, 0 the main one. Scores of different
            sources are not on one scale, so pairwise losses compare within a source.
        keys: a name for each image, for messages.
        seeds: (N,) int64 on the CPU, for what is drawn at random for each image; None where nobody cares.
        counts: how many images each process holds of this batch, in the order of their ranks, where a batch is spread
            over processes; empty where it is not.
        scenes: (N, 9), 1 for each of LIQE's nine scenes that an image shows, else 0; a row of zeros where they are
            unknown, None where nobody asks.
        views: how many crops of one image stand one after the other, everywhere in the batch.
    """

    dist: list[Tensor]
    ref: list[Tensor] | None
    mos: Tensor
    distortion: Tensor
    source: Tensor
    keys: tuple[str, ...] = ()
    seeds: Tensor | None = None
    counts: tuple[int, ...] = ()
    scenes: Tensor | None = None
    views: int = 1

    def __len__(self) -> int:
        return len(self.mos)

    def only(self, index: int) -> "Batch":
        """Give the batch of one of its images, on this process alone."""
        rows = slice(index, index + 1)
        return Batch(
            dist=[level[rows] for level in self.dist],
            ref=None if self.ref is None else [level[rows] for level in self.ref],
            mos=self.mos[rows],
            distortion=self.distortion[rows],
            source=self.source[rows],
            keys=self.keys[rows],
            seeds=None if self.seeds is None else self.seeds[rows],
            scenes=None if self.scenes is None else self.scenes[rows],
        )

    def generators(self) -> list[torch.Generator]:
        """Give a random generator of the CPU for each image, seeded with its seed.

        So what is drawn for an image depends neither on the other images of the batch nor on how a batch is spread.
        Without seeds they are drawn from torch's global generator.
        """
        seeds = torch.randint(2**62, (len(self),)) if self.seeds is None else self.seeds
        return [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]

    def gather(self, values: Tensor) -> Tensor:
        """Give values of this process's images, (n, ...), for all images of the batch, (N, ...), in its order.

        Only this process's values have a gradient; every process must call it. See `of_all`.
        """
        if len(self.counts) < 2:
            return values
        padded = values.new_zeros(max(self.counts), *values.shape[1:])
        padded[: len(values)] = values.detach()
        parts = [torch.empty_like(padded) for _ in self.counts]
        torch.distributed.all_gather(parts, padded)
        joined = [part[:count] for part, count in zip(parts, self.counts, strict=True)]
        joined[torch.distributed.get_rank()] = values
        return torch.cat(joined)

    def of_all(self, value: Tensor) -> Tensor:
        """Turn a loss over all images of the batch, from gathered values, into this process's share of it.

        The trainer takes the mean of the processes' losses, weighted by their numbers of images, which is right for
        a mean over images. A loss over pairs, or over some of the images, is computed by every process over all images
        instead; then each process's gradient is its images' part of the whole, and the parts must be added up.
        """
        if len(self.counts) < 2:
            return value
        weight = len(self) / sum(self.counts)
        return (value - value.detach() * (1 - 1 / len(self.counts))) / weight

    def to(self, device: torch.device | str) -> "Batch":
        """Move every tensor."""
        return replace(
            self,
            dist=[level.to(device) for level in self.dist],
            ref=None if self.ref is None else [level.to(device) for level in self.ref],
            mos=self.mos.to(device),
            distortion=self.distortion.to(device),
            source=self.source.to(device),
            scenes=None if self.scenes is None else self.scenes.to(device),
        )


@dataclass(frozen=True)
class Statistics:
    """What an objective may know about the training data before the first step.

    Attributes:
        mos_mean: mean opinion score of the main CSV's training images, in [0, 1].
        mos_std: standard deviation of the same.
        level_means: mean of each channel of each level, (C_i,) each, over a sample of the training images.
        level_stds: standard deviation of the same.
    """

    mos_mean: float
    mos_std: float
    level_means: tuple[Tensor, ...]
    level_stds: tuple[Tensor, ...]


class Objective(nn.Module):
    """A model together with what is minimised to train it.

    A subclass sets `model` and implements `from_recipe`, `loss` and `predict`. Whatever it draws at random in `loss`
    comes from the batch's `generators`, or from torch's global generator, which the trainer seeds before every step
    from the recipe's seed and the step's number: so a resumed run draws what the unbroken one would have drawn. With
    the first, a run on several processes does so too.

    Attributes:
        model: the trained model; its state_dict becomes the checkpoint. It has `trunk(images)` and a `config` with
            `to_dict()`, unless the subclass overrides the methods below that use them.
        needed_levels: numbers (1 for the finest) of the trunk's levels that `loss` and `predict` read; None for all.
            Only these are stored by the feature cache.
        needs_reference: whether `ref` must be given.
    """

    model: nn.Module
    needed_levels: tuple[int, ...] | None = None
    needs_reference: bool = False

    @classmethod
    def from_recipe(cls, metric_name: str, model: dict[str, Any], init: dict[str, str]) -> "Objective":
        """Build from the recipe's [model] and [init] tables (paths already resolved).

        Raises:
            RecipeError: an impossible value.
            WeightsError: a starting file that is missing or does not fit.
        """
        raise NotImplementedError

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Give the value to minimise (a scalar, float32) and its parts by name, for the history.

        Both are means over the batch's images, or what `Batch.of_all` makes of losses that are not.
        """
        raise NotImplementedError

    def predict(self, batch: Batch) -> Tensor:
        """Give scores (N,) of whole images, as the metric does at test time: deterministic, in eval mode."""
        raise NotImplementedError

    def trunk(self, images: Tensor) -> list[Tensor]:
        """Give the frozen lower part's output for images (N, 3, H, W) in [0, 1]; without gradients."""
        with torch.no_grad():
            return self.model.trunk(images)  # type: ignore[operator]

    @property
    def frozen_levels(self) -> int:
        """How many levels are frozen; 0 means that the trunk gives the images back and caching is pointless."""
        return int(self.model.config.frozen_levels)  # type: ignore[union-attr, arg-type]

    def statistics_levels(self, trunk: list[Tensor]) -> list[Tensor]:
        """Give the maps (N, C_i, H_i, W_i) whose channel means and deviations `initialise` wants."""
        return [level for level in trunk if level.numel()]

    def begin_epoch(self, history: Sequence[Mapping[str, float]]) -> None:
        """Prepare for an epoch; `history` has a row of figures of each epoch before, "train_NAME" for a part's mean."""

    def initialise(self, statistics: Statistics) -> None:
        """Set what depends on the training data; called once, before the first step of a fresh run."""

    def trunk_tensors(self) -> Mapping[str, Tensor]:
        """Give the tensors that decide what `trunk` returns, by name, for the cache's key.

        One too many only costs a needless rebuild; one too few would serve stale features.
        """
        # Without what stands before the backbone, so that two models on one backbone share a cache.
        state = self.model.state_dict()
        return {name.partition("backbone.")[2]: tensor for name, tensor in state.items() if "backbone." in name}

    def config(self) -> dict[str, Any]:
        """Give the model's config as JSON can hold it, for the checkpoint."""
        return dict(self.model.config.to_dict())  # type: ignore[union-attr, operator]

    def parameter_groups(self, lr: float, backbone_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Give the optimiser's groups: everything trainable in two rates, vectors and scalars without decay."""
        return parameter_groups(self.named_parameters(), lr, backbone_lr, weight_decay)


def draw_each(generators: Sequence[torch.Generator], draw: Callable[[torch.Generator], Tensor]) -> Tensor:
    """Stack what is drawn for each image: (N, ...)."""
    return torch.stack([draw(generator) for generator in generators])


def check_init(init: Mapping[str, str], known: Sequence[str]) -> None:
    """Refuse starting files that a method does not take.

    Raises:
        RecipeError: a key of the recipe's [init] is not among `known`.
    """
    unknown = sorted(set(init) - set(known))
    if unknown:
        raise RecipeError(f"unknown init keys: {', '.join(unknown)}; known are {', '.join(known)}")


def require_backbone(init: Mapping[str, str], frozen_levels: int) -> None:
    """Refuse to freeze a backbone that nothing was loaded into: it would stay random to the end.

    Raises:
        RecipeError: levels are frozen and the recipe's [init] names no backbone.
    """
    if frozen_levels and "backbone" not in init:
        raise RecipeError(
            f"init.backbone is missing: {frozen_levels} frozen levels would stay random; give a file or the name of a "
            "bundled one, or model.frozen_levels = 0"
        )


def parameter_groups(
    parameters: Iterable[tuple[str, nn.Parameter]],
    lr: float,
    backbone_lr: float,
    weight_decay: float,
    backbone_names: Sequence[str] = ("backbone.",),
) -> list[dict[str, Any]]:
    """Sort trainable parameters into at most four groups: backbone or not, decayed or not.

    Biases, norms and single numbers (ndim < 2) are not decayed: pulling them to zero does not make a function simpler.

    Args:
        parameters: (name, parameter) pairs; those without gradient are left out.
        lr: learning rate of what is not the backbone.
        backbone_lr: learning rate of the backbone.
        weight_decay: decay of matrices and kernels.
        backbone_names: a parameter whose name contains one of these belongs to the backbone.

    Returns:
        Dictionaries with `params`, `lr` and `weight_decay`, empty groups left out.
    """
    sorted_parameters: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            key = any(part in name for part in backbone_names), parameter.ndim >= 2
            sorted_parameters.setdefault(key, []).append(parameter)
    return [
        {"params": group, "lr": backbone_lr if backbone else lr, "weight_decay": weight_decay if decayed else 0.0}
        for (backbone, decayed), group in sorted(sorted_parameters.items(), key=lambda item: item[0])
    ]


def read_loss(cls: type[_Loss], values: Any) -> _Loss:
    """Read the weights of a loss's parts and its choices, a dataclass, from the table `model.loss` of a recipe.

    Raises:
        RecipeError: A key is unknown, or a weight is no number or negative.
    """
    loss = read_fields(cls, values, "model.loss", error=RecipeError)
    for name in values:
        if isinstance(value := getattr(loss, name), int | float) and value < 0:
            raise RecipeError(f"model.loss.{name} = {values[name]} is no weight; give a number from 0 up")
    return loss
