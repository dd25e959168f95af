"""Recipes by name, recipes that extend others, and the package's own against the papers' figures."""

import csv
import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT

from iqametrics.bpclip.config import BpclipConfig
from iqametrics.bpclip.objective import BpclipLossConfig
from iqametrics.datasets.catalogue import dataset_spec, list_datasets
from iqametrics.errors import RecipeError
from iqametrics.methods import paper_tables
from iqametrics.pfd_iqa.config import PfdIqaConfig, PfdTeacherConfig
from iqametrics.pfd_iqa.objective import PfdLossConfig
from iqametrics.pfd_iqa.teacher_objective import TeacherLossConfig
from iqametrics.training.recipe import read_recipe
from iqametrics.training.recipes import find_recipe, list_recipes, merge, read_tables, recipe_header
from iqametrics.training.starting import starting_path, teacher_recipe
from iqametrics.weights.starting import list_starting, starting_entry

FR = ["live", "csiq", "tid2013", "kadid10k"]
PFD = [*FR, "clive", "koniq10k", "flive", "spaq"]
OF_DATASETS = {
    **{f"paper/bpclip-fr/{name}": name for name in FR},
    **{f"paper/bpclip-nr/{name}": name for name in ("clive", "koniq10k", "spaq")},
    **{f"paper/{metric}/{name}": name for metric in ("pfd-iqa", "pfd-teacher") for name in PFD},
    "paper/bpclip-nr/koniq10k-official": "koniq10k",
}
TOPIQ = {"gate_reduction": 1, "feed_forward": 4}
DIFFKD = {"time_grid": "half", "gamma_head": "softmax", "gamma_reduction": 8}
DIFFKD |= {"time_embedding": "table", "denoiser_norm": "batch", "feature_projection": True}
LINEAGE = {
    **{f"paper/bpclip-{mode}": TOPIQ for mode in ("fr", "nr")},
    "paper/pfd-iqa": DIFFKD,
    "paper/pfd-teacher": {"crop_average": "logits", "text_tower": "trained"},
}
LINEAGE_LOSS = {"paper/pfd-iqa": {"label_scale": 100.0}, "paper/pfd-teacher": {"dynamic": True}}
MARKS = re.compile(r"\[(paper|open|lineage: (TOPIQ|DiffKD|DEIQT|LIQE))\]")
BASES = [name for name in list_recipes() if name not in OF_DATASETS]


def read(name):
    """A recipe of the package, with some images where it has none of its own."""
    data = {"csv": "/a.csv"} if name in BASES else {"dataset": OF_DATASETS[name], "root": "/data"}
    return read_recipe(name, data=data)


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")


def test_every_recipe_is_there():
    metrics = ("bpclip-fr", "bpclip-nr", "pfd-iqa", "pfd-teacher")
    expected = {f"{size}/{metric}" for size in ("lite", "paper") for metric in metrics} | OF_DATASETS.keys()
    expected |= {f"paper/bpclip-{mode}/progressive" for mode in ("fr", "nr")}
    assert set(list_recipes()) == expected


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_reads_and_opens_with_its_header(name):
    recipe = read(name)
    header = recipe_header(find_recipe(name))
    assert list(header) == ["Paper", "Data", "Cost", "Result", "Command"]
    assert recipe.metric.name in header["Command"]
    command = header["Command"].split()[2]
    assert find_recipe(command) == find_recipe(name)
    if name in OF_DATASETS:
        assert read_recipe(name, [f"data.root='{Path.cwd()}'"]).data.dataset == OF_DATASETS[name]


@pytest.mark.parametrize("name", list_recipes())
def test_every_starting_file_has_a_name_and_the_right_kind(name):
    kinds = {"resnet50": "resnet50", "deit3_small_patch16_224": "deit3", "clip_vit_b16": "clip"}
    recipe = read(name)
    for key, value in recipe.init.items():
        if key == "teacher":
            teacher = teacher_recipe(recipe, Path("run"))
            assert teacher.metric.name == "pfd-teacher"
            assert Path(value).parent.name == ("pfd-teacher" if name in OF_DATASETS else name.split("/")[0])
        elif name.startswith("lite/"):
            assert Path(starting_path(value)).is_file()
        else:
            assert value in list_starting()
            model = recipe.model.get("backbone") or recipe.model["encoder"]
            assert starting_entry(value).kind == (kinds[model] if key == "backbone" else "clip")


