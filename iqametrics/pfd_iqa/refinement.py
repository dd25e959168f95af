"""Perceptual prior-based diffusion refinement (PDR): equations 8 to 12."""

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from iqametrics.nn.attention import MultiHeadAttention
from iqametrics.nn.diffusion import (
    ddim_sample,
    half_grid_times,
    linear_alpha_bars,
    q_sample,
    sampling_times,
    timestep_embedding,
)
from iqametrics.pfd_iqa.config import TIME_TABLE, Alignment, GammaHead, Norm, PfdIqaConfig, TimeEmbedding
from iqametrics.pfd_iqa.priors import group_norm

_REDUCTION = 4


class BottleneckBlock(nn.Module):
    """Residual bottleneck, 1x1, 3x3, 1x1, with GroupNorm and ReLU before each convolution.

    The order is that of He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016: the sum must not end in
    a ReLU here, since the noise that passes through has both signs.

    Args:
        width: Channels of input and output.
        reduction: Divisor of the width inside.
    """

    def __init__(self, width: int, reduction: int = _REDUCTION) -> None:
        super().__init__()
        inner = max(width // reduction, 1)
        self.norm1, self.conv1 = group_norm(width), nn.Conv2d(width, inner, kernel_size=1)
        self.norm2, self.conv2 = group_norm(inner), nn.Conv2d(inner, inner, kernel_size=3, padding=1)
        self.norm3, self.conv3 = group_norm(inner), nn.Conv2d(inner, width, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, C, h, w)."""
        out = self.conv1(F.relu(self.norm1(x)))
        out = self.conv2(F.relu(self.norm2(out)))
        return x + self.conv3(F.relu(self.norm3(out)))


class BatchNormBottleneck(nn.Module):
    """Residual bottleneck, 1x1, 3x3, 1x1, each followed by BatchNorm, with a ReLU after the first two.

    Source: Huang et al., "Knowledge Diffusion for Distillation" (DiffKD), NeurIPS 2023.

    Args:
        width: Channels of input and output.
        reduction: Divisor of the width inside.
    """

    def __init__(self, width: int, reduction: int = _REDUCTION) -> None:
        super().__init__()
        inner = max(width // reduction, 1)
        self.conv1, self.norm1 = nn.Conv2d(width, inner, kernel_size=1), nn.BatchNorm2d(inner)
        self.conv2, self.norm2 = nn.Conv2d(inner, inner, kernel_size=3, padding=1), nn.BatchNorm2d(inner)
        self.conv3, self.norm3 = nn.Conv2d(inner, width, kernel_size=1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, C, h, w)."""
        out = F.relu(self.norm1(self.conv1(x)))
        out = F.relu(self.norm2(self.conv2(out)))
        return x + self.norm3(self.conv3(out))


_BOTTLENECKS = {"group": BottleneckBlock, "batch": BatchNormBottleneck}


class TextCrossAttention(nn.Module):
    """Residual cross-attention of a feature map to a few text tokens: x + Attn(norm(x), norm(text)).

    With two tokens, most of the cost of attention is the projection of the many queries. So the projections are folded
    into the tokens: q . k = (W_q x + b_q) . k = x . (W_q^T k) + b_q . k, and likewise W_o (sum_m a_m v_m) =
    sum_m a_m (W_o v_m). That leaves two products with heads * M columns, in place of two with D columns.

    Args:
        width: Channels D of the map; also the width of the tokens.
        heads: Attention heads; divides `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.norm_text = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Map x (N, D, h, w) with text (N, M, D) to (N, D, h, w)."""
        queries = self.norm(x).flatten(2)
        return x + folded_attention(self.attention, queries, self.norm_text(text)).unflatten(2, x.shape[-2:])


def folded_attention(attention: MultiHeadAttention, queries: Tensor, memory: Tensor) -> Tensor:
    """Compute `attention` with its query and output projections folded into the memory.

    Args:
        attention: Attention layer whose weights are used.
        queries: Queries with channels first, (N, D, L).
        memory: Memory tokens, (N, M, kv_dim).

    Returns:
        (N, D, L): what attention(queries^T, memory)^T gives, up to rounding.
    """
    heads = attention.heads
    keys = attention.key(memory).unflatten(2, (heads, -1)) * (attention.query.out_features // heads) ** -0.5
    values = attention.value(memory).unflatten(2, (heads, -1))
    query_weight = attention.query.weight.unflatten(0, (heads, -1))
    query_bias = attention.query.bias.unflatten(0, (heads, -1))
    out_weight = attention.out.weight.unflatten(1, (heads, -1))
    folded_keys = torch.einsum("nmhd,hdc->nhmc", keys, query_weight)
    folded_bias = torch.einsum("nmhd,hd->nhm", keys, query_bias)
    folded_values = torch.einsum("nmhd,chd->nchm", values, out_weight)
    logits = folded_keys.flatten(1, 2) @ queries + folded_bias.flatten(1, 2)[..., None]
    weights = torch.softmax(logits.unflatten(1, (heads, -1)), dim=2)
    return folded_values.flatten(2, 3) @ weights.flatten(1, 2) + attention.out.bias[:, None]


class NoiseAlignment(nn.Module):
    """Adaptive noise-level alignment (ANA), equation 10: F_t = gamma F_h + (1 - gamma) eps.

    gamma = sigmoid(linear(mean over cells(bottleneck(F_h)))), one value for each sample; with `head = "softmax"` the
    linear layer has two outputs, and gamma is the first of their softmax.

    Args:
        width: Channels of F_h.
        alignment: "equation" as printed; "variance_preserving" takes sqrt(1 - gamma^2) for the noise, so that F_t can
            be a point of the trajectory of equation 8.
        head: "sigmoid" or "softmax".
        norm: Norm of the bottleneck.
        reduction: Divisor of the width inside the bottleneck.
    """

    def __init__(
        self,
        width: int,
        alignment: Alignment,
        *,
        head: GammaHead = "sigmoid",
        norm: Norm = "group",
        reduction: int = _REDUCTION,
    ) -> None:
        super().__init__()
        self.alignment = alignment
        self.bottleneck = _BOTTLENECKS[norm](width, reduction)
        self.weight = nn.Linear(width, 1 if head == "sigmoid" else 2)

    def forward(self, fused: Tensor) -> Tensor:
        """Predict gamma in (0, 1), (N,), from F_h (N, C, h, w)."""
        outputs = self.weight(self.bottleneck(fused).mean(dim=(2, 3)))
        return (torch.sigmoid(outputs) if outputs.shape[1] == 1 else outputs.softmax(dim=1))[:, 0]

    def mix(self, fused: Tensor, gamma: Tensor, noise: Tensor) -> Tensor:
        """Mix F_h and noise (N, C, h, w) by gamma (N,)."""
        gamma = gamma.view(-1, 1, 1, 1)
        if self.alignment == "equation":
            return gamma * fused + (1.0 - gamma) * noise
        return gamma * fused + (1.0 - gamma.square()).sqrt() * noise


class Denoiser(nn.Module):
    """Denoising network eps_theta(F_t, e, t): two bottleneck blocks, cross-attention after each, a convolution.

    The time step enters as an embedding added to the input: sinusoids through a two-layer MLP, or a row of a learned
    table. With GroupNorm nothing depends on the batch; BatchNorm also follows the last convolution.

    Args:
        width: Channels C_t of the features and of the text tokens.
        heads: Heads of the cross-attention.
        conditional: False for the ablation without text, which has no cross-attention layers.
        norm: "group" or "batch".
        time_embedding: "sinusoid" or "table".
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        conditional: bool,
        norm: Norm = "group",
        time_embedding: TimeEmbedding = "sinusoid",
    ) -> None:
        super().__init__()
        self.width = width
        self.time: nn.Module = (
            nn.Embedding(TIME_TABLE, width)
            if time_embedding == "table"
            else nn.Sequential(nn.Linear(2 * (width // 2), width), nn.SiLU(), nn.Linear(width, width))
        )
        self.blocks = nn.ModuleList(_BOTTLENECKS[norm](width) for _ in range(2))
        attentions = (TextCrossAttention(width, heads) for _ in range(2 if conditional else 0))
        self.attentions = nn.ModuleList(attentions)
        self.out = nn.Conv2d(width, width, kernel_size=1)
        self.out_norm: nn.Module = nn.BatchNorm2d(width) if norm == "batch" else nn.Identity()

    def forward(self, noisy: Tensor, condition: Tensor | None, times: Tensor) -> Tensor:
        """Predict the noise.

        Args:
            noisy: Noisy features F_t, (N, C_t, h, w).
            condition: Text tokens, (N, M, C_t); not used without cross-attention.
            times: Time steps t, (N,).

        Returns:
            Predicted noise, (N, C_t, h, w).
        """
        if not isinstance(self.time, nn.Embedding):
            times = timestep_embedding(times, 2 * (self.width // 2)).to(noisy.dtype)
        x = noisy + self.time(times)[:, :, None, None]
        for index, block in enumerate(self.blocks):
            x = block(x)
            if self.attentions and condition is not None:
                x = self.attentions[index](x, condition)
        return self.out_norm(self.out(x))


class DiffusionRefinement(nn.Module):
    """PDR, equations 8 to 12: F_h aligned with the noise level of t0, and denoised from there.

    Args:
        config: The model's config.
    """

    def __init__(self, config: PfdIqaConfig) -> None:
        super().__init__()
        width, norm = config.text_width, config.denoiser_norm
        self.times = (
            half_grid_times(config.timesteps, config.sampling_steps)
            if config.time_grid == "half"
            else sampling_times(config.start_step, config.sampling_steps)
        )
        self.alignment = None
        if config.use_ana:
            self.alignment = NoiseAlignment(
                width, config.alignment, head=config.gamma_head, norm=norm, reduction=config.gamma_reduction
            )
        self.denoiser = Denoiser(
            width,
            heads=config.denoiser_heads,
            conditional=config.use_pda,
            norm=norm,
            time_embedding=config.time_embedding,
        )
        self.projection = None
        if config.feature_projection:
            self.projection = nn.Sequential(nn.Conv2d(width, width, kernel_size=1), nn.BatchNorm2d(width))
        self.checkpointing = False  # whether the backward pass computes the steps again, in place of keeping them
        # Not a buffer: `.to(torch.bfloat16)` would round it.
        self.alpha_bars = linear_alpha_bars(config.timesteps, beta_start=config.beta_start, beta_end=config.beta_end)

    def forward(self, fused: Tensor, condition: Tensor | None, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Refine features.

        Args:
            fused: F_h in the space of the diffusion, (N, C_t, h, w).
            condition: Text tokens, (N, 2, C_t), or None without text.
            noise: Standard normal, (N, C_t, h, w); not used without ANA.

        Returns:
            F_0 (N, C_t, h, w) and gamma (N,).
        """
        if self.alignment is None:
            gamma, noisy = fused.new_ones(fused.shape[0]), fused
        else:
            gamma = self.alignment(fused)
            noisy = self.alignment.mix(fused, gamma, noise)

        def predict_noise(x: Tensor, time: int) -> Tensor:
            times = torch.full((x.shape[0],), time, device=x.device)
            if not (self.checkpointing and torch.is_grad_enabled()):
                return self.denoiser(x, condition, times)
            return checkpoint(
                self.denoiser,
                x,
                condition,
                times,
                use_reentrant=False,
                context_fn=lambda: (contextlib.nullcontext(), _held_statistics(self.denoiser)),
            )

        return ddim_sample(noisy, self.times, self.alpha_bars, predict_noise), gamma

    def feature_loss(self, refined: Tensor, target: Tensor) -> Tensor:
        """Compute L_fea (equation 12), the mean over elements, between F_0 and F_tea, (N, C_t, h, w) both."""
        if self.projection is not None:
            refined = self.projection(refined)
        return F.mse_loss(refined.to(target.dtype), target)

    def trajectory_loss(self, clean: Tensor, condition: Tensor | None, *, times: Tensor, noise: Tensor) -> Tensor:
        """Compute L_ldm (equations 8 and 9), the mean over elements, at one time step for each sample.

        Args:
            clean: The teacher's features F_tea, (N, C_t, h, w).
            condition: Text tokens of the teacher, (N, 2, C_t), or None without text.
            times: A random time step for each sample, (N,).
            noise: Standard normal, (N, C_t, h, w).
        """
        noisy = q_sample(clean, noise, self.alpha_bars.to(clean.device)[times])
        return F.mse_loss(self.denoiser(noisy, condition, times).to(noise.dtype), noise)


@contextlib.contextmanager
def _held_statistics(module: nn.Module) -> Iterator[None]:
    """Leave running statistics alone: a forward pass that is computed again must not count twice.

    The norms get copies for the time being, since autograd has kept the originals, which may not change before it
    reads them.
    """
    norms = [child for child in module.modules() if isinstance(child, _BatchNorm)]
    held = [(norm, dict(norm.named_buffers(recurse=False))) for norm in norms]
    try:
        for norm, buffers in held:
            for name, buffer in buffers.items():
                setattr(norm, name, buffer.clone())
        yield
    finally:
        for norm, buffers in held:
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)
