"""pyiqa's numbers against calling pyiqa itself, where it is installed: its licence keeps it out of the dev extra."""

import importlib.util
import warnings

import pytest
import torch
from pictures import arguments, blurred, picture

from iqametrics import create_metric, list_metrics, metric_info

if importlib.util.find_spec("pyiqa") is None:
    pytest.skip("pyiqa is not installed (it is for non-commercial use only)", allow_module_level=True)

OFFLINE = [
    "cw_ssim",
    "entropy",
    "fsim",
    "gmsd",
    "mad",
    "ms_ssim",
    "nlpd",
    "piqe",
    "psnr",
    "psnry",
    "ssim",
    "ssimc",
    "vif",
    "vsi",
]
"""What runs without fetching weights. Of these, mad takes seconds and entropy is no measure of quality."""
QUICK = [name for name in OFFLINE if name != "mad"]


def call_pyiqa(name, *images):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pyiqa

        return pyiqa.create_metric(name, device="cpu")(*images).reshape(1)


@pytest.fixture(scope="module")
def pairs():
    references = torch.stack([picture(seed=seed) for seed in (1, 2)])
    return torch.stack([blurred(references[0], 2), references[1] * 0.9 + 0.03]), references


def test_its_whole_list_is_read():
    import pyiqa

    ours = {name.partition("/")[2] for name in list_metrics(baselines=True) if name.startswith("pyiqa/")}
    refused = {"fid", "sfid", "fid_dinov2", "inception_score", "clipscore", "fgresq_pair"}
    assert ours == set(pyiqa.list_models()) - refused


def test_directions_and_modes_are_those_of_pyiqa():
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    for name in list_metrics(baselines=True):
        package, _, after = name.partition("/")
        if package == "pyiqa":
            info = metric_info(name)
            assert info.higher_is_better is not DEFAULT_CONFIGS[after].get("lower_better", False)
            assert info.mode == DEFAULT_CONFIGS[after]["metric_mode"].lower()


@pytest.mark.parametrize("name", OFFLINE)
def test_numbers_are_those_of_pyiqa(name, pairs):
    metric = create_metric(f"pyiqa/{name}")
    singles = [arguments(metric, dist[None], ref[None]) for dist, ref in zip(*pairs, strict=True)]
    if name == "mad":
        singles = singles[:1]
    expected = [call_pyiqa(name, *images).float() for images in singles]
    scores = metric(*arguments(metric, *(images[: len(singles)] for images in pairs)))
    assert torch.equal(scores, torch.cat(expected))


@pytest.mark.parametrize("name", QUICK)
def test_a_score_depends_on_its_image_alone(name, pairs):
    metric = create_metric(f"pyiqa/{name}")
    scores = metric(*arguments(metric, *pairs))
    assert torch.equal(metric(*arguments(metric, *(images.flip(0) for images in pairs))), scores.flip(0))


@pytest.mark.parametrize("name", [name for name in QUICK if name != "entropy"])
def test_a_heavier_blur_is_worse(name):
    metric = create_metric(f"pyiqa/{name}")
    reference = picture(seed=1)
    scores = [float(metric(*arguments(metric, blurred(reference, times), reference))) for times in (0, 1, 4, 16)]
    assert scores == sorted(scores, reverse=metric.higher_is_better)
    assert scores[0] != scores[-1]


@pytest.mark.parametrize("name", [name for name in QUICK if name not in ("entropy", "piqe")])
def test_gradients(name):
    metric = create_metric(f"pyiqa/{name}", as_loss=True)
    assert metric.differentiable
    dist = blurred(picture(seed=1), 2).requires_grad_()
    (gradient,) = torch.autograd.grad(metric(*arguments(metric, dist, picture(seed=1))), dist)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