@pytest.mark.parametrize(
    ("name", "config", "loss"),
    [
        ("paper/bpclip-fr", BpclipConfig(mode="fr"), BpclipLossConfig()),
        ("paper/bpclip-nr", BpclipConfig(mode="nr"), BpclipLossConfig()),
        ("paper/pfd-iqa", PfdIqaConfig(), PfdLossConfig()),
        ("paper/pfd-teacher", PfdTeacherConfig(), TeacherLossConfig()),
    ],
)
def test_the_papers_models_are_the_defaults_but_for_what_their_lineage_does(name, config, loss):
    """Each number stands in the recipe, and is the one that the config has; the lineage's are set here."""
    model = dict(read(name).model)
    weights = model.pop("loss")
    assert type(loss)(**weights) == dataclasses.replace(loss, **LINEAGE_LOSS.get(name, {}))
    if "bpclip" in name:
        model["mode"] = config.mode
    assert type(config).from_dict(model) == dataclasses.replace(config, **LINEAGE[name])
    ablations = {"information_branch", "weight_branch", "text_anchors", "use_pda", "use_pdr", "use_ana", "use_ppa"}
    ours = {"frozen_levels", "standardise_levels", "frozen_pooling", "relative"}
    assert config.to_dict().keys() - model.keys() <= ablations | ours


@pytest.mark.parametrize("name", [name for name in list_recipes() if name.startswith("paper/")])
def test_every_value_of_a_paper_recipe_says_where_it_is_from(name):
    table, unmarked = "", []
    for line in find_recipe(name).read_text(encoding="utf-8").splitlines():
        table = line.strip("[]") if line.startswith("[") else table
        key = line.partition("=")[0].strip() if re.match(r"\w+ = ", line) else ""
        # What the recipe is of, and which teacher's recipe goes with it, are no values of the model or its training.
        described = table in ("", "metric", "data") or key in ("licence", "sources", "teacher")
        if key and not described and not MARKS.search(line.partition("#")[2]):
            unmarked.append(f"{table}.{key}")
    assert not unmarked


def test_both_readings_of_bpclips_propagation_have_a_recipe():
    for mode in ("fr", "nr"):
        printed, text = read(f"paper/bpclip-{mode}"), read(f"paper/bpclip-{mode}/progressive")
        assert (printed.model["propagation"], text.model["propagation"]) == ("equation", "progressive")
        assert {**printed.model, "propagation": "progressive"} == text.model
        assert (printed.train, printed.split) == (text.train, text.split)


def test_the_papers_training_details():
    """Implementation details of both papers, section III.A and 4.2, and LIQE's for the teacher."""
    for mode, lr in (("fr", 1e-4), ("nr", 3e-5)):
        train = read(f"paper/bpclip-{mode}").train
        assert (train.optimizer, train.lr, train.backbone_lr, train.weight_decay) == ("adamw", lr, None, 1e-5)
        assert (train.schedule, train.t_max, train.epochs) == ("cosine-annealing", 50, 200)
        assert (train.crop, train.flips, train.batch_size) == (384, ("h", "v"), 16)
    train = read("paper/pfd-iqa").train
    assert (train.epochs, train.views, train.crop, train.lr) == (9, 10, 224, 2e-4)
    assert (train.schedule, train.step_epochs, train.step_factor) == ("step", 3, 0.1)
    assert (train.weight_decay, train.grad_clip, train.warmup_epochs, train.warmup_start) == (0.05, 5, 3, 1e-3)
    assert [read(f"paper/pfd-iqa/{name}").train.batch_size for name in ("clive", "koniq10k")] == [16, 128]
    train = read("paper/pfd-teacher").train
    assert (train.epochs, train.batch_size, train.lr, train.weight_decay) == (80, 32, 5e-6, 1e-3)
    assert (train.schedule, train.t_max, train.views, train.crop) == ("cosine-annealing", 5, 3, 224)
    assert (train.steps_per_epoch, train.views_together) == (200, True)
    assert all(read(name).train.selection == "best-val" for name in list_recipes() if name.startswith("paper/"))


