"""Devices without one at hand: nothing mixes them, no float64 on MPS, and torch's defaults change nothing."""

import contextlib
import dataclasses

import pytest
import torch
import training_fake
from other_device import Away, MixedDevicesError, NoFloat64Error, move, other_device
from pictures import arguments, picture

from iqametrics import create_metric
from iqametrics.objective import Batch, Statistics
from iqametrics.ranking import UNCHAINED
from iqametrics.training import run
from iqametrics.training.planning import blank_objective
from iqametrics.training.recipe import read_recipe
from iqametrics.training.starting import teacher_recipe

LITE = ("bpclip-fr.lite", "bpclip-nr.lite", "pfd-iqa.lite")
LINEAGE = [
    *("model.time_grid=half", "model.gamma_head=softmax", "model.time_embedding=table", "model.denoiser_norm=batch"),
    *("model.feature_projection=true", "model.loss.regression=smooth_l1", "model.loss.label_scale=100.0"),
]
SMALL = ["train.crop=64", "sizing.min_side=64", "train.device=cpu"]
OBJECTIVES = {
    "bpclip-fr": ("lite/bpclip-fr", []),
    "bpclip-nr": ("lite/bpclip-nr", []),
    "bpclip-nr, ranks and pairs": (
        "lite/bpclip-nr",
        ["model.loss.rank_weight=0.5", "model.loss.order_weight=0.5", "model.similarity=pairs"],
    ),
    "bpclip-fr of the paper": ("paper/bpclip-fr", SMALL),
    "pfd-teacher": ("lite/pfd-teacher", []),
    "pfd-iqa": ("lite/pfd-iqa", []),
    "pfd-iqa, its lineage": ("lite/pfd-iqa", LINEAGE),
}


def objective_of(name):
    recipe = read_recipe(*OBJECTIVES[name], {"csv": "/data.csv"})
    torch.manual_seed(0)
    first = teacher_recipe(recipe, run.Path()) if "teacher" in recipe.init else None
    return blank_objective(recipe, None if first is None else blank_objective(first)), recipe


def batch_of(objective, recipe):
    """Three images on the CPU, as the trainer's reader gives them; two of them versions of one, where that counts."""
    generator = torch.Generator().manual_seed(1)
    images = [torch.rand(3, 3, recipe.train.crop, recipe.train.crop, generator=generator) for _ in range(2)]
    return Batch(
        dist=[images[0]],
        ref=[images[1]] if objective.needs_reference else None,
        mos=torch.tensor([0.2, 0.5, 0.9]),
        distortion=torch.tensor([0, -1, 3]),
        source=torch.tensor([0, 1, 1]),
        seeds=torch.arange(3),
        chains=torch.tensor([UNCHAINED, (0, 0), (0, 0)]) if objective.learns_order else None,
        scenes=torch.zeros(3, 9),
    )


def through_trunk(objective, batch):
    ref = None if batch.ref is None else objective.trunk(batch.ref[0])
    return dataclasses.replace(batch, dist=objective.trunk(batch.dist[0]), ref=ref)


def step(objective, batch):
    """The loss, the scores, and the sum of the gradients' absolute values."""
    torch.manual_seed(2)
    batch = through_trunk(objective.train(), batch)
    loss, _ = objective.loss(batch)
    loss.backward()
    slope = sum(p.grad.abs().sum() for p in objective.parameters() if p.grad is not None)
    return [loss.detach(), slope, objective.predict(batch)]


def initialised(objective, batch):
    """What a run does before its first step: statistics of the levels, in float64 where there is one."""
    with torch.no_grad():
        levels = objective.statistics_levels(through_trunk(objective.eval(), batch).dist)
        moments = [run._moments(level) for level in levels]
    means = tuple((total[1] / total[0]).float() for total in moments)
    stds = tuple((total[2] / total[0] - (total[1] / total[0]) ** 2).clamp(min=0).sqrt().float() for total in moments)
    objective.initialise(Statistics(0.5, 0.2, means, stds))
    return objective


