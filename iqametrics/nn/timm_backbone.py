"""Any network of timm that gives five levels at strides 2 to 32, untrained, as a backbone.

timm gives the levels (`features_only`), and can neither leave a network at a level nor enter it there. Most of its
networks are a chain of parts, though, each fed with what the one before gives. `_trace` finds the chain by running the
network once; a network that is none can be trained as a whole or held as a whole, and not in part.
"""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqametrics.common.suggest import did_you_mean
from iqametrics.errors import MissingExtraError, RecipeError
from iqametrics.nn.backbone import Backbone
from iqametrics.nn.levels import LEVELS, STRIDES

PREFIX = "timm/"
# Their heads have over a hundred million weights, ten times the levels: what timm builds, only to drop it, looks to the
# reader of checkpoints like a hostile config, so what was trained could not be loaded.
_HEAVY_HEADS = ("vgg",)
# Neither side is a multiple of 32: the levels of a network that rounds down come out too small.
_ODD, _EVEN = (33, 65), (64, 96)
# A part of the chain is a child of the network, or a child of one that only holds others.
_DEPTH = 2
# How networks say that an image has a size which they do not take.
_REFUSALS = (RuntimeError, AssertionError, ValueError)


@dataclass(frozen=True)
class _Chain:
    """How a network computes its levels.

    Attributes:
        outputs: Which of the network's outputs are the five levels.
        stages: For each level the names of the parts that lead to it from the one below; empty if it is no chain.
        padded: Whether images must be padded to multiples of 32 pixels, for the levels to have the right sizes.
    """

    outputs: tuple[int, ...]
    stages: tuple[tuple[str, ...], ...]
    padded: bool


class TimmBackbone(Backbone):
    """A network of timm by its name, with fresh weights.

    Args:
        name: As timm writes it, without the tag of trained weights: "mobilenetv3_small_100".

    Raises:
        MissingExtraError: If timm is not installed.
        RecipeError: If timm has no such network, or it gives other levels than those at strides 2 to 32.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.network = _create(name)
        for module in self.network.modules():
            # A level is used again after the stage above it has read it.
            if hasattr(module, "inplace"):
                module.inplace = False  # type: ignore[assignment]
        info = self.network.feature_info
        outputs = _outputs(name, info.reduction())  # type: ignore[operator, union-attr]
        self.channels = tuple(info.channels()[index] for index in outputs)  # type: ignore[operator, union-attr]
        self._chain = _trace(name, self.network, outputs)

    def to_level(self, x: Tensor, *, end: int) -> list[Tensor]:
        """Compute levels 1..end of normalised images (N, 3, H, W)."""
        if self._chain.stages:
            return self._run(x, 0, end)
        return _whole(self.network, self._chain, x)[:end]

    def from_level(self, level: Tensor, *, start: int) -> list[Tensor]:
        """Compute levels start+1..5 from the map of level `start`."""
        self._check_chain(start)
        return self._run(level, start, LEVELS)

    def stage_modules(self, *, above_level: int) -> nn.ModuleList:
        """Give the parts that compute the levels above `above_level`."""
        self._check_chain(above_level)
        stages = self._chain.stages[above_level:]
        return nn.ModuleList(self.network.get_submodule(name) for stage in stages for name in stage)

    def published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give the tensors of timm's own file of the whole network; the head is left out."""
        # timm's network of levels writes some of the dots as underscores.
        theirs = {name.replace(".", "_"): tensor for name, tensor in tensors.items()}
        own = self.network.state_dict()
        found = {name: theirs.get(name.replace(".", "_"), tensors.get(f"network.{name}")) for name in own}
        return {f"network.{name}": tensor for name, tensor in found.items() if tensor is not None}

    def _run(self, x: Tensor, start: int, end: int) -> list[Tensor]:
        levels = []
        for stage in self._chain.stages[start:end]:
            for name in stage:
                x = self.network.get_submodule(name)(x)
            levels.append(x)
        return levels

    def _check_chain(self, level: int) -> None:
        """Refuse to part a network that is no chain of parts.

        Raises:
            RecipeError: If it is none.
        """
        if not self._chain.stages and level < LEVELS:
            raise RecipeError(
                f"{PREFIX}{self.name} cannot be entered at a level; train or hold all of it: frozen_levels = 0 or "
                f"{LEVELS}"
            )


