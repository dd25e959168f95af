"""The attention branches of BPCLIP, eq. 3 to 7: how distortions affect semantics, and where it matters."""

from collections.abc import Sequence

from torch import Tensor, nn

from iqametrics.bpclip.config import BpclipConfig
from iqametrics.nn.attention import Mlp, MultiHeadAttention
from iqametrics.nn.levels import LEVELS


class FeedForward(nn.Module):
    """x + MLP(LayerNorm(x)): the second half of a transformer's block, which eq. 4 and 5 do not print.

    Args:
        config: The model's config.
    """

    def __init__(self, config: BpclipConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.mlp = Mlp(config.width, config.feed_forward * config.width, "gelu")
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (N, L, D) to (N, L, D)."""
        return tokens + self.dropout(self.mlp(self.norm(tokens)))


def _feed_forward(config: BpclipConfig) -> nn.Module:
    return FeedForward(config) if config.feed_forward else nn.Identity()


class CrossAttentionBlock(nn.Module):
    """MSCA of eq. 4: Attn(W_q Q, W_k G_{i+1}, W_v G_{i+1}) + Q, with LayerNorm on the query and on the memory first.

    A `FeedForward` follows where the config has one.

    Args:
        config: The model's config.
    """

    def __init__(self, config: BpclipConfig) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(config.width)
        self.memory_norm = nn.LayerNorm(config.width)
        self.attention = MultiHeadAttention(config.width, config.heads, dropout=config.dropout)
        self.feed_forward = _feed_forward(config)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        """Map the query (N, L, D) and the next level's tokens (N, L, D) to G'_i, (N, L, D)."""
        return self.feed_forward(self.attention(self.query_norm(query), self.memory_norm(memory)) + query)


class SelfAttentionBlock(nn.Module):
    """SA of eq. 5: Attn(W_q G_i, W_k G_i, W_v G_i) + G_i, with LayerNorm first.

    A `FeedForward` follows where the config has one.

    Args:
        config: The model's config.
    """

    def __init__(self, config: BpclipConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.attention = MultiHeadAttention(config.width, config.heads, dropout=config.dropout)
        self.feed_forward = _feed_forward(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map G_i, (N, L, D), to G''_i, (N, L, D)."""
        return self.feed_forward(self.attention(self.norm(tokens)) + tokens)


class NormedMlp(nn.Sequential):
    """The MLP of eq. 6 and 7: LayerNorm, linear D -> D, GELU, linear D -> `out`.

    Args:
        width: D.
        out: Width of the output.
    """

    def __init__(self, width: int, out: int) -> None:
        super().__init__(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, out))


class InformationBranch(nn.Module):
    """MSCA on levels 1..n-1 and the first MLP of eq. 6, each with its own weights.

    With `propagation = "equation"` the query is G_i, as eq. 4 prints it; with "progressive" it is G_i + G'_{i-1}
    (G_1 at the first level), so that each level builds on what the level below it found.

    Args:
        config: The model's config.
    """

    def __init__(self, config: BpclipConfig) -> None:
        super().__init__()
        self.progressive = config.propagation == "progressive"
        self.blocks = nn.ModuleList(CrossAttentionBlock(config) for _ in range(LEVELS - 1))
        self.mlps = nn.ModuleList(NormedMlp(config.width, config.width) for _ in range(LEVELS - 1))

    def attend(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Map G_1..G_n, each (N, L, D), to G'_1..G'_{n-1}."""
        attended: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            query = tokens[index]
            if self.progressive and attended:
                query = query + attended[-1]
            attended.append(block(query, tokens[index + 1]))
        return attended

    def forward(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Map G_1..G_n to MLP(G'_1)..MLP(G'_{n-1}), each (N, L, D)."""
        return [mlp(attended) for mlp, attended in zip(self.mlps, self.attend(tokens), strict=True)]


class WeightBranch(nn.Module):
    """SA on levels 1..n-1 and the second MLP of eq. 6, each with its own weights.

    Args:
        config: The model's config.
    """

    def __init__(self, config: BpclipConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SelfAttentionBlock(config) for _ in range(LEVELS - 1))
        self.mlps = nn.ModuleList(NormedMlp(config.width, config.width) for _ in range(LEVELS - 1))

    def attend(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Map G_1..G_n, each (N, L, D), to G''_1..G''_{n-1}."""
        return [block(level) for block, level in zip(self.blocks, tokens, strict=False)]

    def forward(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Map G_1..G_n to MLP(G''_1)..MLP(G''_{n-1}), each (N, L, D), before the sigmoid."""
        return [mlp(attended) for mlp, attended in zip(self.mlps, self.attend(tokens), strict=True)]
