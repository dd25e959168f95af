"""Attention and the transformer block that the vision and text transformers share.

Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.2:
Attn(Q, K, V) = softmax(Q K^T / sqrt(d)) V on each of h heads of width d = D / h.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["gelu", "quick_gelu"]


class MultiHeadAttention(nn.Module):
    """Multi-head attention of a query on a memory, or of a query on itself.

    Equal to `torch.nn.MultiheadAttention(dim, heads, kdim=kv_dim, vdim=kv_dim, batch_first=True)` with the same
    weights. Samples do not influence each other, and there is no padding mask.

    Args:
        dim: Width D of the query and of the output.
        heads: Number of heads; divides `dim`.
        kv_dim: Width of the memory, `dim` when not given.
        dropout: Probability of dropping an attention weight, in training only.

    Raises:
        ValueError: If `heads` does not divide `dim`.
    """

    def __init__(self, dim: int, heads: int, *, kv_dim: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        _check_heads(dim, heads)
        kv_dim = dim if kv_dim is None else kv_dim
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(kv_dim, dim)
        self.value = nn.Linear(kv_dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, query: Tensor, memory: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            query: (N, L, D).
            memory: Keys and values, (N, M, kv_dim); the query itself when not given.

        Returns:
            (N, L, D).
        """
        memory = query if memory is None else memory
        attended = F.scaled_dot_product_attention(
            _split_heads(self.query(query), self.heads),
            _split_heads(self.key(memory), self.heads),
            _split_heads(self.value(memory), self.heads),
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out(_join_heads(attended))

    def weights(self, query: Tensor, memory: Tensor | None = None) -> Tensor:
        """Return the attention weights that `forward` uses, without dropout.

        Args:
            query: (N, L, D).
            memory: (N, M, kv_dim); the query itself when not given.

        Returns:
            (N, heads, L, M), in [0, 1], summing to one over M.
        """
        memory = query if memory is None else memory
        queries = _split_heads(self.query(query), self.heads)
        keys = _split_heads(self.key(memory), self.heads)
        return torch.softmax(queries @ keys.transpose(-2, -1) * queries.shape[-1] ** -0.5, dim=-1)


class SelfAttention(nn.Module):
    """Self-attention with query, key and value in one matrix, the form in which ViT and CLIP weights are published.

    Args:
        dim: Width D.
        heads: Number of heads; divides `dim`.

    Raises:
        ValueError: If `heads` does not divide `dim`.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        _check_heads(dim, heads)
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, *, causal: bool = False) -> Tensor:
        """Attend over (N, L, D); with `causal`, a token sees itself and the tokens before it only."""
        query, key, value = (_split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        return self.proj(_join_heads(F.scaled_dot_product_attention(query, key, value, is_causal=causal)))


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), the approximation of GELU that OpenAI's CLIP was trained with.

    Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016, section 2.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        return x * torch.sigmoid(1.702 * x)


class LayerScale(nn.Module):
    """A learnable factor for each channel at the end of a residual branch.

    Source: Touvron et al., "Going deeper with Image Transformers", ICCV 2021, eq. 4.

    Args:
        dim: Number of channels.
        initial: Value that each factor starts at.
    """

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x: Tensor) -> Tensor:
        """Scale the last dimension."""
        return x * self.gamma


class Mlp(nn.Module):
    """Two linear layers with an activation between them, applied to each token.

    Args:
        dim: Width of input and output.
        hidden: Width between the layers.
        activation: `gelu` (the exact one) or `quick_gelu`.
    """

    def __init__(self, dim: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act: nn.Module = QuickGELU() if activation == "quick_gelu" else nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        return self.fc2(self.act(self.fc1(x)))


class TransformerBlock(nn.Module):
    """Pre-norm encoder block: x + ls1(attn(norm1(x))), then x + ls2(mlp(norm2(x))); parameter names are timm's.

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, eq. 2 and 3.

    Args:
        dim: Width D.
        heads: Number of heads; divides `dim`.
        activation: `gelu` (the exact one) or `quick_gelu`.
        eps: Added to the variance in the LayerNorms.
        layer_scale: Initial value of the LayerScale factors; None for a block that has none.
    """

    def __init__(
        self, dim: int, heads: int, *, activation: Activation, eps: float = 1e-5, layer_scale: float | None = None
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = SelfAttention(dim, heads)
        self.ls1: nn.Module = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, 4 * dim, activation)
        self.ls2: nn.Module = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)

    def forward(self, x: Tensor, *, causal: bool = False) -> Tensor:
        """Map (N, L, D) to (N, L, D); with `causal`, a token sees itself and the tokens before it only."""
        x = x + self.ls1(self.attn(self.norm1(x), causal=causal))
        return x + self.ls2(self.mlp(self.norm2(x)))


def _check_heads(dim: int, heads: int) -> None:
    if heads < 1 or dim % heads:
        raise ValueError(f"a width of {dim} cannot be split into {heads} heads: choose a divisor of {dim}")


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """Turn (N, L, D) into (N, heads, L, D / heads)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _join_heads(x: Tensor) -> Tensor:
    """Turn (N, heads, L, d) into (N, L, heads d)."""
    return x.transpose(1, 2).flatten(2)