def _create(name: str) -> nn.Module:
    if importlib.util.find_spec("timm") is None:
        raise MissingExtraError(f'timm is not installed, and {PREFIX}{name} needs it: pip install "iqametrics[timm]"')
    import timm

    # A name with a colon or a slash would make timm fetch something.
    if not re.fullmatch(r"\w+", name) or not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models()) or "see timm.list_models()"
        raise RecipeError(f"timm has no network {name!r}; {hint}")
    if name.startswith(_HEAVY_HEADS):
        raise RecipeError(f"{PREFIX}{name} has a head far larger than its levels; choose another network")
    try:
        network: nn.Module = timm.create_model(name, pretrained=False, features_only=True)
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise RecipeError(f"{PREFIX}{name} gives no levels ({reason}); choose a convolutional network") from error
    return network


def _outputs(name: str, strides: Sequence[int]) -> tuple[int, ...]:
    """Find the outputs at strides 2 to 32, the last one where there are several."""
    last = {stride: index for index, stride in enumerate(strides)}
    if missing := [stride for stride in STRIDES if stride not in last]:
        raise RecipeError(
            f"{PREFIX}{name} gives levels at strides {', '.join(map(str, strides))}, and none at "
            f"{', '.join(map(str, missing))}; a backbone gives five, at strides {', '.join(map(str, STRIDES))}"
        )
    return tuple(last[stride] for stride in STRIDES)


@torch.no_grad()
def _trace(name: str, network: nn.Module, outputs: tuple[int, ...]) -> _Chain:
    """Find how a network computes its levels, by running it; its weights do not matter.

    Raises:
        RecipeError: If the levels have other sizes than ceil(H / 2^i) x ceil(W / 2^i).
    """
    network.eval()
    try:
        stages = _stages(network, outputs)
        for padded in (False, True):
            chain = _Chain(outputs, () if padded else stages, padded)
            if _gives_levels(network, chain):
                return chain
    finally:
        network.train()
    raise RecipeError(f"{PREFIX}{name} does not take images of any size; choose another network")


def _gives_levels(network: nn.Module, chain: _Chain) -> bool:
    try:
        levels = _whole(network, chain, torch.zeros(1, 3, *_ODD))
    except _REFUSALS:
        return False
    return all(
        level.shape[-2:] == tuple(-(-side // stride) for side in _ODD)
        for level, stride in zip(levels, STRIDES, strict=True)
    )


def _stages(network: nn.Module, outputs: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
    """Find the chain of parts that leads from the image to each level; empty where the network is none.

    Each part of a chain is called once, with the very tensor that the part before it gave.
    """
    calls: list[tuple[str, Any, Any]] = []
    hooks = [
        part.register_forward_hook(lambda _, args, result, name=name: calls.append((name, args, result)))
        for name, part in network.named_modules()
        if name and name.count(".") < _DEPTH
    ]
    image = torch.zeros(1, 3, *_EVEN)
    try:
        found = network(image)
    except _REFUSALS:
        return ()
    finally:
        for hook in hooks:
            hook.remove()
    called = {name for name, _, _ in calls}
    levels = [found[index] for index in outputs]
    stages: list[list[str]] = [[]]
    last = image
    for name, args, result in calls:
        if name.partition(".")[0] in called and "." in name:
            continue  # inside a part that is called itself
        if len(stages) > LEVELS:
            break
        if len(args) != 1 or args[0] is not last:
            return ()
        stages[-1].append(name)
        last = result
        if last is levels[len(stages) - 1]:
            stages.append([])
    return tuple(map(tuple, stages[:LEVELS])) if len(stages) > LEVELS else ()


def _whole(network: nn.Module, chain: _Chain, x: Tensor) -> list[Tensor]:
    """Run all of a network, on an image padded at the right and at the bottom if it must be."""
    height, width = x.shape[-2:]
    if chain.padded:
        largest = STRIDES[-1]
        x = F.pad(x, (0, -width % largest, 0, -height % largest), mode="replicate")
    found = network(x)
    levels = [found[index] for index in chain.outputs]
    if not chain.padded:
        return levels
    return [
        level[..., : -(-height // stride), : -(-width // stride)] for level, stride in zip(levels, STRIDES, strict=True)
    ]
