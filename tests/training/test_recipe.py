import dataclasses
import sys
from pathlib import Path

import pytest
import torch
import training_fake

from iqametrics.errors import RecipeError
from iqametrics.training.recipe import Recipe, TrainTable, parse_recipe, read_recipe, to_toml
from iqametrics.training.schedule import lr_factor

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MINIMAL = {"metric": {"name": "bpclip-nr"}, "data": {"csv": "a.csv"}, "train": {"crop": 384}}


def parse(**tables) -> Recipe:
    return parse_recipe({**MINIMAL, **tables}, Path("/base"))


def test_defaults_and_paths_relative_to_the_recipe():
    recipe = parse(
        data={"csv": "a.csv", "root": "../data", "extra": [{"csv": "b.csv", "weight": 2}]},
        init={"backbone": "./w.safetensors", "anchors": "bundled-name"},
    )
    assert recipe.data.csv == str(Path("/base/a.csv").resolve())
    assert recipe.data.root == str(Path("/data").resolve())
    assert recipe.data.extra[0].csv == str(Path("/base/b.csv").resolve())
    assert recipe.data.extra[0].weight == 2.0
    assert recipe.init == {"backbone": str(Path("/base/w.safetensors").resolve()), "anchors": "bundled-name"}
    assert recipe.min_side == 384


