"""What every registered metric keeps; registering a metric enrols it here.

A metric without a bundled default checkpoint is skipped, visibly.
"""

import functools
import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from iqametrics import InputError, LiteCheckpointWarning, create_metric, list_metrics, metric_info

pytestmark = pytest.mark.slow

NAMES = list_metrics()
DIFFERENTIABLE = [name for name in NAMES if metric_info(name).differentiable]


@functools.lru_cache(maxsize=2)
def make(name, dtype=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LiteCheckpointWarning)
        return create_metric(name, dtype=dtype)


@pytest.fixture(params=NAMES)
def metric(request):
    made = make(request.param)
    yield made
    made.as_loss = False


def picture(height=96, width=128, seed=0):
    """A smooth picture with edges and some noise, uint8 (H,W,3): random noise alone looks the same to any metric."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / generator.uniform(5, 30) + y / generator.uniform(5, 30)) for _ in range(3)]
    image = 128 + 60 * np.stack(waves, axis=-1) + 30 * (x > width * generator.uniform(0.3, 0.7))[..., None]
    return np.clip(image + generator.normal(0, 8, image.shape), 0, 255).astype(np.uint8)


def tensor(array):
    return torch.from_numpy(array).permute(2, 0, 1).float() / 255


def images(count, **keywords):
    return torch.stack([tensor(picture(seed=seed, **keywords)) for seed in range(count)])


def arguments(metric, dist, ref=None):
    """Add a reference, by default the pictures upside down, where the metric wants one."""
    if metric.mode == "nr":
        return (dist,)
    return dist, dist.flip(-2) if ref is None else ref


def test_batch_of_one_equals_batch_of_many(metric):
    batch = images(4)
    together = metric(*arguments(metric, batch))
    alone = torch.cat([metric(*arguments(metric, image)) for image in batch])
    assert together.shape == (4,)
    assert together.dtype == torch.float32
    assert torch.allclose(together, alone, rtol=0, atol=1e-5)


def test_order_and_position_do_not_matter(metric):
    batch = images(3)
    scores = metric(*arguments(metric, batch))
    order = [2, 0, 1]
    assert torch.allclose(metric(*arguments(metric, batch[order])), scores[order], rtol=0, atol=1e-5)


def test_repeated_calls_are_bit_equal(metric):
    given = arguments(metric, images(2))
    first = metric(*given)
    torch.manual_seed(1)  # a score draws nothing from the global generator
    state = torch.get_rng_state()
    assert torch.equal(metric(*given), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_different_pictures_get_different_scores(metric):
    scores = metric(*arguments(metric, images(4)))
    assert len(set(scores.tolist())) == 4
    assert scores.isfinite().all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_stays_close(name, dtype):
    metric = make(name)
    # One small picture: processors without arithmetic in half precision are slow at it.
    given = arguments(metric, images(1, height=64, width=64))
    expected = metric(*given)
    half = create_metric(metric.full_name, dtype=dtype)
    low, high = metric.score_range
    assert torch.allclose(half(*given), expected, rtol=0, atol=0.05 * (high - low))


@pytest.mark.parametrize("metric", DIFFERENTIABLE, indirect=True)
def test_gradients_are_finite(metric):
    metric.as_loss = True
    dist = images(2).requires_grad_()
    loss = metric(*arguments(metric, dist, images(2).flip(-2)))
    (gradient,) = torch.autograd.grad(loss, dist)
    assert loss.shape == ()
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_loss_gradient_along_a_direction(name):
    """In float64, against a central difference; smooth noise as the direction, as an optimiser's step would be."""
    metric = create_metric(make(name).full_name, dtype="float64", as_loss=True)
    dist = (images(1).double() * 0.8 + 0.1).requires_grad_()
    given = arguments(metric, dist, images(1).double().flip(-2))
    direction = images(1, height=96).double().roll(17, -1) - 0.5
    (gradient,) = torch.autograd.grad(metric(*given), dist)
    step = 1e-5
    with torch.no_grad():
        ahead, behind = (metric(dist + sign * step * direction, *given[1:]) for sign in (1, -1))
    assert torch.allclose((gradient * direction).sum(), (ahead - behind) / (2 * step), rtol=1e-2, atol=1e-8)


def test_loss_falls_as_the_score_gets_better(metric):
    given = arguments(metric, images(1))
    score = metric(*given)
    metric.as_loss = True
    low, high = metric.score_range
    expected = high - score if metric.higher_is_better else score - low
    if metric.loss_is_of_score:
        assert torch.allclose(metric(*given), expected.mean(), atol=1e-6)
    else:
        worse, best = metric(*given), metric(given[0], given[0])
        assert best == pytest.approx(0, abs=1e-5)
        assert worse > 0.1


def test_constants_cannot_be_set(metric):
    for constant in ("spec", "mode", "higher_is_better", "score_range", "range_is_bound", "differentiable", "name"):
        with pytest.raises(AttributeError):
            setattr(metric, constant, None)


def test_one_picture_in_every_form_gets_one_score(metric, tmp_path):
    array = picture()
    path = tmp_path / "picture.png"
    Image.fromarray(array).save(path)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "png")
    ref = array[::-1].copy()
    forms = [path, str(path), buffer.getvalue(), Image.fromarray(array), array, tensor(array), tensor(array)[None]]
    scores = [metric(*arguments(metric, form, ref)) for form in forms]
    assert all(torch.equal(score, scores[0]) for score in scores)


def test_mixed_sizes_in_a_list(metric):
    arrays = [picture(96, 128), picture(130, 70, seed=1), picture(96, 128, seed=2)]
    refs = [array[::-1].copy() for array in arrays]
    together = metric(*arguments(metric, arrays, refs))
    alone = torch.cat([metric(*arguments(metric, a, r)) for a, r in zip(arrays, refs, strict=True)])
    assert torch.allclose(together, alone, rtol=0, atol=1e-5)


def test_one_pixel(metric):
    score = metric(*arguments(metric, torch.full((1, 3, 1, 1), 0.5)))
    assert score.shape == (1,)
    assert score.isfinite().all()


def test_reference_missing_superfluous_or_of_another_size(metric):
    dist = images(1)
    if metric.mode == "nr":
        with pytest.raises(InputError, match="takes no reference"):
            metric(dist, dist)
        return
    with pytest.raises(InputError, match="compares with a reference"):
        metric(dist)
    with pytest.raises(InputError, match="width x height"):
        metric(dist, dist[..., 1:])


@pytest.mark.parametrize("metric", [name for name in NAMES if metric_info(name).mode == "fr"], indirect=True)
def test_held_reference_changes_no_score(metric):
    dist, ref = images(3), tensor(picture(seed=9))
    held = metric.encode_reference(ref)
    assert torch.allclose(metric(dist, held), metric(dist, [ref] * 3), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.full((1, 3, 8, 8), float("nan")),
        torch.full((1, 3, 8, 8), 2.0),
        torch.zeros(1, 4, 8, 8),
        "absent.png",
        [],
    ],
    ids=["nan", "range", "channels", "absent", "no images"],
)
def test_wrong_images_are_refused(metric, wrong):
    with pytest.raises(InputError):
        metric(*arguments(metric, wrong, images(1)))
