"""How unlike the photographs of training a picture is, by the features of a backbone.

Mean and standard deviation of each channel of the levels describe a picture. Those of training photographs have a
mean and a covariance; a picture's distance is Mahalanobis' in the directions in which training photographs vary most,
and what is left in all others, on the scale of what is left of training photographs. The distances of photographs that
were not used for training say how far is far.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor

from iqametrics.weights.manifest import WEIGHTS_FOLDER, base_bytes

SUFFIX = "_novelty"
"""Ends the name of the base file that holds the statistics of a backbone's features."""


class NoveltyStatistics:
    """Statistics of the features of training photographs, and the distances of photographs that were held out.

    Args:
        tensors: `mean` and `scale` (C,) of the features; `directions` (K, C), each over its standard deviation;
            `rest` (1,), the root mean square of what is left; `quantiles` (Q,) of the held-out distances, ascending,
            at equal steps of the share from 0 to 1.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = {name: tensor.to(torch.float32) for name, tensor in tensors.items()}

    def shares(self, levels: Sequence[Tensor]) -> Tensor:
        """Compute which share of held-out photographs is less unlike training than each of N pictures, (N,).

        Args:
            levels: Levels of the pictures, (N, C_i, H_i, W_i) each.
        """
        return self.shares_of(self.distances_of(pooled_features(levels)))

    def distances_of(self, pooled: Tensor) -> Tensor:
        """Compute the distances (N,) of what `pooled_features` gave."""
        held = {name: tensor.to(pooled.device) for name, tensor in self._tensors.items()}
        centred = (pooled - held["mean"]) / held["scale"]
        within = centred @ held["directions"].T
        # The rows are orthogonal, and the length of each is the inverse of its deviation.
        lengths = held["directions"].square().sum(dim=1)
        left = centred.square().sum(dim=1) - (within.square() / lengths).sum(dim=1)
        return (within.square().mean(dim=1) + left.clamp(min=0) / held["rest"].square()).sqrt()

    def shares_of(self, distances: Tensor) -> Tensor:
        """Compute the shares of `shares` from distances (N,)."""
        quantiles = self._tensors["quantiles"].to(distances.device)
        after = torch.searchsorted(quantiles, distances.contiguous()).clamp(1, len(quantiles) - 1)
        low, high = quantiles[after - 1], quantiles[after]
        within = ((distances - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
        return (after - 1 + within) / (len(quantiles) - 1)


def pooled_features(levels: Sequence[Tensor]) -> Tensor:
    """Return mean and standard deviation of each channel of each level, (N, 2 sum C_i)."""
    parts = [
        part
        for level in levels
        for part in (level.float().mean(dim=(2, 3)), level.float().std(dim=(2, 3), correction=0))
    ]
    return torch.cat(parts, dim=1)


@lru_cache(maxsize=4)
def find_novelty(backbone: str, folder: Path = WEIGHTS_FOLDER) -> NoveltyStatistics | None:
    """Find the statistics of a bundled backbone; None where there are none.

    Raises:
        WeightsError: If the manifest or the file is damaged.
    """
    content = base_bytes(backbone + SUFFIX, folder)
    return None if content is None else NoveltyStatistics(load(content))
