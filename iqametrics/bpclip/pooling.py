"""Gated local pooling (GLP), eq. 1 and 2 of BPCLIP: each backbone level becomes tokens on the smallest level's grid."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqametrics.bpclip.config import BpclipConfig
from iqametrics.nn.folding import Folded, FoldingModule, is_scoring
from iqametrics.nn.levels import LEVELS
from iqametrics.nn.resample import bicubic
from iqametrics.nn.symbols import is_symbol
from iqametrics.nn.window_means import window_means


class Gate(nn.Module):
    """sigmoid(phi_i(x)) of eq. 1 and 2: one value in (0, 1) for each position.

    phi_i is a bottleneck convolution block: 1x1 to `hidden` channels, GELU, 3x3, GELU, 3x3 to one channel.

    Args:
        channels: Channels C_i of the input.
        hidden: Channels inside.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.phi = nn.Sequential(
            nn.Conv2d(channels, hidden, kernel_size=1),
            nn.GELU(),
            nn.Conv2d(hidden, hidden, kernel_size=3, padding=1),
            nn.GELU(),
            nn.Conv2d(hidden, 1, kernel_size=3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_i, H_i, W_i) to (N, 1, H_i, W_i)."""
        return torch.sigmoid(self.phi(x))


class GatedLocalPooling(FoldingModule):
    """GLP of one level: a gated map, averaged over windows and reduced to D channels.

    Full reference, eq. 1: sigmoid(phi(|F_d - F_r|)) * concat(F_d, F_r, |F_d - F_r|).
    No reference, eq. 2: sigmoid(phi(F)) * (W_f F).
    Then the mean over windows of 2^(n - i) pixels, a 1x1 convolution to D channels and a GELU.

    Pooling and 1x1 convolutions are both linear, one over positions and one over channels, so two things are done in
    the cheaper order, with the same result: the three parts of eq. 1 are pooled before they are joined, and W_f of
    eq. 2 is applied after the pooling where no GELU follows it. While scores are computed, W_f and the 1x1 convolution
    are then one matrix.

    Args:
        config: The model's config.
        channels: Channels C_i of the level.
        level: Number i of the level, 1 to 5.
    """

    def __init__(self, config: BpclipConfig, *, channels: int, level: int) -> None:
        super().__init__()
        self.window = 2 ** (LEVELS - level)
        self.gelu_after_value = config.nr_gate == "gelu"
        hidden = max(1, min(config.gate_max_width, channels // config.gate_reduction))
        self.gate = Gate(channels, hidden)
        self.value = None
        if config.mode == "nr":
            self.value = nn.Conv2d(channels, channels, kernel_size=1, bias=False)
        pooled = 3 * channels if config.mode == "fr" else channels
        self.reduce = nn.Sequential(nn.Conv2d(pooled, config.width, kernel_size=1), nn.GELU())

    def forward(self, dist: Tensor, ref: Tensor | None = None) -> Tensor:
        """Pool a level.

        Args:
            dist: Features F_d of the distorted images, (N, C_i, H_i, W_i).
            ref: Features F_r of the references, of the same shape; None without reference.

        Returns:
            G_i as a map, (N, D, H_n, W_n) with H_n = ceil(H_i / 2^(n - i)), likewise W_n.
        """
        if ref is None and self.value is not None and not self.gelu_after_value and is_scoring():
            weight, bias = self.keep("reduce", [*self.value.parameters(), *self.reduce.parameters()], self._reduction)
            return F.gelu(F.conv2d(window_means(self.gate(dist) * dist, self.window), weight, bias))
        return self.reduce(self.gated(dist, ref))

    def _reduction(self) -> Folded:
        """Multiply the 1x1 convolution of `reduce` with W_f of eq. 2."""
        conv = self.reduce[0]
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        assert self.value is not None
        product = conv.weight.flatten(1) @ self.value.weight.flatten(1)
        return Folded(product[:, :, None, None], conv.bias.detach())

    def gated(self, dist: Tensor, ref: Tensor | None = None) -> Tensor:
        """Return the gated window means that `reduce` brings to D channels; arguments as in `forward`.

        Returns:
            (N, C_i, H_n, W_n) without reference, (N, 3 C_i, H_n, W_n) with one.
        """
        return self._pool_alone(dist) if ref is None else self._pool_pair(dist, ref)

    def hold_gate(self) -> None:
        """Hold everything before `reduce`."""
        self.gate.requires_grad_(False)
        if self.value is not None:
            self.value.requires_grad_(False)

    def _pool_pair(self, dist: Tensor, ref: Tensor) -> Tensor:
        """Compute eq. 1 and its window means: (N, 3 C_i, H_n, W_n)."""
        difference = (dist - ref).abs_() if is_scoring() else (dist - ref).abs()
        gate = self.gate(difference)
        return torch.cat([window_means(gate * part, self.window) for part in (dist, ref, difference)], dim=1)

    def _pool_alone(self, features: Tensor) -> Tensor:
        """Compute eq. 2 and its window means: (N, C_i, H_n, W_n)."""
        assert self.value is not None, "a full-reference level was given no reference"
        gate = self.gate(features)
        if self.gelu_after_value:
            return window_means(gate * F.gelu(self.value(features)), self.window)
        return self.value(window_means(gate * features, self.window))


class PositionEncoding(nn.Module):
    """Learnable position encoding that all levels share (Figure 2): a height part beside a width part.

    Position (y, x) gets the D/2 values of row y followed by the D/2 values of column x. Both tables have a fixed
    length and are resampled (bicubic) to the size of the grid.

    Args:
        width: D, even.
        size: Length of both tables, in tokens.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.empty(width // 2, size))
        self.columns = nn.Parameter(torch.empty(width // 2, size))
        nn.init.trunc_normal_(self.rows, std=0.02)
        nn.init.trunc_normal_(self.columns, std=0.02)

    def forward(self, height: int, width: int) -> Tensor:
        """Return the encoding of a grid as tokens, row after row: (height * width, D)."""
        rows = _resample(self.rows, height)[:, :, None].expand(-1, -1, width)
        columns = _resample(self.columns, width)[:, None, :].expand(-1, height, -1)
        return torch.cat([rows, columns]).flatten(1).T


def _resample(table: Tensor, length: int) -> Tensor:
    """Resample (C, size) to (C, length)."""
    if not is_symbol(length) and length == table.shape[1]:
        return table
    # Bicubic resampling exists for planes only, and not in half precision on every device.
    plane = table[None, :, :, None].to(torch.promote_types(table.dtype, torch.float32))
    plane = bicubic(plane, (length, 1))
    return plane[0, :, :, 0].to(table.dtype)
