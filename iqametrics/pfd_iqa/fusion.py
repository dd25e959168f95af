"""Perceptual prior fusion (PPF), equation 7, and the step into the space of the diffusion."""

import torch.nn.functional as F
from torch import Tensor, nn


def channel_layer_norm(features: Tensor) -> Tensor:
    """Normalise each cell of a map (N, C, h, w) to mean 0 and variance 1 over its channels, as LayerNorm does.

    It is applied to the features of teacher and student, so that both have the scale of the noise.
    """
    last = features.permute(0, 2, 3, 1)
    return F.layer_norm(last, last.shape[-1:]).permute(0, 3, 1, 2)


class PriorFusion(nn.Module):
    """PPF, equation 7: F_h = conv_a(F_dq) * norm(F_s) + conv_b(F_dq) + F_s, with F_dq = proj(F_d + F_q).

    conv_a and conv_b are SiLU and a 1x1 convolution; norm is a GroupNorm of one group.

    Args:
        width: Channels D of F_s.
        prior_width: Channels C_t of F_d and F_q.
    """

    def __init__(self, width: int, prior_width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(prior_width, width, kernel_size=1)
        self.norm = nn.GroupNorm(1, width)
        self.scale = nn.Conv2d(width, width, kernel_size=1)
        self.shift = nn.Conv2d(width, width, kernel_size=1)

    def forward(self, features: Tensor, distortion: Tensor, quality: Tensor) -> Tensor:
        """Fuse F_s (N, D, h, w) with the priors F_d and F_q (N, C_t, h, w) to F_h (N, D, h, w)."""
        prior = F.silu(self.proj(distortion + quality))
        return self.scale(prior) * self.norm(features) + self.shift(prior) + features