class TestThePlayedDevice:
    """The device itself must refuse, or the tests below would show nothing."""

    def test_has_generators(self):
        with other_device("mps:0") as device:
            assert torch.Generator(device).manual_seed(3).initial_seed() == 3

    def test_computes(self):
        with other_device("mps:0") as device:
            found = torch.nn.functional.conv2d(torch.ones(1, 2, 4, 4).to(device), torch.ones(1, 2, 3, 3, device=device))
            assert found.device == device
            assert found.cpu().tolist() == torch.full((1, 1, 2, 2), 18.0).tolist()

    @pytest.mark.parametrize("act", [lambda x: x + torch.ones(3), lambda x: torch.cat([x, torch.ones(3)])])
    def test_refuses_to_mix(self, act):
        with other_device("mps:0") as device, pytest.raises(MixedDevicesError):
            act(torch.ones(3).to(device))

    def test_allows_what_devices_allow(self):
        with other_device("mps:0") as device:
            x = torch.ones(3).to(device)
            assert (x + torch.tensor(1.0)).cpu().tolist() == [2.0] * 3
            assert x[torch.tensor([0, 1])].device == device
            assert torch.zeros(3, device=device).copy_(torch.ones(3)).cpu().tolist() == [1.0] * 3

    @pytest.mark.parametrize("act", [lambda x: x.double(), lambda x: torch.zeros_like(x, dtype=torch.float64)])
    def test_has_no_float64(self, act):
        with other_device("mps:0") as device, pytest.raises(NoFloat64Error):
            act(torch.ones(3).to(device))


@pytest.mark.parametrize("name", LITE)
def test_a_metric_keeps_to_its_device(name):
    metric = create_metric(name)
    given = arguments(metric, picture(96, 80), picture(96, 80, seed=1) if metric.mode == "fr" else None)
    expected = metric(*given)
    with other_device("mps:0") as device:
        move(metric, device)
        there = metric(*(image.to(device) for image in given))
        assert there.device == device
        torch.testing.assert_close(there.cpu(), expected, rtol=0, atol=1e-5)
        # Pictures from elsewhere are brought.
        torch.testing.assert_close(metric(*given).cpu(), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_keeps_to_its_device(name):
    objective, recipe = objective_of(name)
    batch = batch_of(objective, recipe)
    expected = step(initialised(objective, batch), batch)
    objective, _ = objective_of(name)
    with other_device("mps:0") as device:
        move(objective, device)
        there = batch.to(device)
        assert all(isinstance(level, Away) for level in there.dist)
        found = step(initialised(objective, there), there)
        assert all(isinstance(value, Away) for value in found)
        for value, known in zip(found, expected, strict=True):
            torch.testing.assert_close(value.cpu(), known, rtol=1e-4, atol=1e-5)


@contextlib.contextmanager
def defaults(device, dtype):
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_torchs_defaults_do_not_change_a_step(name):
    objective, recipe = objective_of(name)
    batch = batch_of(objective, recipe)
    objective = initialised(objective, batch)
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    expected = step(objective, batch)
    for device, dtype in (("meta", torch.float32), ("cpu", torch.float64), ("cpu", torch.bfloat16)):
        objective.load_state_dict(before)
        objective.zero_grad()
        with defaults(device, dtype):
            found = step(objective, batch)
        for value, known in zip(found, expected, strict=True):
            assert torch.equal(value, known)


@pytest.mark.slow
def test_torchs_defaults_do_not_change_a_run(tmp_path, monkeypatch):
    with training_fake.registered(monkeypatch):
        recipe = training_fake.write_recipe(tmp_path)
        run.train(recipe, ["train.epochs=1"], tmp_path / "plain")
        for device, dtype in (("meta", torch.float32), ("cpu", torch.float64)):
            with defaults(device, dtype):
                run.train(recipe, ["train.epochs=1"], tmp_path / f"{device}-{dtype}")
            training_fake.assert_same_weights(tmp_path / "plain", tmp_path / f"{device}-{dtype}")
