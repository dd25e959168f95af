"""Diffusion: against loops in NumPy and against the closed forms of DDIM."""

import math

import numpy as np
import pytest
import torch

from iqametrics.nn.diffusion import (
    ddim_sample,
    ddim_step,
    linear_alpha_bars,
    q_sample,
    sampling_times,
    timestep_embedding,
)

SCHEDULE = {"beta_start": 1e-4, "beta_end": 0.02}


def double_bars():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    return torch.cumprod(1 - betas, 0)


def test_the_schedule_is_the_running_product_of_one_minus_beta():
    product, expected = 1.0, []
    for s in range(1000):
        product *= 1.0 - (1e-4 + (0.02 - 1e-4) * s / 999)
        expected.append(product)
    bars = linear_alpha_bars(1000, **SCHEDULE)
    np.testing.assert_allclose(bars.numpy(), expected, rtol=1e-6)
    # Ho et al. 2020, section 4: beta_1 = 1e-4, and hardly any signal is left at T (KL to a normal about 1e-5 bits).
    assert bars[0].item() == pytest.approx(0.9999)
    assert bars[-1].item() == pytest.approx(4.04e-5, rel=5e-3)


def test_q_sample_keeps_a_level_of_noise_for_each_sample():
    rng = np.random.default_rng(0)
    clean, noise = rng.normal(size=(2, 2, 3, 4, 4))
    levels = np.array([0.81, 0.36])
    expected = np.stack([np.sqrt(a) * c + np.sqrt(1 - a) * n for a, c, n in zip(levels, clean, noise, strict=True)])
    result = q_sample(*map(torch.from_numpy, (clean, noise, levels)))
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-12)


def test_sampling_times_are_those_of_the_paper():
    assert sampling_times(500, 5) == [500, 400, 300, 200, 100]
    assert sampling_times(500, 1) == [500]
    assert sampling_times(500, 3) == [500, 333, 166]


def test_a_step_in_hand_worked_numbers():
    # sqrt(0.64) = 0.8 and sqrt(0.36) = 0.6: clean = (2 - 0.6 * 1) / 0.8 = 1.75.
    level, level_next = torch.tensor(0.64, dtype=torch.float64), torch.tensor(0.36, dtype=torch.float64)
    step = ddim_step(torch.tensor(2.0).double(), torch.tensor(1.0).double(), level, level_next)
    assert step.item() == pytest.approx(0.6 * 1.75 + 0.8 * 1.0)
    last = ddim_step(torch.tensor(2.0).double(), torch.tensor(1.0).double(), level, torch.tensor(1.0).double())
    assert last.item() == pytest.approx(1.75)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 10, 500])
def test_the_exact_noise_gives_the_clean_signal_back_for_any_number_of_steps(steps):
    torch.manual_seed(0)
    bars = double_bars()
    clean, noise = torch.randn(2, 3, 8, 4, 4, dtype=torch.float64)
    noisy = q_sample(clean, noise, bars[500].expand(3))
    seen = []

    def exact(x, time):
        seen.append(time)
        return (x - bars[time].sqrt() * clean) / (1 - bars[time]).sqrt()

    result = ddim_sample(noisy, sampling_times(500, steps), bars, exact)
    torch.testing.assert_close(result, clean, rtol=1e-9, atol=1e-9)
    assert seen == sampling_times(500, steps)


@pytest.mark.parametrize("deviation", [0.3, 1.0, 2.0])
def test_the_best_predictor_of_gaussian_data_carries_quantiles_to_quantiles(deviation):
    # For data N(0, s^2) the noise expected at x is sqrt(1 - a) x / v, v = a s^2 + 1 - a. The probability flow, which
    # DDIM discretises (Song et al. 2021, section 4.3), maps N(0, v) to N(0, s^2) by x -> x s / sqrt(v).
    bars = double_bars()
    start = 900
    x = torch.tensor([-2.0, -0.5, 1.0, 3.0], dtype=torch.float64)

    def best(x, time):
        a = bars[time]
        return (1 - a).sqrt() * x / (a * deviation**2 + 1 - a)

    variance = bars[start] * deviation**2 + 1 - bars[start]
    result = ddim_sample(x, sampling_times(start, start), bars, best)
    torch.testing.assert_close(result, x * deviation / variance.sqrt(), rtol=1e-2, atol=0)
    coarse = ddim_sample(x, sampling_times(start, 5), bars, best)
    assert (coarse - result).abs().max() > 1e-3 or deviation == 1.0  # five steps are an approximation


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_signals_keep_their_coefficients(dtype):
    # At t = 999 alpha_bar is 4e-5, so that an error in the mix is multiplied by 157 on the way back.
    torch.manual_seed(0)
    bars = linear_alpha_bars(1000, **SCHEDULE)
    signal, noise = torch.randn(2, 3, 8, 4, 4).to(dtype)
    expected = ddim_sample(signal.double(), [999, 500], bars.double(), lambda x, t: noise.double())
    result = ddim_sample(signal, [999, 500], bars, lambda x, t: noise)
    assert result.dtype == dtype
    # What the last rounding allows.
    torch.testing.assert_close(result.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-3)
    noised = q_sample(signal, noise, bars[torch.tensor([0, 500, 999])])
    assert noised.dtype == dtype
    expected = q_sample(signal.double(), noise.double(), bars[torch.tensor([0, 500, 999])].double())
    torch.testing.assert_close(noised.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_gradients_flow_through_every_step():
    bars = double_bars()
    weight = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    times = sampling_times(500, 3)
    ddim_sample(torch.ones(1, dtype=torch.float64), times, bars, lambda x, t: weight * x).sum().backward()

    def by_hand(w):
        x = 1.0
        levels = [bars[t].item() for t in times]
        for a, b in zip(levels, [*levels[1:], 1.0], strict=True):
            x = math.sqrt(b) * (x - math.sqrt(1 - a) * w * x) / math.sqrt(a) + math.sqrt(1 - b) * w * x
        return x

    assert weight.grad.item() == pytest.approx((by_hand(0.5 + 1e-6) - by_hand(0.5 - 1e-6)) / 2e-6, rel=1e-6)


def test_timestep_embedding_by_hand():
    width = 8
    expected = [
        [f(t * 10_000 ** (-i / (width // 2))) for f in (math.cos, math.sin) for i in range(width // 2)]
        for t in (0, 1, 250)
    ]
    result = timestep_embedding(torch.tensor([0, 1, 250]), width)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)