@pytest.mark.parametrize("name", OF_DATASETS)
def test_the_papers_splits_and_sizes(name):
    recipe = read(name)
    split, dataset = recipe.split, OF_DATASETS[name]
    assert dataset in list_datasets()
    references = dataset_spec(dataset).references is not None
    by = "official" if name.endswith("official") else "reference" if references else "image"
    shares = (0.2, 0.2) if "bpclip-fr" in name else (0.08, 0.2)
    assert (split.by, (split.validation, split.test)) == (by, shares)
    assert recipe.sizing.short_side == {"koniq10k": 384, "spaq": 448}.get(dataset, 0)
    if "teacher" in recipe.init:
        teacher = teacher_recipe(recipe, Path("run"))
        assert (teacher.data, teacher.split, teacher.sizing) == (recipe.data, recipe.split, recipe.sizing)
        alone = read(name.replace("pfd-iqa", "pfd-teacher"))
        assert (teacher.model, teacher.train, teacher.init) == (alone.model, alone.train, alone.init)


def test_a_teacher_follows_its_student(tmp_path):
    overrides = ["split.seed=7", "train.seed=3", "train.device='cpu'", "train.workers=5", "train.epochs=1"]
    overrides += ["teacher.train.epochs=2", "teacher.train.lr=1e-3"]
    recipe = read_recipe("lite/pfd-iqa", overrides, {"csv": "/a.csv", "mos_range": [1, 5]})
    teacher = teacher_recipe(recipe, tmp_path / "run")
    assert (teacher.split.seed, teacher.train.seed, teacher.train.device, teacher.train.workers) == (7, 3, "cpu", 5)
    assert (teacher.train.epochs, teacher.train.lr, recipe.train.epochs) == (2, 1e-3, 1)
    assert teacher.data == recipe.data
    # Both look for the features of their common backbone in one place.
    assert teacher.cache.folder == str(tmp_path / "cache")
    with pytest.raises(RecipeError, match="train: unknown key 'epoch'; did you mean 'epochs'"):
        teacher_recipe(read_recipe("lite/pfd-iqa", ["teacher.train.epoch=2"], {"csv": "/a.csv"}), tmp_path)
    with pytest.raises(RecipeError, match=r"teacher\.split: .* trained on what the student is tested on"):
        read_recipe("lite/pfd-iqa", ["teacher.split.seed=1"], {"csv": "/a.csv"})
    with pytest.raises(RecipeError, match=r"\[teacher\] changes a teacher's recipe, but init\.teacher names none"):
        read_recipe("lite/bpclip-nr", ["teacher.train.epochs=2"], {"csv": "/a.csv"})


@pytest.mark.parametrize("name", [name for name in OF_DATASETS if "teacher" not in name])
def test_the_expected_results_are_the_papers(name):
    """The table of the paper was typed in for `iqametrics benchmark` too, by somebody else."""
    if name.endswith("official"):
        table, row = "bpclip-table5", "BPCLIP"
    elif "pfd" in name:
        table, row = "pfd-table1", "PFD-IQA (ours)"
    else:
        table, row = ("bpclip-table2" if "fr" in name else "bpclip-table4"), "BPCLIP"
    lines = paper_tables()[table].file.read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    cells = {r["statistic"]: r for r in rows if r["row"] in (row, "PFD-IQA") and r["dataset"] == OF_DATASETS[name]}
    result = recipe_header(find_recipe(name))["Result"]
    for statistic in ("srcc", "plcc"):
        value, std = re.search(rf"{statistic.upper()} ([\d.]+)(?: \(sd ([\d.]+)\))?", result).groups()
        assert float(value) == float(cells[statistic]["value"])
        assert (std or "") == "" if not cells[statistic]["std"] else float(std) == float(cells[statistic]["std"])


def test_lists_are_replaced_and_tables_merged(tmp_path):
    (tmp_path / "sub").mkdir()
    write(tmp_path, base="[metric]\nname='x'\n[data]\ncsv='b.csv'\n[train]\nlr=1.0\nflips=['h','v']\nepochs=9\n")
    write(tmp_path / "sub", mine="extends='../base.toml'\n[train]\nflips=['v']\nepochs=2\n[split]\nby='image'\n")
    recipe = read_recipe(tmp_path / "sub" / "mine.toml")
    assert (recipe.train.lr, recipe.train.flips, recipe.train.epochs, recipe.split.by) == (1.0, ("v",), 2, "image")
    # A path starts from the folder of the file that it stands in.
    assert recipe.data.csv == str(tmp_path / "b.csv")


