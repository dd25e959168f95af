"""The PFD-IQA student: the network that scores images."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from iqametrics.nn.symbols import is_symbol
from iqametrics.pfd_iqa.config import PfdIqaConfig
from iqametrics.pfd_iqa.decoder import PanelDecoder
from iqametrics.pfd_iqa.encoder import WindowEncoder
from iqametrics.pfd_iqa.fusion import PriorFusion, channel_layer_norm
from iqametrics.pfd_iqa.priors import PriorDiscovery, aggregate_prompts, prompt_logits
from iqametrics.pfd_iqa.prompts import DISTORTIONS, QUALITIES
from iqametrics.pfd_iqa.refinement import DiffusionRefinement
from iqametrics.pfd_iqa.windows import symbolic_windows, window_noise


class Priors(NamedTuple):
    """Outputs of the student before the diffusion, for N windows.

    Attributes:
        class_token: Class token of the encoder, (N, D).
        fused: F_h in the space of the diffusion, (N, C_t, h, w), each cell of mean 0 and variance 1.
        condition: Text tokens e_d and e_q, (N, 2, C_t); None without PDA.
        distortion_logits: Logits (N, 11), in the order of `prompts.DISTORTIONS`; None without PDA.
        quality_logits: Logits (N, 5), in the order of `prompts.QUALITIES`; None without PDA.
    """

    class_token: Tensor
    fused: Tensor
    condition: Tensor | None
    distortion_logits: Tensor | None
    quality_logits: Tensor | None


class PfdOutput(NamedTuple):
    """Outputs of the student for N windows.

    Attributes:
        score: Scores (N,), nominally in [0, 1], higher is better.
        distortion_logits: Logits (N, 11), in the order of `prompts.DISTORTIONS`; None without PDA.
        quality_logits: Logits (N, 5), in the order of `prompts.QUALITIES`; None without PDA.
        refined: Denoised features F_0, (N, C_t, h, w); F_h without PDR.
        fused: F_h in the space of the diffusion, (N, C_t, h, w).
        gamma: Weight of F_h in F_t, (N,), in (0, 1); 1 without ANA or PDR.
    """

    score: Tensor
    distortion_logits: Tensor | None
    quality_logits: Tensor | None
    refined: Tensor
    fused: Tensor
    gamma: Tensor


class PfdIqa(WindowEncoder):
    """PFD-IQA (section 3): encoder, PDA, PPA, PPF, PDR and decoder.

    `head` scores single windows, as training does; `score_samples` and `forward` score whole images by all their
    windows, with noise that depends only on the seed and the number of the window.

    The prompt embeddings G_d and G_q are buffers, so scoring needs no text encoder. In a new model they are zero until
    `set_prompts` is called.

    Args:
        config: The model's config.
    """

    config: PfdIqaConfig
    distortion_prompts: Tensor
    quality_prompts: Tensor

    def __init__(self, config: PfdIqaConfig) -> None:
        super().__init__(config)
        width, text_width = config.encoder_width, config.text_width
        self.to_diffusion = nn.Conv2d(width, text_width, kernel_size=1)
        self.decoder = PanelDecoder(text_width, width, heads=config.decoder_heads, panel=config.panel)
        if config.use_pda:
            self.priors = PriorDiscovery(width, text_width, norm=config.norm)
            self.fusion = PriorFusion(width, text_width)
            self.register_buffer("distortion_prompts", torch.zeros(len(DISTORTIONS), text_width))
            self.register_buffer("quality_prompts", torch.zeros(len(QUALITIES), text_width))
        self.refinement = DiffusionRefinement(config) if config.use_pdr else None

    def set_prompts(self, distortion: Tensor, quality: Tensor) -> None:
        """Store the embeddings of the prompts, (11, C_t) and (5, C_t); do nothing without PDA."""
        if self.config.use_pda:
            self.distortion_prompts.copy_(distortion)
            self.quality_prompts.copy_(quality)

    def head(self, trunk: Sequence[Tensor], *, noise: Tensor, mask: Tensor | None = None) -> PfdOutput:
        """Score single windows.

        Args:
            trunk: Output of `trunk` for images of exactly one window, or windows cut from its output for larger ones.
            noise: Standard normal noise of equation 10, of shape `noise_shape(N)`.
            mask: M_c of equation 1 in training, (N, C_t, 1, 1), see `priors.channel_mask`; None in testing.
        """
        return self.finish(self.discover(self.canvas(trunk), mask), noise)

    def noise_shape(self, count: int) -> tuple[int, int, int, int]:
        """Return the shape (N, C_t, grid, grid) of the noise for N = `count` windows."""
        return count, self.config.text_width, self.config.grid, self.config.grid

    def discover(self, window: Tensor, mask: Tensor | None = None) -> Priors:
        """Run everything before the noise: encoder, PDA, PPA and PPF."""
        class_token, features = self.encode(window)
        if not self.config.use_pda:
            return Priors(class_token, channel_layer_norm(self.to_diffusion(features)), None, None, None)
        distortion, quality = self.priors(features, mask)
        scale = self.config.logit_scale
        distortion_logits = prompt_logits(distortion, self.distortion_prompts, scale=scale)
        quality_logits = prompt_logits(quality, self.quality_prompts, scale=scale)
        return Priors(
            class_token=class_token,
            fused=channel_layer_norm(self.to_diffusion(self.fusion(features, distortion, quality))),
            condition=self.condition(distortion_logits.softmax(dim=1), quality_logits.softmax(dim=1)),
            distortion_logits=distortion_logits,
            quality_logits=quality_logits,
        )

    def condition(self, distortion: Tensor, quality: Tensor) -> Tensor:
        """Compute the text tokens e_d and e_q of equation 6, (N, 2, C_t), from p_d (N, 11) and p_q (N, 5).

        Without PPA each is the mean of its prompts, the same for every image.
        """
        if not self.config.use_ppa:
            distortion = torch.full_like(distortion, 1 / distortion.shape[1])
            quality = torch.full_like(quality, 1 / quality.shape[1])
        tokens = [
            aggregate_prompts(distortion, self.distortion_prompts),
            aggregate_prompts(quality, self.quality_prompts),
        ]
        return torch.stack(tokens, dim=1)

    def finish(self, priors: Priors, noise: Tensor) -> PfdOutput:
        """Run everything from the noise on: ANA, denoising and decoder."""
        if self.refinement is None:
            refined, gamma = priors.fused, priors.fused.new_ones(priors.fused.shape[0])
        else:
            refined, gamma = self.refinement(priors.fused, priors.condition, noise)
        return PfdOutput(
            score=self.decoder(refined, priors.class_token),
            distortion_logits=priors.distortion_logits,
            quality_logits=priors.quality_logits,
            refined=refined,
            fused=priors.fused,
            gamma=gamma,
        )

    def score_samples(self, trunk: Sequence[Tensor], *, samples: int | None = None) -> Tensor:
        """Score whole images, once for each draw of the noise.

        Args:
            trunk: Output of `trunk` for the images.
            samples: Number S of draws, the config's `n_samples` when not given. With more draws the first ones stay
                the same.

        Returns:
            Scores (N, S), each the mean over the windows.
        """
        canvas, draws = self.canvas(trunk), samples or self.config.n_samples
        if any(is_symbol(size) for size in canvas.shape[-2:]):
            side, count = self.config.window, self.config.n_crops
            windows, shares, numbers = symbolic_windows(canvas, window=side, count=count)
            noise = self.window_noise(count, samples=draws).to(canvas)[numbers]
            return torch.einsum("nks,k->ns", self._score_windows(windows, noise), shares)
        windows, corners = self.windows(canvas)
        return self._score_windows(windows, self.window_noise(len(corners), samples=draws)).mean(dim=1)

    def _score_windows(self, windows: Tensor, noise: Tensor) -> Tensor:
        """Score windows (N, K, ...) with noise (K, S, C_t, grid, grid): (N, K, S)."""
        priors = self.discover(windows.flatten(0, 1))
        scores = [
            self.finish(priors, draw.repeat(windows.shape[0], 1, 1, 1)).score
            for draw in noise.to(priors.fused).unbind(1)
        ]
        return torch.stack(scores, dim=1).unflatten(0, windows.shape[:2])

    def window_noise(self, count: int, *, samples: int) -> Tensor:
        """Draw the noise of `count` windows: (count, samples, C_t, grid, grid)."""
        shape = self.noise_shape(1)[1:]
        return torch.stack(
            [window_noise(index, shape, samples=samples, seed=self.config.seed) for index in range(count)]
        )

    def forward(self, images: Tensor, *, differentiable: bool = False) -> Tensor:
        """Score whole images (N, 3, H, W), RGB in [0, 1], each side at least one window: (N,)."""
        return self.score_samples(self.trunk(images, differentiable=differentiable)).mean(dim=1)
