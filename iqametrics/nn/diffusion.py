"""Diffusion in closed form: the noise schedule, the forward process and deterministic DDIM sampling.

Sources: Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020 (schedule, forward process); Song et al.,
"Denoising Diffusion Implicit Models", ICLR 2021, equation 12 with sigma = 0 (sampling); Vaswani et al., "Attention Is
All You Need", NeurIPS 2017, section 3.5 (embedding of a position, here of a time step).

Everything is a pure function. A time step t is 0 .. T-1, and alpha_bar_t is the share of the signal's variance that is
left at t; alpha_bar = 1 is no noise at all. Half-precision signals are mixed in float32: rounded coefficients, and
rounding divided by sqrt(alpha_bar), would add up over the steps.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def linear_alpha_bars(timesteps: int, *, beta_start: float, beta_end: float) -> Tensor:
    """Return alpha_bar_t = prod_{s<=t} (1 - beta_s) for betas that rise linearly.

    The product is taken in float64, where a thousand factors lose nothing.

    Returns:
        A falling sequence, (timesteps,), float32.
    """
    betas = torch.linspace(beta_start, beta_end, timesteps, dtype=torch.float64)
    return torch.cumprod(1.0 - betas, dim=0).float()


def q_sample(clean: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """Add noise to a signal: sqrt(alpha_bar) clean + sqrt(1 - alpha_bar) noise.

    Args:
        clean: (N, ...).
        noise: Standard normal, the same shape.
        alpha_bar: (N,), one for each sample.

    Returns:
        (N, ...), in the dtype of `clean`.
    """
    alpha_bar = alpha_bar.to(_mixing_dtype(clean)).view(-1, *(1,) * (clean.ndim - 1))
    return (alpha_bar.sqrt() * clean + (1.0 - alpha_bar).sqrt() * noise).to(clean.dtype)


def sampling_times(start: int, steps: int) -> list[int]:
    """Return the time steps t_k = start (steps - k) / steps, k = 0 .. steps - 1, rounded down.

    >>> sampling_times(500, 5)
    [500, 400, 300, 200, 100]
    """
    return [start * (steps - k) // steps for k in range(steps)]


def half_grid_times(timesteps: int, steps: int) -> list[int]:
    """Return the lower half of a grid of 2 `steps` time steps over `timesteps`, down to 0.

    >>> half_grid_times(1000, 5)
    [400, 300, 200, 100, 0]
    """
    return [timesteps // (2 * steps) * k for k in reversed(range(steps))]


def ddim_step(noisy: Tensor, noise: Tensor, alpha_bar: Tensor, next_alpha_bar: Tensor) -> Tensor:
    """Go from one noise level to the next, deterministically (eta = 0).

    The predicted clean signal, (noisy - sqrt(1 - a) noise) / sqrt(a), gets the same noise again, at the next level.

    Args:
        noisy: Signal at alpha_bar, any shape.
        noise: Noise predicted in it, the same shape.
        alpha_bar: Level a of `noisy`, a scalar.
        next_alpha_bar: Level to go to, a scalar; 1 gives the predicted clean signal.
    """
    clean = (noisy - (1.0 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt()
    return next_alpha_bar.sqrt() * clean + (1.0 - next_alpha_bar).sqrt() * noise


def ddim_sample(
    noisy: Tensor, times: list[int], alpha_bars: Tensor, predict_noise: Callable[[Tensor, int], Tensor]
) -> Tensor:
    """Denoise from level `times[0]` through the other times to the clean signal.

    Args:
        noisy: Signal at `times[0]`.
        times: Falling time steps, see `sampling_times`.
        alpha_bars: The schedule, (T,).
        predict_noise: Function of a signal, in the dtype of `noisy`, and its time step, that returns the noise in it.

    Returns:
        The clean signal, the shape and dtype of `noisy`. Gradients flow through every step.
    """
    mixing = _mixing_dtype(noisy)
    alpha_bars = alpha_bars.to(device=noisy.device, dtype=mixing)
    levels = [alpha_bars[time] for time in times]
    signal = noisy.to(mixing)
    for time, level, next_level in zip(times, levels, [*levels[1:], torch.ones_like(levels[0])], strict=True):
        noise = predict_noise(signal.to(noisy.dtype), time).to(mixing)
        signal = ddim_step(signal, noise, level, next_level)
    return signal.to(noisy.dtype)


def timestep_embedding(times: Tensor, width: int, *, longest_period: float = 10_000.0) -> Tensor:
    """Embed time steps as cosines and sines of `width // 2` frequencies from 1 down to 1 / longest_period.

    Args:
        times: (N,), in steps.
        width: Even.
        longest_period: The longest period over 2 pi, in steps.

    Returns:
        (N, width): the cosines, then the sines; float32.
    """
    half = width // 2
    frequencies = torch.exp(
        -math.log(longest_period) * torch.arange(half, device=times.device, dtype=torch.float32) / half
    )
    angles = times.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _mixing_dtype(signal: Tensor) -> torch.dtype:
    return torch.promote_types(signal.dtype, torch.float32)
