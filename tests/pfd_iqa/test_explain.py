"""PFD-IQA's maps before and after denoising: Grad-CAM by hand, harm against finite differences, draws of the noise."""

import numpy as np
import pytest
import torch
from nn_random import randomise

from iqametrics.pfd_iqa.config import PfdIqaConfig
from iqametrics.pfd_iqa.explain import explain_image, grad_cam
from iqametrics.pfd_iqa.model import PfdIqa

SMALL = {
    "encoder": "efficientnet_lite0",
    "crop_space": "feature",
    "grid": 2,
    "crop_size": 64,
    "text_width": 16,
    "encoder_width": 12,
    "sampling_steps": 2,
    "n_crops": 1,
}


def student(**choices):
    """A small network with every parameter drawn at random."""
    model = randomise(PfdIqa(PfdIqaConfig(**SMALL | choices)))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
    return model


def images(count, height=96, width=128):
    """Smooth images."""
    coarse = torch.rand(count, 3, 5, 6, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")


def test_grad_cam_by_hand():
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])
    gradients = torch.tensor([[[[2.0, 0.0]], [[-1.0, -1.0]]]])
    # Weights are the means 1 and -1 of the gradients; what is below 0 is cut.
    assert grad_cam(features, gradients).tolist() == [[[0.0, 3.0]]]


@pytest.fixture(scope="module")
def model():
    return student()


def test_harm_is_the_first_order_change_of_the_score():
    model = student().double()
    image = images(1, 64, 64).double()
    explanation = explain_image(model, image, draws=1)
    with torch.no_grad():
        priors = model.discover(model.windows(model.canvas(model.trunk(image)))[0][0])
        output = model.finish(priors, model.window_noise(1, samples=1)[:, 0].double())
        refined = output.refined
        step = 1e-5 * (refined.mean(dim=(2, 3), keepdim=True) - refined)
        risen = model.decoder(refined + step, priors.class_token) - model.decoder(refined, priors.class_token)
    assert explanation.harm.sum().item() == pytest.approx(risen.item() / 1e-5, rel=1e-2, abs=1e-8)


def test_features_are_those_of_the_network(model):
    image = images(1, 64, 64)
    explanation = explain_image(model, image)
    with torch.no_grad():
        priors = model.discover(model.windows(model.canvas(model.trunk(image)))[0][0])
        output = model.finish(priors, model.window_noise(1, samples=1)[:, 0])
    for given, features in ((explanation.features_before, priors.fused), (explanation.features_after, output.refined)):
        values = features[0].numpy()
        expected = np.sqrt(((values - values.mean((1, 2), keepdims=True)) ** 2).mean(0))
        np.testing.assert_allclose(given, expected, rtol=1e-3, atol=1e-6)
    assert {"features after denoising", "Grad-CAM before denoising"} < explanation.maps().keys()


def test_draws_are_told(model):
    explanation = explain_image(model, images(1), draws=5)
    with torch.no_grad():
        scores = model.score_samples(model.trunk(images(1)), samples=5)[0]
    np.testing.assert_allclose(explanation.noise_scores, scores, rtol=1e-4, atol=1e-6)
    deviation = scores.std().item()
    assert f"deviation {deviation:.4f}" in explanation.facts()["noise"]
    assert "noise" not in explain_image(model, images(1), draws=1).facts()


def test_without_diffusion_before_is_after():
    explanation = explain_image(student(use_pdr=False), images(1))
    for before, after in (
        (explanation.features_before, explanation.features_after),
        (explanation.cam_before, explanation.cam_after),
    ):
        torch.testing.assert_close(before, after, rtol=0, atol=0, equal_nan=True)
