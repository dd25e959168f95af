"""`iqametrics train`: which recipe, which images, where to; the training itself is replaced."""

import subprocess
import sys
from pathlib import Path

import pytest

from iqametrics.cli.main import main
from iqametrics.training import repeats, run


@pytest.fixture
def trained(monkeypatch, tmp_path, capsys):
    """Call the command in an empty folder; give status, output, complaint and what was to be trained."""
    monkeypatch.chdir(tmp_path)
    seen: list[tuple] = []

    def train_recipe(recipe, output, *, resume=False):
        seen.append((recipe, output, resume))
        return Path(output)

    def train_repeats(recipe, output, *, splits, resume=False):
        seen.append((recipe, output, resume, splits))
        return Path(output) / "summary.json"

    monkeypatch.setattr(run, "train_recipe", train_recipe)
    monkeypatch.setattr(repeats, "train_repeats", train_repeats)

    def call(*arguments):
        status = main([str(argument) for argument in ("train", *arguments)])
        return status, *capsys.readouterr(), seen

    return call


def test_a_metrics_name_means_its_lite_recipe_and_says_so(trained, tmp_path):
    status, out, err, seen = trained("bpclip-nr", "--csv", "my.csv", "--mos-range", "1", "5")
    assert status == 0
    assert out == str(Path("runs/bpclip-nr/checkpoint.safetensors")) + "\n"
    assert err == (
        "iqametrics: note: bpclip-nr alone means the recipe lite/bpclip-nr, a small model; that of the paper's size is "
        "paper/bpclip-nr\n"
    )
    recipe, output, resume = seen[0]
    assert (recipe.metric.name, recipe.metric.tag, recipe.model["backbone"]) == (
        "bpclip-nr",
        "",
        "efficientnet_lite0",
    )
    assert (recipe.data.csv, recipe.data.root, recipe.data.mos_range) == (str(tmp_path / "my.csv"), "", (1.0, 5.0))
    assert (output, resume) == (Path("runs/bpclip-nr"), False)


def test_a_recipe_of_a_dataset_needs_only_its_folder(trained, tmp_path):
    status, _, err, seen = trained("paper/bpclip-fr/kadid10k", "--root", "kadid", "--output", "out", "--resume")
    assert (status, err) == (0, "")
    recipe, output, resume = seen[0]
    assert (recipe.data.dataset, recipe.data.root) == ("kadid10k", str(tmp_path / "kadid"))
    assert (output, resume) == (Path("out"), True)
    status, _, err, _ = trained("paper/bpclip-fr/kadid10k")
    assert status == 1
    assert "data.root is missing: give --root DIR" in err


def test_selection_replaces_the_recipes_rule(trained):
    assert trained("paper/bpclip-fr/kadid10k", "--root", "kadid")[3][0][0].train.selection == "best-val"
    for rule in ("last", "best-val", "best-test"):
        status, *_, seen = trained("paper/bpclip-fr/kadid10k", "--root", "kadid", "--selection", rule)
        assert (status, seen[-1][0].train.selection) == (0, rule)
    assert trained("paper/bpclip-fr/kadid10k", "--root", "kadid", "--selection", "best")[0] == 2


def test_a_file_keeps_its_own_images_and_takes_changes(trained, tmp_path):
    (tmp_path / "r.toml").write_text("[metric]\nname = 'bpclip-nr'\n[data]\ncsv = 'a.csv'\n")
    _, _, err, seen = trained("r.toml", "--set", "train.lr=0.5", "--set", "train.epochs=3", "--mos-range", "100", "0")
    assert err == ""
    recipe, output, _ = seen[0]
    assert (recipe.train.lr, recipe.train.epochs, recipe.data.mos_range) == (0.5, 3, (100.0, 0.0))
    assert recipe.data.csv == str(tmp_path / "a.csv")
    assert output == Path("runs/r")


