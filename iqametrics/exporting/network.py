"""A metric as a network: RGB in [0, 1] of its own size in, scores out."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqametrics.images import Sizing
from iqametrics.metric import Metric, ReferenceFeatures
from iqametrics.nn.symbols import is_symbol


class ExportedNetwork(nn.Module):
    """A metric without files, checks of values and groups of sizes: what can be exported of it.

    Args:
        metric: The metric, on the CPU in float32.
    """

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self.metric = metric
        self.has_reference = metric.mode == "fr"

    def forward(self, dist: Tensor, ref: Tensor | None = None) -> Tensor:
        """Score images.

        Args:
            dist: RGB in [0, 1], (N, 3, H, W).
            ref: Their references, of the same shape, for a full-reference metric.

        Returns:
            Scores (N,).
        """
        if ref is None:
            return self.metric.score_images(sized(self.metric.sizing, dist), None)
        # In one tensor, which refuses a reference of another size wherever the file runs.
        both = sized(self.metric.sizing, torch.cat([dist, ref]))
        count = dist.shape[0]
        levels = tuple(self.metric.encode_images(both[count:]))
        return self.metric.score_images(both[:count], ReferenceFeatures((0, 0), levels))


def sized(sizing: Sizing, images: Tensor) -> Tensor:
    """Bring images to size as `Sizing.apply` does, also where their size is a symbol.

    Images that have the right size already are resized too in that case: bicubic weights are then exactly 0 and 1.
    """
    height, width = images.shape[-2:]
    if not (is_symbol(height) or is_symbol(width)):
        return sizing.apply(images)
    size = symbolic_fit(sizing, height, width)
    return F.interpolate(images, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def symbolic_fit(sizing: Sizing, height: int, width: int) -> tuple[int, int]:
    """Compute what `Sizing.fit` does in operations of float64, the precision of Python's own numbers.

    A picture that is too narrow to be enlarged is not refused here.
    """
    sides = torch.stack([torch.full((), side, dtype=torch.float64) for side in (height, width)])
    shorter, longer = sides.amin(0), sides.amax(0)
    scale = (sizing.short_side or sizing.min_side) / shorter
    if sizing.short_side is None:
        scale = scale.clamp(min=1.0)
    if sizing.max_side is not None:
        scale = torch.minimum(scale, sizing.max_side / longer)
    fitted = (sides * scale).round().clamp(min=sizing.min_side).long().tolist()
    for side in fitted:
        torch._check(side >= sizing.min_side)
        if sizing.max_side is not None:
            torch._check(side <= sizing.max_side)
    return fitted[0], fitted[1]
