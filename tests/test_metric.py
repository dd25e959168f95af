"""The contract of Metric, on two tiny metrics; test_contract.py does the same for the real ones."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fakes import FakeFr, FakeNr, seeded_model
from hypothesis import given
from hypothesis import strategies as st

from iqametrics import InputError, WeightsError
from iqametrics.metric import ReferenceFeatures, Sizing


def nr():
    return FakeNr(seeded_model(), FakeNr.default_sizing, tag="tiny")


def fr():
    return FakeFr(seeded_model(), FakeFr.default_sizing, tag="tiny")


def images(*sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, h, w, generator=generator) for h, w in sizes]


class TestSizing:
    @given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 300), st.integers(0, 2000))
    def test_sides_are_within_bounds(self, height, width, min_side, more):
        fitted = Sizing(min_side, min_side + more).fit(height, width)
        assert min(fitted) >= min_side
        assert max(fitted) <= min_side + more

    @given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 300), st.integers(0, 2000))
    def test_fitting_twice_changes_nothing(self, height, width, min_side, more):
        sizing = Sizing(min_side, min_side + more)
        assert sizing.fit(*sizing.fit(height, width)) == sizing.fit(height, width)

    @given(st.integers(64, 5000), st.integers(64, 5000), st.integers(32, 500))
    def test_the_shorter_side_is_what_was_asked_for(self, height, width, short_side):
        sizing = Sizing(32, short_side=short_side)
        fitted = sizing.fit(height, width)
        assert min(fitted) == short_side
        assert max(fitted) == pytest.approx(max(height, width) * short_side / min(height, width), abs=0.5)
        assert sizing.fit(*fitted) == fitted

    # As KonIQ-10k (1024 x 768) and a photograph of SPAQ are trained on; and a limit of the longer side.
    @pytest.mark.parametrize(
        ("sizing", "size", "fitted"),
        [
            (Sizing(224, short_side=384), (768, 1024), (384, 512)),
            (Sizing(224, short_side=448), (4032, 3024), (597, 448)),
            (Sizing(224, short_side=448), (300, 400), (448, 597)),
            (Sizing(224, 500, 384), (768, 1536), (250, 500)),
        ],
    )
    def test_known_sizes_by_the_shorter_side(self, sizing, size, fitted):
        assert sizing.fit(*size) == fitted
        assert Sizing.from_dict(sizing.to_dict()) == sizing

    def test_without_a_shorter_side_the_record_is_that_of_older_checkpoints(self):
        assert Sizing(8, 64).to_dict() == {"min_side": 8, "max_side": 64}

    # Worked by hand: 4000 x 3000 down to 1024; 48 x 32 up by two; 10 x 1000 cannot hold both, so it is stretched.
    @pytest.mark.parametrize(
        ("size", "fitted"),
        [((3000, 4000), (768, 1024)), ((32, 48), (64, 96)), ((10, 1000), (64, 1024)), ((10, 4096), (64, 1024))],
    )
    def test_known_sizes(self, size, fitted):
        assert Sizing(64, 1024).fit(*size) == fitted

    def test_a_fitting_image_is_left_alone(self):
        batch = torch.rand(1, 3, 20, 30)
        assert Sizing(8, 64).apply(batch) is batch

    def test_resampling_is_antialiased_bicubic(self):
        batch = torch.rand(2, 3, 100, 200)
        expected = F.interpolate(batch, size=(32, 64), mode="bicubic", antialias=True).clamp(0, 1)
        assert torch.equal(Sizing(8, 64).apply(batch), expected)

    def test_resampling_stays_in_range(self):
        checks = (torch.arange(64)[:, None] // 5 + torch.arange(100)[None] // 5) % 2
        sized = Sizing(8, 50).apply(checks.float().expand(1, 3, -1, -1))
        assert sized.min() >= 0
        assert sized.max() <= 1

    def test_a_hair_is_refused_where_it_would_explode(self):
        with pytest.raises(InputError, match="too narrow"):
            Sizing(224).fit(1, 5_000_000)

    @pytest.mark.parametrize("sides", [(0, 5), (6, 5), (True, 5), (2.5, 5), (4, "9"), (4, 9, 3), (4, 9, 10)])
    def test_impossible_sides(self, sides):
        with pytest.raises((ValueError, TypeError)):
            Sizing(*sides)

    @pytest.mark.parametrize("values", [{}, {"min_side": 8, "middle": 3}, {"min_side": 0, "max_side": 4}])
    def test_bad_dictionary(self, values):
        with pytest.raises(WeightsError, match="sizing"):
            Sizing.from_dict(values)


class TestScores:
    def test_equals_the_model_applied_by_hand(self):
        metric = nr()
        (image,) = images((20, 30))
        with torch.no_grad():
            model = metric.model
            features = torch.tanh(F.conv2d(image[None] - model.mean, model.conv.weight, model.conv.bias, 2, 1))
            expected = features.mean((2, 3)) @ model.head.weight.T + model.head.bias
        assert torch.allclose(metric(image), expected[:, 0], atol=1e-6)

    def test_mixed_sizes_keep_their_order(self):
        metric = nr()
        pictures = images((20, 30), (9, 9), (20, 30), (100, 40), (9, 9))
        alone = torch.cat([metric(picture) for picture in pictures])
        assert torch.allclose(metric(pictures), alone, atol=1e-6)
        assert torch.allclose(metric(pictures[::-1]), alone.flip(0), atol=1e-6)

    def test_pairs_of_mixed_sizes(self):
        metric = fr()
        sizes = [(20, 30), (9, 9), (20, 30)]
        dist, ref = images(*sizes), images(*sizes, seed=1)
        alone = torch.cat([metric(d, r) for d, r in zip(dist, ref, strict=True)])
        assert torch.allclose(metric(dist, ref), alone, atol=1e-6)

    def test_one_reference_for_all_is_encoded_once(self):
        metric = fr()
        dist, (ref,) = images(*[(20, 30)] * 5), images((20, 30), seed=1)
        FakeFr.encoded = 0
        scores = metric(dist, ref)
        assert FakeFr.encoded == 1
        assert torch.allclose(scores, metric(dist, [ref] * 5), atol=1e-6)

    def test_held_reference(self):
        metric = fr()
        dist, (ref,) = images(*[(200, 30)] * 3), images((200, 30), seed=1)
        held = metric.encode_reference(ref)
        assert held.size == (200, 30)
        FakeFr.encoded = 0
        assert torch.allclose(metric(dist, held), metric(dist, [ref] * 3), atol=1e-6)
        assert FakeFr.encoded == 3
        joined = ReferenceFeatures.cat([held, held, held])
        assert torch.allclose(metric(dist, joined), metric(dist, held), atol=1e-6)

    def test_no_gradient_and_usable_afterwards(self):
        scores = nr()(torch.rand(2, 3, 16, 16, requires_grad=True))
        assert not scores.requires_grad
        assert (scores * torch.ones(2, requires_grad=True)).sum().requires_grad  # not an inference-mode tensor

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_dtypes(self, dtype):
        (image,) = images((30, 90))
        scores = nr().to(dtype)(image)
        assert scores.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert torch.allclose(scores.float(), nr()(image), atol=2e-2)

    def test_arrays_and_half_tensors(self):
        array = np.random.default_rng(0).random((20, 30, 3), dtype=np.float32)
        tensor = torch.from_numpy(array).permute(2, 0, 1)
        assert torch.equal(nr()(array), nr()(tensor))
        assert torch.allclose(nr()(tensor.half()), nr()(tensor), atol=1e-3)


class TestRefusals:
    def test_reference_missing_or_superfluous(self):
        (image,) = images((20, 20))
        with pytest.raises(InputError, match=r"metric\(dist, ref\)"):
            fr()(image)
        with pytest.raises(InputError, match="takes no reference"):
            nr()(image, image)
        with pytest.raises(InputError, match="takes no reference"):
            nr().encode_reference(image)

    def test_sizes_and_counts_differ(self):
        metric = fr()
        a, b = images((20, 20), (20, 21))
        with pytest.raises(InputError, match="20x20 but its reference is 21x20"):
            metric(a, b)
        with pytest.raises(InputError, match="do not fit"):
            metric([a, b], a)
        with pytest.raises(InputError, match="do not fit"):
            metric(b, metric.encode_reference(a))
        with pytest.raises(InputError, match="3 images and 2 references"):
            metric([a, a, a], [a, a])
        with pytest.raises(InputError, match="one image"):
            metric.encode_reference([a, a])

    @pytest.mark.parametrize(
        "name",
        ["spec", "mode", "name", "higher_is_better", "score_range", "range_is_bound", "differentiable", "full_name"],
    )
    def test_constants_cannot_be_set(self, name):
        metric = nr()
        before = getattr(metric, name)
        with pytest.raises(AttributeError):
            setattr(metric, name, None)
        assert getattr(metric, name) == before

    def test_unknown_keyword(self):
        with pytest.raises(TypeError):
            nr()(torch.rand(1, 3, 8, 8), refs=None)


class TestLoss:
    def test_value_and_direction(self):
        image, ref = images((20, 20), (20, 20))
        for metric, expected in (
            (nr(), lambda: (1 - nr()(image)).mean()),
            (fr(), lambda: fr()(image, ref).mean()),  # lower is better, from 0 up
        ):
            metric.as_loss = True
            arguments = (image,) if metric.mode == "nr" else (image, ref)
            loss = metric(*arguments)
            assert loss.shape == ()
            assert torch.allclose(loss, expected(), atol=1e-6)

    @pytest.mark.parametrize("make", [nr, fr])
    def test_gradient_along_a_direction(self, make):
        metric = make().double()
        metric.as_loss = True
        dist = (images((70, 20))[0] * 0.8 + 0.1).double().requires_grad_()
        ref = () if metric.mode == "nr" else (torch.full((3, 70, 20), 0.3, dtype=torch.float64),)
        direction = torch.randn(3, 70, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        (gradient,) = torch.autograd.grad(metric(dist, *ref), dist)
        step = 1e-6
        with torch.no_grad():
            slope = (metric(dist + step * direction, *ref) - metric(dist - step * direction, *ref)) / (2 * step)
        assert torch.allclose((gradient * direction).sum(), slope, rtol=1e-5)

    def test_stays_in_evaluation_mode_inside_a_trained_module(self):
        metric = nr()
        (image,) = images((20, 20))
        torch.nn.ModuleList([metric]).train()
        assert not metric.model.drop.training
        assert torch.equal(metric(image), metric(image))
        assert not any(parameter.requires_grad for parameter in metric.parameters())
