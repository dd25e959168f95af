"""torchmetrics' conventions: batches, processes, reductions, gradients, copies and plots."""

import copy
import pickle

import pytest
import torch
import torch.multiprocessing
from torch import distributed

from iqametrics import create_metric
from iqametrics.errors import InputError

pytest.importorskip("torchmetrics", reason="the extra is not installed")

from torchmetrics import MetricCollection

from iqametrics.integrations.torchmetrics import QualityScore

NR, FR = "bpclip-nr.lite", "bpclip-fr.lite"


def images(count, seed=0):
    return torch.rand(count, 3, 48, 56, generator=torch.Generator().manual_seed(seed))


def fill(quality, *batches):
    for batch in batches:
        quality.update(*batch)
    return quality


@pytest.mark.parametrize("name", [NR, FR, "pfd-iqa.lite"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_batches_equal_one_call(name, reduction):
    batches = [(images(n, n), images(n, 9 + n)) if name == FR else (images(n, n),) for n in (1, 3)]
    whole = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    scores = create_metric(name)(*whole)
    expected = {"mean": scores.mean(), "sum": scores.sum(), "none": scores}[reduction]
    torch.testing.assert_close(fill(QualityScore(name, reduction=reduction), *batches).compute(), expected)


def test_forward_gives_the_batch_and_keeps_the_rest():
    quality = QualityScore(NR)
    first, second = quality(images(2, 1)), quality(images(2, 2))
    torch.testing.assert_close(quality.compute(), (first + second) / 2)
    quality.reset()
    torch.testing.assert_close(quality(images(2, 1)), first)


def test_constants():
    quality = QualityScore(NR)
    assert quality.higher_is_better
    assert quality.is_differentiable
    assert quality.full_state_update is False
    assert (quality.plot_lower_bound, quality.plot_upper_bound) == quality.metric.score_range
    assert not QualityScore("piq/mdsi").higher_is_better


class FullState(QualityScore):
    full_state_update = True


def test_full_state_is_not_needed():
    one, other = QualityScore(NR), FullState(NR)
    for seed in range(2):
        torch.testing.assert_close(one(images(2, seed)), other(images(2, seed)))
    torch.testing.assert_close(one.compute(), other.compute())


def test_the_gradient_is_that_of_the_metric():
    x, y = (images(2).requires_grad_() for _ in range(2))
    QualityScore(NR, reduction="sum")(x).backward()
    create_metric(NR, as_loss=True).score_with_gradient(y).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    assert x.grad.abs().max() > 0


def test_a_metric_that_was_made_is_used_as_it_is():
    metric = create_metric(NR)
    quality = QualityScore(metric)
    assert quality.metric is metric
    assert not metric.as_loss
    assert not quality.is_differentiable
    torch.testing.assert_close(quality(images(1)), metric(images(1))[0])


def test_copies_and_collections():
    quality = fill(QualityScore(NR), (images(2),))
    expected = quality.compute()
    for other in (pickle.loads(pickle.dumps(quality)), copy.deepcopy(quality), quality.clone()):
        torch.testing.assert_close(other.compute(), expected)
    both = MetricCollection({"mean": QualityScore(NR), "all": QualityScore(NR, reduction="none")})
    both.update(images(2))
    torch.testing.assert_close(both.compute()["all"].mean(), both.compute()["mean"])
    torch.testing.assert_close(both.compute()["mean"], expected)


def test_a_million_scores_do_not_drift(monkeypatch):
    quality = QualityScore(create_metric(NR))
    scores = torch.full((100,), 0.1)
    monkeypatch.setattr(type(quality.metric), "__call__", lambda metric, dist, ref: scores)
    for _ in range(10_000):
        quality.update(images(1))
    assert quality.compute().item() == pytest.approx(0.1, abs=1e-8)


def test_nothing_scored(recwarn):
    assert QualityScore(NR).compute().isnan()
    assert QualityScore(NR, reduction="none").compute().shape == (0,)


def test_what_is_refused_keeps_the_scores():
    quality = fill(QualityScore(NR), (images(1),))
    expected = quality.compute()
    with pytest.raises(InputError, match="no reference"):
        quality.update(images(1), images(1))
    torch.testing.assert_close(quality.compute(), expected)
    with pytest.raises(InputError, match="did you mean 'mean'"):
        QualityScore(NR, reduction="meen")


def test_a_plot_has_the_range(tmp_path):
    figure, _ = QualityScore(NR).plot(torch.tensor(0.4))
    figure.savefig(tmp_path / "a.png")


def one_process(rank, folder, reduction):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)
    # Of uneven sizes: three images on the first process, one on the second.
    quality = fill(QualityScore(NR, reduction=reduction), (images(3, 0) if rank == 0 else images(1, 1),))
    torch.save(quality.compute(), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_two_processes_equal_one(tmp_path, reduction):
    torch.multiprocessing.spawn(one_process, args=(tmp_path, reduction), nprocs=2)
    expected = fill(QualityScore(NR, reduction=reduction), (images(3, 0),), (images(1, 1),)).compute()
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt", weights_only=True), expected)