@pytest.mark.parametrize(
    ("recipe", "dataset", "by"),
    [
        ("pfd-iqa", "csiq", "reference"),
        ("pfd-iqa", "clive", "near-duplicates"),
        ("bpclip-fr", "tid2013", "reference"),
        ("paper/bpclip-fr/live", "koniq10k", "near-duplicates"),
    ],
)
def test_a_dataset_is_never_split_across_its_references(trained, recipe, dataset, by):
    _, _, _, seen = trained(recipe, "--dataset", dataset, "--root", "d")
    assert seen[0][0].split.by == by
    # A split that is asked for is taken.
    _, _, _, seen = trained(recipe, "--dataset", dataset, "--root", "d", "--set", "split.by=image")
    assert seen[1][0].split.by == "image"


def test_a_checkpoint_is_not_called_by_a_dataset_that_it_has_not_seen(trained, tmp_path):
    *_, seen = trained("paper/bpclip-nr/clive", "--csv", "my.csv")
    # In photographs of one's own bursts must be expected, which a split by image would spread over both sides.
    assert (seen[0][0].metric.tag, seen[0][0].split.by) == ("custom", "near-duplicates")
    trained("paper/bpclip-nr/clive", "--csv", "my.csv", "--set", "metric.tag=mine", "--set", "split.by=image")
    assert (seen[1][0].metric.tag, seen[1][0].split.by) == ("mine", "image")
    trained("paper/bpclip-nr/clive", "--dataset", "spaq", "--root", "d")
    assert (seen[2][0].metric.tag, seen[2][0].split.by) == ("spaq", "image")
    trained("paper/bpclip-nr/koniq10k-official", "--dataset", "koniq10k", "--root", "d")
    assert (seen[3][0].metric.tag, seen[3][0].split.by) == ("koniq10k-official", "official")
    trained("paper/bpclip-nr/clive", "--csv", "my.csv", "--output", "runs/mine")
    assert seen[4][0].metric.tag == ""  # the name of the folder


def test_splits(trained):
    status, out, _, seen = trained("paper/bpclip-nr/clive", "--root", "d", "--splits", "10")
    assert (status, out) == (0, str(Path("runs/paper-bpclip-nr-clive/summary.json")) + "\n")
    assert seen[0][3] == 10


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "give a recipe, or --list"),
        (["bpclip-nr", "--csv", "a", "--dataset", "clive"], 2, "leave one out"),
        (["bpclip-nr", "--dataset", "clive", "--root", "d", "--mos-range", "0", "1"], 2, "--mos-range is of a CSV's"),
        (["bpclip-nr", "--dataset", "clive"], 2, "needs --root DIR"),
        (["bpclip-nr", "--csv", "a", "--splits", "0"], 2, "--splits"),
        (["bpclip-nr", "--csv", "a", "--mos-range", "1", "nan"], 2, "--mos-range"),
        (["bpclip-nr", "--set", "novalue"], 2, "KEY=VALUE"),
        (["bpclip-nr"], 1, "give --csv FILE, or --dataset NAME --root DIR"),
        (["bpclip", "--csv", "a"], 1, "did you mean 'bpclip-"),
        (["paper/bpclip-nr/clive2", "--csv", "a"], 1, "did you mean 'paper/bpclip-nr/clive'?"),
        (["bpclip-nr", "--dataset", "kadid", "--root", "d"], 1, "kadid10k"),
        (["none.toml", "--csv", "a"], 1, "none.toml: cannot be read"),
    ],
)
def test_mistakes_are_one_line(trained, arguments, status, message):
    found, out, err, seen = trained(*arguments)
    assert (found, out, seen) == (status, "", [])
    assert message in err.splitlines()[-1]
    assert len(err.splitlines()) == 1 + ("note:" in err)


def test_the_list_names_every_recipe_and_needs_no_torch():
    code = "import sys; from iqametrics.cli.main import main; main(['train', '--list']); print('torch' in sys.modules)"
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[-1] == "False"
    names = [line.split()[0] for line in lines[:-1]]
    assert {"lite/bpclip-nr", "paper/bpclip-fr/live", "paper/pfd-iqa/flive", "paper/bpclip-nr/koniq10k-official"} < set(
        names
    )
    assert names == sorted(names)
