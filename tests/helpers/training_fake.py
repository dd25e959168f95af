"""A tiny objective and a tiny dataset for the trainer's tests; importable by a subprocess too."""

import csv
import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from iqametrics import methods
from iqametrics.evaluation import summary
from iqametrics.objective import Batch, Objective, Statistics
from iqametrics.spec import Method

RECIPE = """
# A tiny recipe.
[metric]
name = "fake"
tag = "tiny"
[model]
frozen_levels = {frozen}
[data]
csv = "data.csv"
[split]
validation = 0.25
by = "{by}"
[train]
epochs = 3
batch_size = 6
crop = 32
lr = 0.01
device = "cpu"
workers = 1
save_every = 1
keep_state = true
flips = ["h", "v"]
ema = 0.9
{train}
[cache]
enabled = {cached}
dtype = "float32"
"""

METHOD = Method(objectives={"fake": "training_fake:FakeObjective"})


@dataclass
class FakeConfig:
    frozen_levels: int = 0
    mode: str = "nr"
    nan_at: int = -1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class FakeModel(nn.Module):
    """Two levels by average pooling and fixed convolutions, then a head with dropout and batch statistics."""

    def __init__(self, config: FakeConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = nn.ModuleList([nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)])
        self.backbone.requires_grad_(config.frozen_levels == 0)
        self.norm = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(0.2)
        self.out = nn.Linear(6, 1)

    def trunk(self, images: Tensor) -> list[Tensor]:
        return [images] if self.config.frozen_levels == 0 else self.levels([images], frozen=0)

    def levels(self, trunk: list[Tensor], *, frozen: int | None = None) -> list[Tensor]:
        if (self.config.frozen_levels if frozen is None else frozen) > 0:
            return trunk
        levels, x = [], trunk[0]
        for conv in self.backbone:
            x = nn.functional.avg_pool2d(conv(x), 2, ceil_mode=True)
            levels.append(x)
        return levels

    def head(self, trunk: list[Tensor]) -> Tensor:
        x = self.norm(self.levels(trunk)[1]).relu().mean((2, 3))
        return self.out(self.dropout(x)).squeeze(-1)


class FakeObjective(Objective):
    model: FakeModel

    def __init__(self, config: FakeConfig) -> None:
        super().__init__()
        self.model = FakeModel(config)
        self.needs_reference = config.mode == "fr"
        self.steps = 0
        self.mos_mean = float("nan")

    @classmethod
    def from_recipe(cls, metric_name: str, model: dict[str, Any], init: dict[str, str]) -> "FakeObjective":
        objective = cls(FakeConfig(**model))
        if "backbone" in init:
            objective.model.backbone.load_state_dict(load_file(init["backbone"]))
        return objective

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        scores = self._scores(batch)
        mse = nn.functional.mse_loss(scores + 1e-3 * torch.randn_like(scores), batch.mos)
        self.steps += 1
        if self.steps == self.model.config.nan_at:
            mse = mse * float("nan")
        return mse, {"mse": mse.detach()}

    def predict(self, batch: Batch) -> Tensor:
        return self._scores(batch)

    def statistics_levels(self, trunk: list[Tensor]) -> list[Tensor]:
        return self.model.levels(trunk)

    def initialise(self, statistics: Statistics) -> None:
        self.mos_mean = statistics.mos_mean
        with torch.no_grad():
            self.model.out.bias.fill_(statistics.mos_mean)

    def _scores(self, batch: Batch) -> Tensor:
        scores = self.model.head(batch.dist)
        return scores if batch.ref is None else scores - self.model.head(batch.ref)


def write_dataset(folder: Path, count: int = 24, sizes: tuple[tuple[int, int], ...] = ((64, 48), (40, 70))) -> Path:
    """Noise of growing strength on gray: more noise, lower score."""
    rng = np.random.default_rng(0)
    with (folder / "data.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "mos", "split", "kind"])
        for number in range(count):
            strength = number / (count - 1)
            shape = (*sizes[number % len(sizes)], 3)
            pixels = 128 + strength * rng.uniform(-127, 127, shape)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
            writer.writerow([f"{number}.png", f"{1 - strength:.4f}", "val" if number % 4 == 0 else "train", number % 5])
    return folder / "data.csv"


def write_recipe(
    folder: Path, *, frozen: int = 0, cached: bool = False, by: str = "image", train: str = "", dataset: bool = True
) -> Path:
    if dataset:
        write_dataset(folder)
    path = folder / "tiny.toml"
    path.write_text(RECIPE.format(frozen=frozen, cached=str(cached).lower(), by=by, train=train))
    return path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "last.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert any(name.startswith("optimizer.") for name in first)
    assert any(name.startswith("average.") for name in first)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open() as stream:
        return list(csv.DictReader(stream))


@contextmanager
def registered(monkeypatch):
    """Make the fake trainable, without curves in its reports and on one thread, for one test."""
    monkeypatch.setattr(methods, "_registered", [*methods._registered, METHOD])
    leave_curves_out(monkeypatch.setattr)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def leave_curves_out(setter: Callable[[Any, str, Any], None]) -> None:
    """Do without the figures after a curve; fits take most of a tiny run's time, and have tests of their own.

    Args:
        setter: `monkeypatch.setattr`, or `setattr` in a process that ends with the test.
    """
    setter(summary, "_after_fit", lambda *_, **__: (summary._AfterFit(math.nan, math.nan, False), None))
