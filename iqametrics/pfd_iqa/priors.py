"""Perceptual prior discovery (PDA) and prompt aggregation (PPA): equations 1 to 6."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqametrics.nn.precision import without_autocast, working_dtype
from iqametrics.pfd_iqa.config import Norm


def group_norm(channels: int) -> nn.GroupNorm:
    """Build a GroupNorm of as many groups, up to 32, as divide both 32 and the channels."""
    return nn.GroupNorm(math.gcd(32, channels), channels)


def channel_mask(generators: Sequence[torch.Generator], channels: int, ratio: float) -> Tensor:
    """Draw M_c of equation 1: 0 where R_c < beta, else 1, for each channel of each sample.

    Args:
        generators: Random generators, one for each of the N samples.
        channels: Number C of channels.
        ratio: Probability beta of a 0.

    Returns:
        (N, C, 1, 1), of zeros and ones.
    """
    drawn = [torch.rand(channels, 1, 1, generator=each, dtype=torch.float32, device=each.device) for each in generators]
    return (torch.stack(drawn) >= ratio).float()


class PriorReconstructor(nn.Module):
    """R_j of equation 2: F_j = W_l2 ReLU(norm(W_l1 F_m)), with 1x1 convolutions.

    Args:
        width: Channels of F_m and F_j.
        norm: "batch", as in the paper, or "group", which does not depend on the batch in training.
    """

    def __init__(self, width: int, *, norm: Norm) -> None:
        super().__init__()
        self.inner = nn.Conv2d(width, width, kernel_size=1)
        self.norm: nn.Module = nn.BatchNorm2d(width) if norm == "batch" else group_norm(width)
        self.outer = nn.Conv2d(width, width, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map F_m (N, C, h, w) to F_j (N, C, h, w)."""
        return self.outer(F.relu(self.norm(self.inner(features))))


class PriorDiscovery(nn.Module):
    """PDA, equations 1 and 2: from the encoder's map to a distortion prior and a quality prior.

    F_m = f_align(F_s) * M_c, with M_c in training only and without rescaling; F_d = R_d(F_m), F_q = R_q(F_m).

    Args:
        in_width: Channels D of F_s.
        width: Channels C_t of the priors, which are those of the text embeddings.
        norm: See `PriorReconstructor`.
    """

    def __init__(self, in_width: int, width: int, *, norm: Norm) -> None:
        super().__init__()
        self.align = nn.Conv2d(in_width, width, kernel_size=1)
        self.distortion = PriorReconstructor(width, norm=norm)
        self.quality = PriorReconstructor(width, norm=norm)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map F_s (N, D, h, w), and in training M_c (N, C_t, 1, 1), to F_d and F_q, each (N, C_t, h, w)."""
        aligned = self.align(features)
        if mask is not None:
            aligned = aligned * mask.to(aligned)
        return self.distortion(aligned), self.quality(aligned)


def prompt_logits(prior: Tensor, prompts: Tensor, *, scale: float) -> Tensor:
    """Compute equation 3: the cosine of the averaged prior with each prompt embedding, times a scale.

    Args:
        prior: Prior F_j, (N, C_t, h, w).
        prompts: Prompt embeddings G_j, (K, C_t).
        scale: Factor of the cosine. The paper prints none, but without one the softmax of equation 5 is flat.

    Returns:
        Logits (N, K), in [-scale, scale]; 0 for a vector of zeros.
    """
    return scaled_cosines(prior.mean(dim=(2, 3)), prompts, scale=scale)


def scaled_cosines(vectors: Tensor, prompts: Tensor, *, scale: float) -> Tensor:
    """Compute `scale` times the cosine of vectors (N, C_t) with prompts (K, C_t): (N, K); 0 for a vector of zeros.

    Half precision is computed in float32, also under autocast: the eps that keeps 0/0 away would be 0 in float16. The
    result is rounded to half precision only where vectors and prompts both are in it.
    """
    working = working_dtype(vectors, prompts)
    with without_autocast(vectors):
        unit = F.normalize(vectors.to(working), dim=1)
        cosines = scale * unit @ F.normalize(prompts.to(working), dim=1).T
    return cosines.to(torch.promote_types(vectors.dtype, prompts.dtype))


def prior_divergence(target: Tensor, logits: Tensor) -> Tensor:
    """Compute equation 4 for one j: KL(p_j || softmax(logits)), the mean over the samples.

    Args:
        target: The teacher's soft labels p_j, (N, K).
        logits: The student's logits, (N, K).
    """
    return F.kl_div(F.log_softmax(logits.to(target.dtype), dim=1), target, reduction="batchmean")


def aggregate_prompts(probabilities: Tensor, prompts: Tensor) -> Tensor:
    """Compute equation 6: e_j = sum_i p(j_i | x) G_j^i.

    Args:
        probabilities: Probabilities (N, K), of equation 5 or of the teacher.
        prompts: Prompt embeddings G_j, (K, C_t).

    Returns:
        Text tokens e_j, (N, C_t).
    """
    return probabilities @ prompts
