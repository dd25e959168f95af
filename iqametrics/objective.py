"""The interface between the methods and the trainer: what a method must offer so that it can be trained.

The trainer knows files, splits, crops, steps and resuming; a method's objective knows its model and its loss. Each
method's package holds its objectives; this module holds what they share.
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
        dist: Output of the model's trunk for the distorted images: feature levels (N, C_i, H_i, W_i), finest first, or
            the images themselves, `[(N, 3, H, W)]` in [0, 1], where no level is frozen. A level that the objective
            does not name in `needed_levels` is an empty tensor (N, 0) in its place.
        ref: The same of the references, or None.
        mos: Opinion scores (N,) in [0, 1], higher is better.
        distortion: (N,) int64, index into LIQE's eleven distortion names, -1 where unknown.
        source: (N,) int64, number of the recipe's CSV file that an image is from, 0 the main one. Scores of different
            sources are not on one scale, so pairwise losses compare within a source.
        keys: A name for each image, for messages.
        seeds: (N,) int64 on the CPU, for what is drawn at random for each image; None where it need not repeat.
        counts: Number of images of this batch on each process, in the order of their ranks; empty where a batch is not
            spread over processes.
        chains: (N, 2) int64, as `iqametrics.ranking.order_loss` takes them, where the batch holds versions of images
            that nobody has scored: their `mos` is a rank. None where every image has an opinion score.
        words: (N,) int64, beside `chains`: index into `iqametrics.words.WORDS` of the word that an image's damage makes
            true, `NONE` without damage, `UNKNOWN` where nothing is known.
        scenes: (N, 9), 1 for each of LIQE's nine scenes that an image shows, else 0; a row of zeros where they are
            unknown, None where they are not needed.
        views: Number of crops of one image that follow one another, everywhere in the batch.
    """

    dist: list[Tensor]
    ref: list[Tensor] | None
    mos: Tensor
    distortion: Tensor
    source: Tensor
    keys: tuple[str, ...] = ()
    seeds: Tensor | None = None
    counts: tuple[int, ...] = ()
    chains: Tensor | None = None
    words: Tensor | None = None
    scenes: Tensor | None = None
    views: int = 1

    def __len__(self) -> int:
        return len(self.mos)

    def only(self, index: int) -> "Batch":
        """Return the batch of one of its images, on this process alone."""
        rows = slice(index, index + 1)
        return Batch(
            dist=[level[rows] for level in self.dist],
            ref=None if self.ref is None else [level[rows] for level in self.ref],
            mos=self.mos[rows],
            distortion=self.distortion[rows],
            source=self.source[rows],
            keys=self.keys[rows],
            seeds=None if self.seeds is None else self.seeds[rows],
            chains=None if self.chains is None else self.chains[rows],
            words=None if self.words is None else self.words[rows],
            scenes=None if self.scenes is None else self.scenes[rows],
        )

    def generators(self) -> list[torch.Generator]:
        """Return a random generator of the batch's device for each image, seeded with its seed.

        So random numbers of an image depend neither on the other images of its batch nor on how the batch is spread.
        Without seeds, the seeds are drawn from torch's global generator.
        """
        seeds = torch.randint(2**62, (len(self),), device="cpu") if self.seeds is None else self.seeds
        return [torch.Generator(self.mos.device).manual_seed(seed) for seed in seeds.tolist()]

    def gather(self, values: Tensor) -> Tensor:
        """Gather values of this process's images, (n, ...), into those of the whole batch, (N, ...), in its order.

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
        instead. Each process's gradient is then the part of its own images, and the parts must be added up.
        """
        if len(self.counts) < 2:
            return value
        weight = len(self) / sum(self.counts)
        return (value - value.detach() * (1 - 1 / len(self.counts))) / weight

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """Move every tensor; without blocking, a copy from pinned memory goes on beside what follows."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pinned(self) -> "Batch":
        """Return the batch in memory from which a GPU can copy while it computes."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Change every tensor but the seeds, which are read on the CPU."""
        return replace(
            self,
            dist=[change(level) for level in self.dist],
            ref=None if self.ref is None else [change(level) for level in self.ref],
            mos=change(self.mos),
            distortion=change(self.distortion),
            source=change(self.source),
            chains=None if self.chains is None else change(self.chains),
            words=None if self.words is None else change(self.words),
            scenes=None if self.scenes is None else change(self.scenes),
        )


@dataclass(frozen=True)
class Statistics:
    """Statistics of the training data, which an objective may use before the first step.

    Attributes:
        mos_mean: Mean opinion score of the main CSV's training images, in [0, 1].
        mos_std: Standard deviation of the same.
        level_means: Mean of each channel of each level, (C_i,) each, over a sample of the training images.
        level_stds: Standard deviation of the same.
    """

    mos_mean: float
    mos_std: float
    level_means: tuple[Tensor, ...]
    level_stds: tuple[Tensor, ...]


