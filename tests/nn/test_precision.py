"""What autocast must not round: cosines, and the probabilities made of them."""

import pytest
import torch

from iqametrics.bpclip.config import BpclipConfig
from iqametrics.bpclip.model import TextSimilarity
from iqametrics.nn.precision import without_autocast, working_dtype
from iqametrics.pfd_iqa.priors import scaled_cosines

HALVES = [torch.bfloat16, torch.float16]


def vectors(count, seed):
    return torch.randn(count, 64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("half", HALVES)
def test_autocast_leaves_the_cosines_of_the_priors_alone(half):
    # Vectors near one prompt, whose logits are the largest and so the most easily rounded.
    prompts = vectors(11, 0)
    images = (prompts[:3] + 0.3 * vectors(3, 1)).to(half)
    unit = torch.nn.functional.normalize(images.double(), dim=1)
    expected = 100 * unit @ torch.nn.functional.normalize(prompts.double(), dim=1).T
    with torch.autocast("cpu", half):
        found = scaled_cosines(images, prompts, scale=100.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)
    # What autocast would have made of them.
    with torch.autocast("cpu", half):
        rounded = 100 * unit.float() @ torch.nn.functional.normalize(prompts, dim=1).T
    assert (rounded.double() - expected).abs().max() > 1e-3


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("kind", ["softmax", "cosine", "scaled_cosine"])
def test_autocast_leaves_the_similarities_of_bpclip_alone(half, kind):
    layer = TextSimilarity(BpclipConfig(mode="nr", similarity=kind, text_width=64, n_anchors=6))
    features = vectors(4, 2).to(half)[None]
    whole = layer(features.float())
    with torch.autocast("cpu", half):
        found = layer(features)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-5)


def test_a_model_in_half_precision_keeps_to_it():
    assert scaled_cosines(vectors(2, 0).half(), vectors(3, 1).half(), scale=1.0).dtype == torch.float16
    assert scaled_cosines(vectors(2, 0).double(), vectors(3, 1), scale=1.0).dtype == torch.float64
    layer = TextSimilarity(BpclipConfig(mode="nr", text_width=64, n_anchors=6)).bfloat16()
    assert layer(vectors(2, 0).bfloat16()[None]).dtype == torch.bfloat16


def test_without_autocast_on_devices_that_have_none():
    with without_autocast(torch.empty(1, device="meta")):
        assert working_dtype(torch.empty(1).half()) == torch.float32
