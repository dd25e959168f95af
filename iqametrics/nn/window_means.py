"""Averages over windows of a map, of which those at the edge may be smaller."""

import torch
import torch.nn.functional as F
from torch import Tensor

from iqametrics.nn.symbols import is_symbol


def window_means(x: Tensor, window: int) -> Tensor:
    """Average over adjacent square windows; those at the right and bottom edge may be smaller.

    Args:
        x: (N, C, H, W).
        window: Side of a window.

    Returns:
        (N, C, ceil(H / window), ceil(W / window)).
    """
    if window == 1:
        return x
    height, width = x.shape[-2:]
    if not (is_symbol(height) or is_symbol(width)):
        return F.avg_pool2d(x, window, stride=window, ceil_mode=True, count_include_pad=False)
    # The same in operations that no exporter takes for others: `ceil_mode` asks for the values of the sizes.
    padded = F.pad(x, (0, (window - 1) - (width - 1) % window, 0, (window - 1) - (height - 1) % window))
    return F.avg_pool2d(padded, window) * (_inverse_share(x, -2, window)[:, None] * _inverse_share(x, -1, window))


def _inverse_share(x: Tensor, dim: int, window: int) -> Tensor:
    """Return `window` over the rows of each window that lie within the map; for columns likewise."""
    size = x.shape[dim]
    starts = torch.arange((size - 1) // window + 1, device=x.device) * window
    return window / (size - starts).clamp(max=window).to(x.dtype)
