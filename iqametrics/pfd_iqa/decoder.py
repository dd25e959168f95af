"""The decoder: one transformer decoder layer in which a panel of queries reads the denoised features.

Source: the PFD-IQA paper, section 3.1, and Qin et al., "Data-Efficient Image Quality Assessment with Attention-Panel
Decoder", AAAI 2023, for the panel.
"""

import torch
from torch import Tensor, nn

from iqametrics.nn.attention import Mlp, MultiHeadAttention

_INITIAL_BOUND = 0.03


class PanelDecoder(nn.Module):
    """Queries, the class token plus one learnable embedding each, attend to the features; their mean opinion counts.

    The layer is pre-norm and without dropout: q + SA(norm(q)), then q + CA(norm(q), memory), then q + MLP(norm(q)).

    Args:
        in_width: channels C_t of the denoised features.
        width: width D of the queries and of the class token.
        heads: attention heads; divides `width`.
        panel: number of queries.
    """

    def __init__(self, in_width: int, width: int, *, heads: int, panel: int) -> None:
        super().__init__()
        self.memory = nn.Conv2d(in_width, width, kernel_size=1)
        self.panel = nn.Parameter(torch.empty(panel, width))
        self.norm_self = nn.LayerNorm(width)
        self.self_attention = MultiHeadAttention(width, heads)
        self.norm_cross = nn.LayerNorm(width)
        self.cross_attention = MultiHeadAttention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width, "gelu")
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, 1)
        # Uniform, not normal: on the meta device, where checkpoints are checked, normal_ imports half of torch.
        nn.init.uniform_(self.panel, -_INITIAL_BOUND, _INITIAL_BOUND)
        # A small weight lets the first scores be close to the bias, which starts at the mean MOS.
        nn.init.uniform_(self.score.weight, -_INITIAL_BOUND, _INITIAL_BOUND)
        nn.init.zeros_(self.score.bias)

    def forward(self, features: Tensor, class_token: Tensor) -> Tensor:
        """Score.

        Args:
            features: denoised features F_0, (N, C_t, h, w).
            class_token: (N, D).

        Returns:
            (N,), the mean of the panel's scores.
        """
        queries, memory = self._read(features, class_token)
        queries = queries + self.cross_attention(self.norm_cross(queries), memory)
        queries = queries + self.mlp(self.norm_mlp(queries))
        return self.score(self.norm(queries)).mean(dim=(1, 2))

    def attention(self, features: Tensor, class_token: Tensor) -> Tensor:
        """Give how much the panel looks at each cell, the mean over queries and heads: (N, h, w), sums to one."""
        queries, memory = self._read(features, class_token)
        weights = self.cross_attention.weights(self.norm_cross(queries), memory)
        return weights.mean(dim=(1, 2)).unflatten(1, features.shape[-2:])

    def _read(self, features: Tensor, class_token: Tensor) -> tuple[Tensor, Tensor]:
        """Queries after their self-attention (N, P, D), and the memory tokens (N, h w, D)."""
        queries = self.panel + class_token[:, None]
        queries = queries + self.self_attention(self.norm_self(queries))
        return queries, self.memory(features).flatten(2).transpose(1, 2)
