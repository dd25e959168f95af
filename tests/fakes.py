"""Two tiny metrics that keep the whole contract, for tests of what is built around metrics."""

import torch
from torch import nn

from iqametrics.metric import Metric, Sizing
from iqametrics.spec import MetricSpec


class TinyModel(nn.Module):
    """A 3x3 convolution with stride 2, then a linear layer on the mean (NR) or the mean difference (FR)."""

    def __init__(self, channels=4):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, stride=2, padding=1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(channels, 1)
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), persistent=False)

    def features(self, x):
        return torch.tanh(self.conv(x - self.mean))

    def score(self, features):
        return self.head(self.drop(features.mean((2, 3)))).squeeze(1)


class FakeNr(Metric):
    spec = MetricSpec(
        name="fake-nr",
        mode="nr",
        higher_is_better=True,
        score_range=(0.0, 1.0),
        range_is_bound=False,
        differentiable=True,
        paper="none",
        paper_url="https://example.org/nr",
        factory="fakes:FakeNr",
    )
    default_sizing = Sizing(8, 64)

    @classmethod
    def build(cls, config):
        return TinyModel(**(config or {}))

    def score_images(self, dist, ref):
        assert ref is None
        return self.model.score(self.model.features(dist))


class FakeFr(Metric):
    """Lower is better."""

    spec = MetricSpec(
        name="fake-fr",
        mode="fr",
        higher_is_better=False,
        score_range=(0.0, 2.0),
        range_is_bound=False,
        differentiable=True,
        paper="none",
        paper_url="https://example.org/fr",
        factory="fakes:FakeFr",
    )
    default_sizing = Sizing(8, 64)
    encoded = 0

    @classmethod
    def build(cls, config):
        return TinyModel(**(config or {}))

    def encode_images(self, ref):
        type(self).encoded += len(ref)
        return [self.model.features(ref)]

    def score_images(self, dist, ref):
        assert len(ref.levels[0]) == len(dist)
        return self.model.score((self.model.features(dist) - ref.levels[0]).abs())


SPECS = (FakeNr.spec, FakeFr.spec)


def metadata(metric, **changes):
    """Metadata of a checkpoint of a fake metric."""
    return {
        "metric": metric,
        "tag": "tiny",
        "config": {"channels": 4},
        "sizing": {"min_side": 8, "max_side": 64},
        "backbone": None,
        "training": {"data": "none", "epochs": 0},
        "licence": "CC0",
        "results": {"srcc": 0.5},
        "sources": ["nowhere"],
        **changes,
    }


def seeded_model(channels=4, seed=0):
    torch.manual_seed(seed)
    return TinyModel(channels)
