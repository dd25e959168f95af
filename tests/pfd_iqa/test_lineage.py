"""The student's choices in the way of DiffKD and DEIQT, each with its value and the one before there was a choice."""

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from iqametrics.errors import RecipeError
from iqametrics.nn.diffusion import half_grid_times
from iqametrics.pfd_iqa.config import PfdIqaConfig
from iqametrics.pfd_iqa.refinement import BatchNormBottleneck, Denoiser, DiffusionRefinement, NoiseAlignment
from iqametrics.training.recipe import TrainTable
from iqametrics.training.schedule import lr_factor

SMALL: dict[str, Any] = {
    "encoder": "efficientnet_lite0",
    "crop_space": "feature",
    "grid": 2,
    "crop_size": 64,
    "text_width": 16,
    "encoder_width": 12,
}
DIFFKD: dict[str, Any] = {
    "time_grid": "half",
    "gamma_head": "softmax",
    "gamma_reduction": 8,
    "time_embedding": "table",
    "denoiser_norm": "batch",
    "feature_projection": True,
}


def maps(count=3, width=16, seed=0):
    return torch.randn(count, width, 2, 2, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("steps", "times"),
    [(1, [0]), (3, [332, 166, 0]), (5, [400, 300, 200, 100, 0]), (10, [50 * k for k in range(9, -1, -1)])],
)
def test_diffkds_time_grid(steps, times):
    assert half_grid_times(1000, steps) == times
    refinement = DiffusionRefinement(PfdIqaConfig(**SMALL, time_grid="half", sampling_steps=steps))
    assert refinement.times == times


def test_the_default_time_grid_starts_at_start_step():
    assert DiffusionRefinement(PfdIqaConfig(**SMALL)).times == [500, 400, 300, 200, 100]


def test_a_softmax_of_two_is_a_sigmoid_of_their_difference():
    torch.manual_seed(0)
    layer = NoiseAlignment(16, "equation", head="softmax", reduction=8)
    assert layer.bottleneck.conv1.out_channels == 2
    fused = maps()
    outputs = layer.weight(layer.bottleneck(fused).mean((2, 3)))
    torch.testing.assert_close(layer(fused), torch.sigmoid(outputs[:, 0] - outputs[:, 1]))
    before = NoiseAlignment(16, "equation")
    assert (before.bottleneck.conv1.out_channels, before.weight.out_features) == (4, 1)


def test_a_bottleneck_with_batchnorm_has_its_convolutions_first():
    torch.manual_seed(0)
    block, x = BatchNormBottleneck(16).train(), maps()
    out = x
    for number in (1, 2, 3):
        out = getattr(block, f"conv{number}")(out)
        out = (out - out.mean((0, 2, 3), keepdim=True)) / (out.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        out = out.clamp(min=0) if number < 3 else out
    torch.testing.assert_close(block(x), x + out, rtol=1e-4, atol=1e-5)


def test_the_denoiser_ends_in_batchnorm_and_looks_times_up():
    torch.manual_seed(0)
    denoiser = Denoiser(16, heads=2, conditional=False, norm="batch", time_embedding="table").eval()
    assert denoiser.time.weight.shape == (1280, 16)
    nn.init.normal_(denoiser.out_norm.running_mean)
    x, times = maps(), torch.tensor([0, 400, 999])
    hidden = denoiser.blocks[1](denoiser.blocks[0](x + denoiser.time.weight[times][:, :, None, None]))
    expected = (denoiser.out(hidden) - denoiser.out_norm.running_mean[:, None, None]) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(denoiser(x, None, times), expected)
    before = Denoiser(16, heads=2, conditional=False)
    assert isinstance(before.out_norm, nn.Identity)
    assert not any(isinstance(part, nn.BatchNorm2d | nn.Embedding) for part in before.modules())


def test_the_projection_is_before_the_feature_loss_only():
    torch.manual_seed(0)
    plain, projected = (
        DiffusionRefinement(PfdIqaConfig(**SMALL, use_pda=False, feature_projection=on)).eval() for on in (False, True)
    )
    refined, target = maps(seed=1), maps(seed=2)
    assert plain.feature_loss(refined, target) == F.mse_loss(refined, target)
    expected = F.mse_loss(projected.projection[0](refined) / (1 + 1e-5) ** 0.5, target)
    torch.testing.assert_close(projected.feature_loss(refined, target), expected)
    projected.load_state_dict(plain.state_dict(), strict=False)
    noise = maps(seed=3)
    torch.testing.assert_close(projected(refined, None, noise)[0], plain(refined, None, noise)[0])


def test_all_of_diffkd_trains():
    refinement = DiffusionRefinement(PfdIqaConfig(**SMALL, **DIFFKD, use_pda=False)).train()
    refined, gamma = refinement(maps(), None, maps(seed=1))
    loss = refinement.feature_loss(refined, maps(seed=2)) + refinement.trajectory_loss(
        maps(seed=2), None, times=torch.tensor([0, 3, 999]), noise=maps(seed=4)
    )
    loss.backward()
    assert ((gamma > 0) & (gamma < 1)).all()
    assert all(parameter.grad is not None for parameter in refinement.parameters())


def test_impossible_choices_are_refused():
    with pytest.raises(RecipeError, match="no 60 steps in half of timesteps = 100"):
        PfdIqaConfig(**SMALL, time_grid="half", timesteps=100, sampling_steps=60, start_step=60, n_crops=1)
    with pytest.raises(RecipeError, match="'table' has 1280 entries, not 2000"):
        PfdIqaConfig(**SMALL, time_embedding="table", timesteps=2000)
    with pytest.raises(RecipeError, match="gamma_head = 'tanh' is not known"):
        PfdIqaConfig(**SMALL, gamma_head="tanh")


@pytest.mark.parametrize("after", [True, False])
def test_deiqts_warm_up_is_timms(after):
    """DEIQT steps timm's scheduler at each step, with 3 of 9 epochs of warm-up; timm before 0.8 has no prefix."""
    scheduler = pytest.importorskip("timm.scheduler.step_lr")
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=2e-4)
    theirs = scheduler.StepLRScheduler(
        optimizer, 30, 0.1, warmup_t=30, warmup_lr_init=2e-7, warmup_prefix=after, t_in_epochs=False
    )
    train = TrainTable(schedule="step", epochs=9, lr=2e-4, warmup_epochs=3, warmup_start=1e-3, step_after_warmup=after)
    for step in range(90):
        theirs.step_update(step)
        assert train.lr * lr_factor(train, step, 10) == pytest.approx(optimizer.param_groups[0]["lr"]), step


def test_deiqts_warm_up_by_hand():
    train = TrainTable(schedule="step", epochs=9, warmup_epochs=3, warmup_start=1e-3)
    factors = [lr_factor(train, 10 * epoch, 10) for epoch in range(9)]
    assert factors == pytest.approx([0.001, 0.334, 0.667, 1, 1, 1, 0.1, 0.1, 0.1])
    assert lr_factor(train, 29, 10) == pytest.approx(0.001 + 0.999 * 29 / 30)
    plain = [lr_factor(dataclasses.replace(train, warmup_epochs=0), 10 * epoch, 10) for epoch in range(9)]
    assert plain == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])
