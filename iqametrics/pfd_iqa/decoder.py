"""The decoder: one transformer decoder layer in which a panel of queries reads the denoised features.

Source: the PFD-IQA paper, section 3.1, and Qin et al., "Data-Efficient Image Quality Assessment with Attention-Panel
Decoder", AAAI 2023, for the panel.
"""

import torch
from torch import Tensor, nn

from iqametrics.nn.attention import Mlp, MultiHeadAttention

_INITIAL_BOUND = 0.03


class PanelDecoder(nn.Module):
    """Decoder whose queries, the class token plus one learnable embedding each, attend to the features.

    The score is the mean of the opinions of all queries.

    The layer is pre-norm and without dropout: q + SA(norm(q)), then q + CA(norm(q), memory), then q + MLP(norm(q)).

    Args:
        in_width: Channels C_t of the denoised features.
        width: Width D of the queries and of the class token.
        heads: Attention heads; divides `width`.
        panel: Number of queries.
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
        # Small, so that the queries start close to the class token that they are added to.
        nn.init.uniform_(self.panel, -_INITIAL_BOUND, _INITIAL_BOUND)
        # Small, so that the first scores are close to the bias, which training starts at the mean MOS.
        nn.init.uniform_(self.score.weight, -_INITIAL_BOUND, _INITIAL_BOUND)
        nn.init.zeros_(self.score.bias)

    def forward(self, features: Tensor, class_token: Tensor) -> Tensor:
        """Score windows.

        Args:
            features: Denoised features F_0, (N, C_t, h, w).
            class_token: Class token of the encoder, (N, D).

        Returns:
            Scores (N,), each the mean over the panel.
        """
        queries, memory = self._read(features, class_token)
        queries = queries + self.cross_attention(self.norm_cross(queries), memory)
        queries = queries + self.mlp(self.norm_mlp(queries))
        return self.score(self.norm(queries)).mean(dim=(1, 2))

    def attention(self, features: Tensor, class_token: Tensor) -> Tensor:
        """Return the attention on each cell, the mean over queries and heads: (N, h, w), summing to one."""
        queries, memory = self._read(features, class_token)
        weights = self.cross_attention.weights(self.norm_cross(queries), memory)
        return weights.mean(dim=(1, 2)).unflatten(1, features.shape[-2:])

    def _read(self, features: Tensor, class_token: Tensor) -> tuple[Tensor, Tensor]:
        """Return the queries after their self-attention, (N, P, D), and the memory tokens, (N, h w, D)."""
        queries = self.panel + class_token[:, None]
        queries = queries + self.self_attention(self.norm_self(queries))
        return queries, self.memory(features).flatten(2).transpose(1, 2)