def test_a_written_recipe_reads_back_the_same(tmp_path):
    recipe = parse(
        model={
            "width": 128,
            "loss": {"rank_weight": 0.5},
            "pixel_mean": [0.5, 0.5, 0.5],
            "gate": True,
            "kind": 'a"\\é',
        },
        data={"csv": "a.csv", "mos_range": [1, 5], "extra": [{"csv": "b.csv"}, {"csv": "c.csv", "mos_range": [0, 1]}]},
        train={"crop": 64, "flips": ["h", "v"], "backbone_lr": 1e-4},
    )
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(recipe.to_dict()), encoding="utf-8")
    assert read_recipe(path) == recipe
    # The standard library's reader agrees, not only our own.
    assert tomllib.loads(path.read_text(encoding="utf-8")) == recipe.to_dict()


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("train.epochs=3", "epochs", 3),
        ("train.lr=1e-4", "lr", 1e-4),
        ("train.lr=1", "lr", 1.0),
        ("train.schedule=one-cycle", "schedule", "one-cycle"),
        ("train.schedule='step'", "schedule", "step"),
        ('train.flips=["v"]', "flips", ("v",)),
        ("train.flips=[]", "flips", ()),
        (" train.seed = 7", "seed", 7),
    ],
)
def test_overrides_are_typed(tmp_path, override, name, value):
    read = getattr(read_recipe(training_fake.write_recipe(tmp_path), [override]).train, name)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "train: unknown key 'epoch'; did you mean 'epochs'?"),
        ("trian.epochs=3", "unknown key 'trian'; did you mean 'train'?"),
        ("train.colour=3", "known are epochs, batch_size"),
        ("init.backbon=a", "did you mean 'backbone'?"),
        ("train.epochs=three", "train.epochs = 'three': should be of type int"),
        ("train.epochs=1.5", "train.epochs = 1.5: should be of type int"),
        ("train.epochs=true", "train.epochs = True: should be of type int"),
        ("train.epochs=0", "train.epochs = 0: give a whole number from 1 up"),
        ("train.lr=0", "train.lr = 0.0: give a number above 0"),
        ("train.lr=inf", "train.lr = inf: give a finite number"),
        ("data.mos_range=[0, nan]", "data.mos_range[1] = nan: give a finite number"),
        ("train.ema=1.0", "train.ema = 1.0"),
        ("train.flips=h", "train.flips = 'h': should be a list"),
        ("train.flips=['d']", "choose one of 'h', 'v'"),
        ("train.schedule=linear", "choose one of 'cosine'"),
        ("data.mos_range=[1]", "should have 2 entries"),
        ("split.test=0.9", "their sum must be below 1"),
        ("split.validation=0.0", "leaves no image to choose by"),
        ("sizing.min_side=16", "must not be less than train.crop"),
        ("epochs=3", "write it as table.key=value"),
        ("train.epochs", "write it as table.key=value"),
    ],
)
def test_mistakes_are_named_with_a_remedy(tmp_path, override, message):
    with pytest.raises(RecipeError) as error:
        read_recipe(training_fake.write_recipe(tmp_path), [override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_override_reaches_tables_within_tables(tmp_path):
    recipe = read_recipe(training_fake.write_recipe(tmp_path), ["model.loss.rank_weight=0.5", "model.width=8"])
    assert recipe.model == {"frozen_levels": 0, "loss": {"rank_weight": 0.5}, "width": 8}
    with pytest.raises(RecipeError, match="frozen_levels is not a table"):
        read_recipe(training_fake.write_recipe(tmp_path), ["model.frozen_levels.x=1"])


@pytest.mark.parametrize("key", ["backbone", "anchors", "teacher", "checkpoint"])
def test_every_starting_file_can_be_named(tmp_path, key):
    recipe = read_recipe(training_fake.write_recipe(tmp_path), [f"init.{key}=./start.safetensors"])
    assert recipe.init == {key: str(tmp_path.resolve() / "start.safetensors")}


def test_cached_crops_lie_on_the_grid(tmp_path):
    recipe = training_fake.write_recipe(tmp_path, cached=True, frozen=2)
    with pytest.raises(RecipeError, match=r"train\.crop = 40: cached crops are multiples of 32"):
        read_recipe(recipe, ["train.crop=40"])


def test_files_that_are_no_recipes(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[train\n")
    with pytest.raises(RecipeError, match="is not TOML"):
        read_recipe(tmp_path / "bad.toml")
    (tmp_path / "bad.toml").write_text("[metric]\nname = 'x'\n")
    with pytest.raises(RecipeError, match="data names no images; give --csv FILE"):
        read_recipe(tmp_path / "bad.toml")
    with pytest.raises(RecipeError, match="name is missing"):
        parse(metric={})


def torch_rates(scheduler_class, epochs: int, **options) -> list[float]:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = scheduler_class(optimizer, **options)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_epoch_schedules_are_those_of_pytorch():
    scheduler = torch.optim.lr_scheduler
    train = TrainTable(epochs=12, schedule="cosine-annealing", t_max=5)
    # Beyond T_max the rate climbs again: PyTorch does so too.
    expected = torch_rates(scheduler.CosineAnnealingLR, 12, T_max=5)
    assert [lr_factor(train, 7 * e + 6, 7) for e in range(12)] == pytest.approx(expected, abs=1e-9)
    train = TrainTable(epochs=9, schedule="step", step_epochs=3, step_factor=0.1)
    expected = torch_rates(scheduler.StepLR, 9, step_size=3, gamma=0.1)
    assert [lr_factor(train, 4 * e, 4) for e in range(9)] == pytest.approx(expected)


def test_step_schedules_climb_and_fall():
    for schedule in ("cosine", "one-cycle"):
        train = TrainTable(epochs=10, schedule=schedule, warmup=0.2)
        factors = [lr_factor(train, step, 10) for step in range(100)]
        assert max(factors) == factors[20] == 1.0
        assert factors[:21] == sorted(factors[:21])
        assert factors[20:] == sorted(factors[20:], reverse=True)
        assert 0 < factors[0] < 0.05
        assert 0 < factors[-1] < 0.001
    # Half-way down, the cosine is at one half; PyTorch's OneCycleLR starts at 1/25.
    assert lr_factor(TrainTable(epochs=10, schedule="cosine", warmup=0.0), 50, 10) == pytest.approx(0.5)
    assert lr_factor(TrainTable(epochs=10, schedule="one-cycle", warmup=0.2), 0, 10) == pytest.approx(1 / 25)
    constant = TrainTable(epochs=10, schedule="constant")
    assert {lr_factor(constant, step, 10) for step in range(100)} == {1.0}


def test_recipes_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse().train.epochs = 3  # type: ignore[misc]
