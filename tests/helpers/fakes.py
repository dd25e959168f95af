"""Two tiny metrics that keep the whole contract, for tests of what is built around metrics."""

import hashlib
import json

import torch
from torch import nn

from iqametrics import methods, registry
from iqametrics.metric import Metric, Sizing
from iqametrics.spec import Method, MetricSpec
from iqametrics.weights.checkpoint import save_checkpoint


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


METHOD = Method(metrics=(FakeNr.spec, FakeFr.spec))


def metadata(name, **changes):
    """Metadata of a checkpoint of a fake metric."""
    return {
        "metric": name,
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


def install(folder, monkeypatch):
    """Register both metrics and put their checkpoints and a manifest of the lot into a folder.

    "fake-nr" has "tiny" (the default) and "lite", "fake-fr" has "lite"; the real checkpoints are not in it.
    """
    checkpoints = []
    for seed, (name, tag) in enumerate([("fake-nr", "lite"), ("fake-nr", "tiny"), ("fake-fr", "lite")]):
        path = folder / f"{name}.{tag}.safetensors"
        save_checkpoint(path, seeded_model(seed=seed).state_dict(), metadata(name, tag=tag))
        content = path.read_bytes()
        checkpoints.append(
            {
                "metric": name,
                "tag": tag,
                "default": (name, tag) != ("fake-nr", "lite"),
                "source": "bundled",
                "file": path.name,
                "sha256": hashlib.sha256(content).hexdigest(),
                "bytes": len(content),
                "licence": "CC0",
            }
        )
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "checkpoints": checkpoints, "bases": []}))
    monkeypatch.setattr(registry, "WEIGHTS_FOLDER", folder)
    monkeypatch.setattr(methods, "_registered", [*methods._registered, METHOD])
    return folder
