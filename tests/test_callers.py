"""Unusual ways of calling a metric: each works, or says in one line what to do."""

import io
import warnings

import numpy as np
import pytest
import torch
from fakes import FakeFr, FakeNr, seeded_model
from PIL import Image

from iqametrics import create_metric
from iqametrics.errors import InputError
from iqametrics.images import Sizing
from iqametrics.nn.precision import float32_copy


@pytest.fixture(scope="module")
def metric():
    return create_metric("bpclip-nr.lite")


def batch(count=2, seed=0):
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def png():
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(buffer, "PNG")
    return buffer


def one_line(call, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.jit is deprecated
        with pytest.raises(InputError, match=words) as caught:
            call()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_file_in_memory_in_every_form(metric):
    expected = metric(png().getvalue())
    for form in (png(), bytearray(png().getvalue()), memoryview(png().getvalue()), Image.open(png()), [png()]):
        assert torch.equal(metric(form), expected)


def test_what_is_closed(metric):
    stream, image = png(), Image.open(png())
    stream.close()
    image.close()
    one_line(lambda: metric(stream), "image file: cannot be read .*open it to read bytes, or give its path")
    one_line(lambda: metric(image), "is a PIL image that is closed; score it while it is open, or give its path")


def test_values_that_overshoot(metric):
    one_line(lambda: metric(batch() * 1.3), r"not in \[0, 1\]; clamp what overshoots first, x\.clip\(0, 1\)")
    array = np.full((40, 40, 3), 1.3, np.float32)
    one_line(lambda: metric(array), r"not in \[0, 1\]; clamp what overshoots first, x\.clip\(0, 1\)")


@pytest.mark.parametrize("as_loss", [False, True])
def test_vmap(as_loss):
    metric = create_metric("bpclip-nr.lite", as_loss=as_loss)
    one_line(lambda: torch.vmap(metric)(batch()), r"within torch\.vmap; give the whole batch, \(N,3,H,W\)")


def test_torch_jit(metric):
    one_line(lambda: torch.jit.trace(metric, batch()), r"torch\.jit\.trace would freeze .*use torch\.compile\(metric\)")
    one_line(lambda: torch.jit.script(metric), r"torch\.jit\.script cannot .*use torch\.compile\(metric\)")


def test_tensors_without_values(metric):
    one_line(lambda: metric(batch().to("meta")), "is on the meta device, which holds no values")
    one_line(lambda: metric(batch().to_sparse()), r"layout torch\.sparse_coo; give x\.to_dense\(\)")


@pytest.mark.parametrize("name", ["bpclip-nr.lite", "pfd-iqa.lite"])
def test_a_loss_made_in_inference_mode_has_gradients(name):
    with torch.inference_mode():
        metric = create_metric(name, as_loss=True)
    image = batch(1).requires_grad_()
    metric(image).backward()
    assert image.grad.abs().max() > 0


def test_scores_in_inference_mode_are_the_same(metric):
    with torch.inference_mode():
        assert torch.equal(metric(batch()), create_metric("bpclip-nr.lite")(batch()))
    assert torch.equal(metric(batch()), create_metric("bpclip-nr.lite")(batch()))


class TestHalfPrecision:
    """On a CPU, and for bpclip-fr everywhere, only the weights are in half precision."""

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("name", ["bpclip-fr.lite", "bpclip-nr.lite", "pfd-iqa.lite"])
    def test_scores_are_those_of_rounded_weights_in_float32(self, name, dtype):
        metric, rounded = create_metric(name).to(dtype), create_metric(name).to(dtype).float()
        given = [batch(), batch(seed=1)] if metric.mode == "fr" else [batch()]
        assert torch.equal(metric(*given), rounded(*given))
        if metric.mode == "fr":
            held = metric.encode_reference(given[1][0])
            assert torch.equal(metric(given[0], held), rounded(given[0], given[1][0]))
            with torch.autocast("cpu", torch.bfloat16):
                assert torch.equal(metric(*given), rounded(*given))

    def test_what_is_left_of_bfloat16(self):
        """What docs/how-it-works.md states: under 0.02 and nearly the same order."""
        ref, noise = batch(1)[0], batch(1, seed=2)[0] - 0.5
        dist = torch.stack([(ref + s * noise).clamp(0, 1) for s in torch.linspace(0.02, 0.6, 12)])
        exact, rounded = (
            create_metric("bpclip-fr.lite")(dist, ref),
            create_metric("bpclip-fr.lite").bfloat16()(dist, ref),
        )
        assert (exact - rounded).abs().max() < 0.02
        assert np.corrcoef(exact.argsort().argsort(), rounded.argsort().argsort())[0, 1] > 0.97

    def test_the_copy_follows_the_weights_and_the_sizing(self):
        metric = FakeNr(seeded_model(), Sizing(8, 64), tag="tiny").half()
        before = metric(batch())
        metric.model.load_state_dict({name: value * 2 for name, value in metric.model.state_dict().items()})
        after = metric(batch())
        assert not torch.equal(before, after)
        metric.sizing = Sizing(8, 16)
        assert not torch.equal(metric(batch()), after)
        assert next(metric.parameters()).dtype == torch.float16
        assert float32_copy(metric.model) is float32_copy(metric.model)

    def test_float32_has_no_copy(self):
        metric = FakeFr(seeded_model(), Sizing(8, 64), tag="tiny")
        assert metric.in_working_precision() is metric
        assert metric.double().in_working_precision() is metric