class Objective(nn.Module):
    """A model together with the loss that trains it.

    A subclass sets `model` and implements `from_recipe`, `loss` and `predict`. Whatever it draws at random in `loss`
    comes from the batch's `generators`, or from torch's global generator, which the trainer seeds before every step
    from the recipe's seed and the step's number. So a resumed run draws what an uninterrupted one would have drawn;
    with `generators`, a run on several processes does so too.

    Attributes:
        model: The trained model; its state_dict becomes the checkpoint. It has `trunk(images)` and a `config` with
            `to_dict()`, unless the subclass overrides the methods below that use them.
        needed_levels: Numbers (1 for the finest) of the trunk's levels that `loss` and `predict` read; None for all.
            Only these are stored by the feature cache.
        needs_reference: Whether `ref` must be given.
        learns_order: Whether the loss reads `chains`; without that, ranks would be taken for opinion scores.
    """

    model: nn.Module
    needed_levels: tuple[int, ...] | None = None
    needs_reference: bool = False
    learns_order: bool = False

    @classmethod
    def from_recipe(cls, metric_name: str, model: dict[str, Any], init: dict[str, str]) -> "Objective":
        """Build from the recipe's [model] and [init] tables (paths already resolved).

        Raises:
            RecipeError: If a value is impossible.
            WeightsError: If a starting file is missing or does not fit.
        """
        raise NotImplementedError

    @classmethod
    def blank(
        cls, metric_name: str, model: dict[str, Any], init: dict[str, str], teacher: "Objective | None" = None
    ) -> "Objective":
        """Build with random weights in place of the starting files, for a plan, which asks for sizes alone.

        Args:
            metric_name: As in `from_recipe`.
            model: The recipe's [model] table.
            init: Those of the recipe's [init] files that are on this machine.
            teacher: The blank objective of the teacher, where it is given as a recipe.

        Raises:
            RecipeError: If a value is impossible, or the method cannot do without its starting files.
        """
        return cls.from_recipe(metric_name, model, init)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the value to minimise (a scalar, float32) and its parts by name, for the history.

        Both are means over the batch's images, or what `Batch.of_all` makes of losses that are not.
        """
        raise NotImplementedError

    def predict(self, batch: Batch) -> Tensor:
        """Return scores (N,) of whole images, as the metric does at test time: deterministic, in eval mode."""
        raise NotImplementedError

    def trunk(self, images: Tensor) -> list[Tensor]:
        """Return the frozen lower part's output for images (N, 3, H, W) in [0, 1]; without gradients."""
        with torch.no_grad():
            return self.model.trunk(images)  # type: ignore[operator]

    @property
    def frozen_levels(self) -> int:
        """Number of frozen levels; at 0 the trunk returns the images, and caching is pointless."""
        return int(self.model.config.frozen_levels)  # type: ignore[union-attr, arg-type]

    @property
    def trunk_strides(self) -> tuple[int, ...]:
        """Pixels of the image to one value of each of the trunk's maps, for the crops of the feature cache."""
        return tuple(2**level for level in range(1, self.frozen_levels + 1))

    def statistics_levels(self, trunk: list[Tensor]) -> list[Tensor]:
        """Return the maps (N, C_i, H_i, W_i) whose channel statistics `initialise` receives."""
        return [level for level in trunk if level.numel()]

    def checkpoint_activations(self) -> None:
        """Keep fewer activations for the backward pass and compute them again there; gradients stay the same.

        Raises:
            RecipeError: If the objective, as this one, has nothing of the kind.
        """
        raise RecipeError("train.checkpointing = true: only pfd-iqa, with model.use_pdr, has steps to compute again")

    def begin_epoch(self, history: Sequence[Mapping[str, float]]) -> None:
        """Prepare for an epoch; `history` has a row of figures of each epoch before, "train_NAME" for a part's mean."""

    def initialise(self, statistics: Statistics) -> None:
        """Set what depends on the training data; called once, before the first step of a fresh run."""

    def trunk_tensors(self) -> Mapping[str, Tensor]:
        """Return the tensors that decide what `trunk` returns, by name, for the cache's key.

        A superfluous one only costs a needless rebuild; a missing one would let stale features be used.
        """
        # Without the prefix before "backbone", so that two models on one backbone share a cache.
        state = self.model.state_dict()
        return {name.partition("backbone.")[2]: tensor for name, tensor in state.items() if "backbone." in name}

    def config(self) -> dict[str, Any]:
        """Return the model's config as JSON can hold it, for the checkpoint."""
        return dict(self.model.config.to_dict())  # type: ignore[union-attr, operator]

    def parameter_groups(self, lr: float, backbone_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return the optimiser's groups: two learning rates, and no decay of vectors and scalars."""
        return parameter_groups(self.named_parameters(), lr, backbone_lr, weight_decay)


def draw_each(generators: Sequence[torch.Generator], draw: Callable[[torch.Generator], Tensor]) -> Tensor:
    """Draw for each image and stack the results: (N, ...)."""
    return torch.stack([draw(generator) for generator in generators])


def check_init(init: Mapping[str, str], known: Sequence[str]) -> None:
    """Refuse starting files that a method does not take.

    Raises:
        RecipeError: If a key of the recipe's [init] is not among `known`.
    """
    unknown = sorted(set(init) - set(known))
    if unknown:
        raise RecipeError(f"unknown init keys: {', '.join(unknown)}; known are {', '.join(known)}")


def require_backbone(init: Mapping[str, str], frozen_levels: int) -> None:
    """Refuse to freeze a backbone into which no weights were loaded, since it would stay random.

    Raises:
        RecipeError: If levels are frozen and the recipe's [init] names no backbone.
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
        parameters: Pairs of name and parameter; those without gradient are left out.
        lr: Learning rate of all but the backbone.
        backbone_lr: Learning rate of the backbone.
        weight_decay: Decay of matrices and kernels.
        backbone_names: A parameter whose name contains one of these belongs to the backbone.

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
        RecipeError: If a key is unknown, or a weight is no number or negative.
    """
    loss = read_fields(cls, values, "model.loss", error=RecipeError)
    for name in values:
        if isinstance(value := getattr(loss, name), int | float) and value < 0:
            raise RecipeError(f"model.loss.{name} = {values[name]} is no weight; give a number from 0 up")
    return loss
