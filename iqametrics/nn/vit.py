"""Vision transformers that give their class token and their patch tokens as a map: DeiT III and CLIP's.

Sources: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; Touvron et al., "DeiT III: Revenge of the
ViT", ECCV 2022; Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.
Parameter names are timm's.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from iqametrics.errors import InputError
from iqametrics.nn.attention import Activation, TransformerBlock
from iqametrics.nn.resample import bicubic


@dataclass(frozen=True, kw_only=True)
class VitConfig:
    """Architecture of a vision transformer: its sizes, and where the published families differ.

    Attributes:
        width: Width D of a token.
        depth: Number of blocks.
        heads: Attention heads; divides `width`.
        image_size: Side of the square images that the positional embedding was made for, in pixels.
        patch_size: Side of a patch, in pixels.
        activation: `gelu` (the exact one) or `quick_gelu`.
        eps: Added to the variance in the LayerNorms.
        layer_scale: Initial value of the LayerScale factors; None for blocks that have none.
        patch_bias: Whether the patch embedding has a bias.
        class_position: Whether the class token has a positional embedding too.
        pre_norm: Whether a LayerNorm precedes the first block.
        output_dim: Width of the linear projection after the final norm; None for no projection.
    """

    width: int
    depth: int
    heads: int
    image_size: int = 224
    patch_size: int = 16
    activation: Activation = "gelu"
    eps: float = 1e-6
    layer_scale: float | None = None
    patch_bias: bool = True
    class_position: bool = True
    pre_norm: bool = False
    output_dim: int | None = None


DEIT3_SMALL = VitConfig(width=384, depth=12, heads=6, layer_scale=1e-6, class_position=False)
"""DeiT III small, timm's `deit3_small_patch16_224`."""

CLIP_VIT_B16 = VitConfig(
    width=768,
    depth=12,
    heads=12,
    activation="quick_gelu",
    eps=1e-5,
    patch_bias=False,
    pre_norm=True,
    output_dim=512,
)
"""The image tower of OpenAI's CLIP ViT-B/16, open_clip's `ViT-B-16-quickgelu`."""


CLIP_VIT_B32 = replace(CLIP_VIT_B16, patch_size=32)
"""The image tower of OpenAI's CLIP ViT-B/32, open_clip's `ViT-B-32-quickgelu`."""


class VisionTransformer(nn.Module):
    """Vision transformer without a classifier.

    Images may have another size than `config.image_size` if both sides are multiples of the patch size: the positional
    embedding of the patches is then resampled (bicubic, antialiased, as in timm).

    Args:
        config: The architecture, e.g. `DEIT3_SMALL` or `CLIP_VIT_B16`.
    """

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        self.grid = config.image_size // config.patch_size
        width = config.width
        self.patch_embed = PatchEmbedding(width, config.patch_size, bias=config.patch_bias)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, self.grid**2 + int(config.class_position), width))
        self.norm_pre = nn.LayerNorm(width, eps=config.eps) if config.pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(
            TransformerBlock(
                width, config.heads, activation=config.activation, eps=config.eps, layer_scale=config.layer_scale
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, eps=config.eps)
        self.proj = None if config.output_dim is None else nn.Parameter(torch.empty(width, config.output_dim))
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.pos_embed, std=0.02)
        if self.proj is not None:
            nn.init.normal_(self.proj, std=width**-0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images.

        Args:
            x: Normalised RGB images, (N, 3, H, W), H and W multiples of the patch size.

        Returns:
            The class token (N, C) and the patch tokens as a map (N, C, H / patch, W / patch), both after the final
            norm and, where the configuration has one, after the projection; C is `output_dim` or `width`.

        Raises:
            InputError: If a side is not a multiple of the patch size.
        """
        patches = self.patch_embed(x)
        height, width = patches.shape[-2:]
        tokens = self.norm_pre(self._embed(patches))
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        if self.proj is not None:
            tokens = tokens @ self.proj
        return tokens[:, 0], tokens[:, 1:].transpose(1, 2).unflatten(2, (height, width))

    def _embed(self, patches: Tensor) -> Tensor:
        """Prepend the class token to the patches (N, D, h, w) and add the positions: (N, 1 + h w, D)."""
        tokens = patches.flatten(2).transpose(1, 2)
        class_token = self.cls_token.expand(tokens.shape[0], -1, -1)
        positions = self._patch_positions(*patches.shape[-2:])
        if self.config.class_position:
            class_token = class_token + self.pos_embed[:, :1]
        return torch.cat([class_token, tokens + positions], dim=1)

    def _patch_positions(self, height: int, width: int) -> Tensor:
        """Return the positional embedding of a height x width grid of patches, (1, height width, D)."""
        positions = self.pos_embed[:, int(self.config.class_position) :]
        if (height, width) == (self.grid, self.grid):
            return positions
        plane = positions.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        # Bicubic resampling does not exist in half precision on every device.
        plane = plane.to(torch.promote_types(plane.dtype, torch.float32))
        plane = bicubic(plane, (height, width), antialias=True)
        return plane.flatten(2).transpose(1, 2).to(positions.dtype)


class PatchEmbedding(nn.Module):
    """Patch embedding: images cut into square patches, each mapped linearly to a token.

    Args:
        width: Width D of a token.
        patch_size: Side of a patch, in pixels.
        bias: Whether the linear map has a bias.
    """

    def __init__(self, width: int, patch_size: int, *, bias: bool) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, D, H / patch, W / patch).

        Raises:
            InputError: If a side is not a multiple of the patch size.
        """
        height, width = x.shape[-2:]
        if not height or not width or height % self.patch_size or width % self.patch_size:
            raise InputError(
                f"an image of {height}x{width} pixels cannot be cut into patches of {self.patch_size}x"
                f"{self.patch_size}: crop or scale both sides to multiples of {self.patch_size}"
            )
        return self.proj(x)
