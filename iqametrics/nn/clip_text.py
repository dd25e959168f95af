"""The text tower of CLIP, which turns prompts into anchors.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, section
2.4. Equal to open_clip's `RN50-quickgelu` and `ViT-B-16-quickgelu` with the same weights.
"""

from collections.abc import Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

from iqametrics.errors import InputError
from iqametrics.nn.attention import TransformerBlock
from iqametrics.nn.tokenizer import CONTEXT_LENGTH, tokenize

CLIP_TEXT_CONFIGS = MappingProxyType(
    {
        "RN50-quickgelu": MappingProxyType({"width": 512, "layers": 12, "heads": 8, "embed_dim": 1024}),
        "ViT-B-16-quickgelu": MappingProxyType({"width": 512, "layers": 12, "heads": 8, "embed_dim": 512}),
    }
)
"""Keyword arguments of `ClipTextTower` by open_clip's name of the model: `ClipTextTower(**CLIP_TEXT_CONFIGS[name])`."""


class ClipTextTower(nn.Module):
    """Causal transformer over tokens, read out at the end token.

    Args:
        width: Width of a token.
        layers: Number of blocks.
        heads: Attention heads; divides `width`.
        embed_dim: Width C_t of the space that texts and images share.
        vocab_size: Number of token ids.
        context_length: Largest number of tokens of a text, start and end included.
    """

    def __init__(
        self,
        *,
        width: int,
        layers: int,
        heads: int,
        embed_dim: int,
        vocab_size: int = 49408,
        context_length: int = CONTEXT_LENGTH,
    ) -> None:
        super().__init__()
        self.context_length = context_length
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, width))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, activation="quick_gelu") for _ in range(layers))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode token ids.

        Args:
            tokens: (K, L) ids as `tokenize` gives them, L at most `context_length`. The end token is
                the largest id of its row.

        Returns:
            Features of the texts, (K, embed_dim), not normalised.

        Raises:
            InputError: If there are more tokens than positions.
        """
        if tokens.shape[1] > self.context_length:
            raise InputError(
                f"texts of {tokens.shape[1]} tokens do not fit the text tower's {self.context_length} positions: "
                f"tokenize with context_length={self.context_length}"
            )
        end = tokens.argmax(dim=1)
        if len(tokens):
            # No token sees what comes after it, so the padding behind the longest text changes nothing.
            tokens = tokens[:, : int(end.max()) + 1]
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, causal=True)
        x = self.ln_final(x[torch.arange(len(x), device=x.device), end])
        return x @ self.text_projection


def encode_texts(tower: ClipTextTower, texts: Sequence[str]) -> Tensor:
    """Encode texts with a frozen tower.

    Args:
        tower: The text tower; its device and dtype are used, and no gradient is kept.
        texts: K texts.

    Returns:
        Features (K, embed_dim) as the tower gives them: not of unit length (divide by the norm for cosines).

    Raises:
        InputError: If a text is not a string.
    """
    tokens = tokenize(texts, tower.context_length).to(tower.positional_embedding.device)
    with torch.no_grad():
        return tower(tokens)
