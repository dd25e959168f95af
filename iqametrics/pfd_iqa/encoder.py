"""The image encoder of student and teacher, for whole images and for windows of them."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqametrics.nn.backbone import Backbone
from iqametrics.nn.backbones import build_backbone, divisors, load_backbone
from iqametrics.nn.levels import LEVELS
from iqametrics.nn.vit import CLIP_VIT_B16, CLIP_VIT_B32, DEIT3_SMALL, VisionTransformer
from iqametrics.nn.window_means import window_means
from iqametrics.pfd_iqa.config import EncoderConfig
from iqametrics.pfd_iqa.windows import window_positions

_TRANSFORMERS = {
    "deit3_small_patch16_224": DEIT3_SMALL,
    "clip_vit_b16": CLIP_VIT_B16,
    "clip_vit_b32": CLIP_VIT_B32,
}


class WindowEncoder(nn.Module):
    """Base of student and teacher: a class token and a feature map for each window of an image.

    An image passes through `trunk` (the frozen part), `canvas` (what windows are cut from), `windows` and `encode`. In
    image space the canvas is the image itself; in feature space it is the last two levels of the backbone on the grid
    of 32-pixel cells, so that the backbone runs once for any number of windows.

    A vision transformer has a class token and patch tokens of its own. Of a convolutional backbone, levels 4 and 5 are
    taken, level 4 averaged onto the grid of level 5, and mapped by two 1x1 convolutions with a GELU between them; the
    class token is the mean over the cells.

    Args:
        config: The model's config.
    """

    backbone: VisionTransformer | Backbone
    pixel_mean: Tensor
    pixel_std: Tensor
    level_mean: Tensor
    level_std: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("pixel_mean", torch.tensor(config.pixel_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(config.pixel_std).view(3, 1, 1), persistent=False)
        if config.encoder in _TRANSFORMERS:
            self.backbone = VisionTransformer(_TRANSFORMERS[config.encoder])
            return
        self.backbone = build_backbone(config.encoder)
        channels = sum(self.backbone.channels[-2:])
        self.project = nn.Sequential(
            nn.Conv2d(channels, config.map_width, kernel_size=1),
            nn.GELU(),
            nn.Conv2d(config.map_width, config.map_width, kernel_size=1),
        )
        if config.standardise_levels:
            self.register_buffer("level_mean", torch.zeros(channels, 1, 1))
            self.register_buffer("level_std", torch.ones(channels, 1, 1))
        self.levels_backbone.freeze(config.frozen_levels)

    @property
    def is_convolutional(self) -> bool:
        """Whether the encoder is a convolutional backbone, not a vision transformer."""
        return not isinstance(self.backbone, VisionTransformer)

    @property
    def levels_backbone(self) -> Backbone:
        """The backbone of a convolutional encoder."""
        assert not isinstance(self.backbone, VisionTransformer)
        return self.backbone

    def load_encoder(self, path: str | Path) -> None:
        """Load pretrained weights of the encoder from a safetensors file.

        For a vision transformer it is the file as published; for a convolutional backbone, see `load_backbone`.

        Raises:
            WeightsError: If the file cannot be read or its tensors do not fit.
        """
        if isinstance(self.backbone, VisionTransformer):
            # Imported here: the readers of foreign files bring CLIP's tokenizer, which scoring can do without.
            from iqametrics.nn.upstream import load_clip_visual, load_deit3

            load = load_deit3 if self.config.encoder == "deit3_small_patch16_224" else load_clip_visual
            load(self.backbone, path)
        else:
            load_backbone(self.backbone, path)

    def set_level_statistics(self, means: Sequence[Tensor], stds: Sequence[Tensor]) -> None:
        """Store the mean and deviation of each channel of the levels, by which they are standardised.

        Do nothing where the config does not standardise levels.

        Args:
            means: Means, (C_4,) and (C_5,), or both in one vector.
            stds: Deviations, likewise; a channel that never varies (below 1e-6) is only centred.
        """
        if self.is_convolutional and self.config.standardise_levels:
            self.level_mean.copy_(torch.cat([mean.flatten() for mean in means]).view_as(self.level_mean))
            self.level_std.copy_(divisors(torch.cat([std.flatten() for std in stds])).view_as(self.level_std))

    def trunk(self, images: Tensor, *, differentiable: bool = False) -> list[Tensor]:
        """Compute the frozen part of the encoder.

        Args:
            images: RGB in [0, 1], (N, 3, H, W).
            differentiable: Whether gradients reach the images; they never reach the frozen weights.

        Returns:
            Levels 1..frozen_levels of the backbone; the images themselves where nothing is frozen.
        """
        if not self.config.frozen_levels:
            return [images]
        with contextlib.nullcontext() if differentiable else torch.no_grad():
            return self.levels_backbone.to_level(self._normalise(images), end=self.config.frozen_levels)

    def levels(self, images: Tensor) -> list[Tensor]:
        """Compute all five levels of the backbone of a convolutional encoder for images (N, 3, H, W) in [0, 1]."""
        return self.levels_backbone(self._normalise(images))

    def canvas(self, trunk: Sequence[Tensor]) -> Tensor:
        """Return what windows are cut from: the images, or the last two levels on one grid.

        Args:
            trunk: Output of `trunk`, or stored copies of it in any floating type. Of the levels only the last is
                used, and of five the last two.

        Returns:
            (N, 3, H, W) in image space, (N, C_4 + C_5, ceil(H / 32), ceil(W / 32)) in feature space.
        """
        return trunk[0] if self.config.crop_space == "image" else self._cells(trunk)

    def windows(self, canvas: Tensor) -> tuple[Tensor, list[tuple[int, int]]]:
        """Cut the windows of whole images from their canvas.

        Returns:
            The windows, (N, K, C, window, window), and their K upper left corners (y, x), in pixels or cells.
        """
        side = self.config.window
        corners = window_positions(*canvas.shape[-2:], window=side, count=self.config.n_crops)
        return torch.stack([canvas[..., y : y + side, x : x + side] for y, x in corners], dim=1), corners

    def encode(self, window: Tensor) -> tuple[Tensor, Tensor]:
        """Encode windows.

        Args:
            window: Windows of a canvas, (N, C, window, window).

        Returns:
            Class token (N, D) and map (N, D, grid, grid).
        """
        if isinstance(self.backbone, VisionTransformer):
            class_token, features = self.backbone(self._normalise(window))
            if features.shape[-1] != self.config.grid:
                # Patches of 32 pixels, on the grid of the student's cells of 16.
                features = F.interpolate(features, size=(self.config.grid,) * 2, mode="bilinear")
            return class_token, features
        cells = self._cells([window]) if self.config.crop_space == "image" else window
        features = self.project(cells)
        return features.mean(dim=(2, 3)), features

    def _cells(self, trunk: Sequence[Tensor]) -> Tensor:
        """Compute levels 4 and 5 on the grid of level 5, standardised where the config asks for it."""
        cells = self.raw_cells(trunk)
        return (cells - self.level_mean) / self.level_std if self.config.standardise_levels else cells

    def raw_cells(self, trunk: Sequence[Tensor]) -> Tensor:
        """Compute levels 4 and 5 on the grid of level 5, not standardised: (N, C_4 + C_5, h, w)."""
        frozen = self.config.frozen_levels
        if not frozen:
            levels = self.levels_backbone(self._normalise(trunk[0]))
        else:
            lower = [level.to(self.pixel_mean.dtype) for level in trunk[-2:]]
            levels = [*lower, *(self.levels_backbone.from_level(lower[-1], start=frozen) if frozen < LEVELS else [])]
        # Sizes are ceil(H / 16) and ceil(H / 32), so averaging with partial windows always gives the grid of level 5.
        return torch.cat([window_means(levels[-2], 2), levels[-1]], dim=1)

    def _normalise(self, images: Tensor) -> Tensor:
        return (images - self.pixel_mean) / self.pixel_std