def test_extending_a_recipe_of_the_package(tmp_path):
    write(tmp_path, mine="extends='paper/bpclip-fr/live'\n[data]\nroot='live'\n[train]\nepochs=3\n")
    recipe = read_recipe(tmp_path / "mine.toml")
    assert (recipe.train.epochs, recipe.train.lr, recipe.data.dataset) == (3, 1e-4, "live")
    assert recipe.data.root == str(tmp_path / "live")


def test_files_that_extend_each_other_are_refused(tmp_path):
    write(tmp_path, a="extends='b.toml'\n", b="extends='c.toml'\n", c="extends='b.toml'\n", d="extends='d.toml'\n")
    with pytest.raises(RecipeError, match=r"b\.toml: extends itself \(b\.toml -> c\.toml -> b\.toml\)"):
        read_recipe(tmp_path / "a.toml")
    with pytest.raises(RecipeError, match=r"extends itself \(d\.toml -> d\.toml\)"):
        read_recipe(tmp_path / "d.toml")
    write(tmp_path, e="extends='none.toml'\n", f="extends=3\n", g="extends='lite/none'\n")
    for name, message in (
        ("e", "none.toml: cannot be read"),
        ("f", "extends = 3 is not"),
        ("g", "lite/none: is neither"),
    ):
        with pytest.raises(RecipeError, match=message):
            read_recipe(tmp_path / f"{name}.toml")


TABLES = st.recursive(
    st.integers() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
DICTS = st.dictionaries(st.sampled_from("abc"), TABLES, max_size=3)


@given(DICTS, DICTS)
def test_merging(one, two):
    assert merge(one, {}) == one == merge({}, one) == merge(one, one)
    merged = merge(one, two)
    assert merged.keys() == one.keys() | two.keys()
    for key, value in two.items():
        both = isinstance(value, dict) and isinstance(one.get(key), dict)
        assert merged[key] == (merge(one[key], value) if both else value)
    assert all(merged[key] == one[key] for key in one.keys() - two.keys())


def test_a_name_is_not_hidden_by_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bpclip-nr").mkdir()
    assert find_recipe("bpclip-nr") == find_recipe("lite/bpclip-nr")
    write(tmp_path, mine="")
    assert find_recipe("mine.toml") == Path("mine.toml")
    with pytest.raises(RecipeError, match=r"koniq: is neither a file nor the name of a recipe; see iqametrics train"):
        find_recipe("koniq")


def test_paths_given_with_a_name_start_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe("lite/bpclip-nr", ["data.csv=a.csv", "init.backbone=./b.safetensors"])
    assert recipe.data.csv == str(tmp_path / "a.csv")
    assert recipe.init["backbone"] == str(tmp_path / "b.safetensors")


def test_values_of_the_wrong_type_are_refused_and_not_stumbled_over(tmp_path):
    for text in ("data=3", "data={csv=3}", "init=3", "init={backbone=3}", "cache=[1]", "teacher=1", "data={extra=3}"):
        write(tmp_path, bad=f"{text}\n[metric]\nname='x'\n")
        with pytest.raises(RecipeError, match="should be"):
            read_recipe(tmp_path / "bad.toml")


def test_the_header_goes_over_several_lines(tmp_path):
    write(tmp_path, mine="# Paper:    a paper\n#           of two lines: yes\n# Data:   d\n[x]\n# Cost: no\n")
    assert recipe_header(tmp_path / "mine.toml") == {"Paper": "a paper of two lines: yes", "Data": "d"}
    assert read_tables(tmp_path / "mine.toml") == {"x": {}}


@pytest.mark.parametrize("name", ["bpclip-fr", "bpclip-nr", "pfd-iqa", "pfd-teacher"])
def test_the_recipes_of_the_bundled_checkpoints_extend_the_packages(name):
    """What they say themselves is what differs, and that the result is called lite."""
    path = ROOT / "weights" / "lite" / f"{name}.toml"
    recipe, packaged = read_recipe(path), read(f"lite/{name}")
    assert (recipe.metric.name, recipe.metric.tag) == (name, "lite")
    assert (recipe.model, recipe.sizing, recipe.split.by) == (packaged.model, packaged.sizing, packaged.split.by)
    assert Path(recipe.data.csv).is_relative_to(ROOT / "weights" / "lite" / "data")
