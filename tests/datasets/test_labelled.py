"""Images with scores, however they are named: one kind of labels, one interval, one way of reading a CSV."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import training_fake
from fakes import metadata, seeded_model
from PIL import Image

from iqametrics import create_metric, evaluate
from iqametrics.cli.main import main
from iqametrics.datasets.labelled import LabelledImages
from iqametrics.datasets.sample import Sample
from iqametrics.datasets.synthetic import synthesize
from iqametrics.publishing.upload import publish_checkpoint
from iqametrics.training import run as training
from iqametrics.weights.checkpoint import save_checkpoint

EVALUATE = ("evaluate", "--metric", "fake-nr.tiny", "--csv")
TINY = """
[metric]
name = "fake"
[data]
{data}
[model]
mode = "{mode}"
[split]
by = "{by}"
validation = 0.2
test = 0.4
[train]
epochs = 1
batch_size = 8
crop = 32
device = "cpu"
workers = 1
selection = "last"
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders that `iqametrics synthesize` wrote, in both layouts."""
    place = tmp_path_factory.mktemp("made")
    generator = np.random.default_rng(0)
    photographs = []
    for number in range(6):
        file = place / f"photo{number}.png"
        Image.fromarray(generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(file)
        photographs.append(file)
    for layout in ("plain", "kadid10k"):
        synthesize(photographs, place / layout, kinds=(1, 10), levels=(1, 5), size=None, layout=layout, progress=False)
    return place


def moved(source, target, prefix):
    """Write a CSV again for another place, its images' names starting with `prefix`."""
    with source.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows({**row, **{name: prefix + row[name] for name in ("image", "reference")}} for row in rows)
    return target


def named(way, folders, tmp_path):
    """Where the images are, as one names them: what stands in a table of a recipe."""
    layout = "kadid10k" if way.startswith("kadid10k") else "plain"
    folder = tmp_path / "set"
    shutil.copytree(folders / layout, folder)
    labels = folder / "labels.csv"
    if way == "kadid10k by name":
        return {"dataset": "kadid10k", "root": str(folder)}
    if way == "kadid10k's csv" or way == "csv":
        return {"csv": str(labels)}
    if way == "csv of another name":
        return {"csv": str(labels.rename(folder / "mine.csv"))}
    if way == "csv in a subfolder, root":
        return {"csv": str(moved(labels, folder / "parts" / "mine.csv", "")), "root": str(folder)}
    if way == "csv in a subfolder":
        return {"csv": str(moved(labels, folder / "parts" / "mine.csv", "../"))}
    if way == "csv elsewhere":
        return {"csv": str(moved(labels, tmp_path / "elsewhere" / "mine.csv", f"{folder}/"))}
    assert way == "images elsewhere"
    shutil.move(folder / "images", tmp_path / "copy" / "images")
    return {"csv": str(labels), "root": str(tmp_path / "copy")}


WAYS = (
    *("csv", "csv of another name", "csv in a subfolder, root", "csv in a subfolder", "csv elsewhere"),
    *("images elsewhere", "kadid10k by name", "kadid10k's csv"),
)


def toml(table):
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in table.items())


def by_training(table, tmp_path, monkeypatch, capsys):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY.format(data=toml(table), mode="nr", by="reference"))
    with training_fake.registered(monkeypatch):
        folder = training.train(recipe, [], tmp_path / "run")
    return json.loads((folder / "results.json").read_text())["labels"]


def by_publishing(table, tmp_path, monkeypatch, capsys):
    """Publish a checkpoint of an older version, whose record does not say what its labels are."""
    folder = tmp_path / "old"
    folder.mkdir()
    results = {"test": {"n": 40, "srcc": 0.5, "plcc": 0.5}}
    record = metadata("fake-nr", training={"data": ["scores.csv"]}, results=results)
    save_checkpoint(folder / "checkpoint.safetensors", seeded_model().state_dict(), record)
    (folder / "recipe.toml").write_text(f"[data]\n{toml(table)}\n")
    monkeypatch.setattr("iqametrics.publishing.privacy._own_names", set)
    card = publish_checkpoint(folder, "org/name", dry_run=True).card
    return "made" if "Agreement with made labels" in card else "human" if "human opinion, on" in card else None


def by_evaluating(table, tmp_path, monkeypatch, capsys):
    options = [part for key, value in table.items() for part in (f"--{key}", value)]
    assert main(["evaluate", "--metric", "fake-nr.tiny", *options, "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert ("labels are made" in err) == ("made" in json.loads(out)["opinions"])
    return "made" if "labels are made" in err else "human"


def by_benchmark(table, tmp_path, monkeypatch, capsys):
    data = tmp_path / "data.toml"
    layout = {"layout" if key == "dataset" else key: value for key, value in table.items()}
    data.write_text(f"[datasets.mine]\n{toml(layout)}\n")
    arguments = ["--metrics", "fake-nr.tiny", "fake-nr.lite", "--data", data, "--output", tmp_path / "bench"]
    assert main(["benchmark", "run", "compare", *map(str, arguments)]) == 0
    capsys.readouterr()
    assert main(["benchmark", "report", str(tmp_path / "bench")]) == 0
    labels = json.loads((tmp_path / "bench" / "plan.json").read_text())["labels"]["mine"]
    assert ("No significance on mine" in capsys.readouterr().out) == (labels == "made")
    return labels


@pytest.mark.parametrize("command", [by_training, by_publishing, by_evaluating, by_benchmark])
@pytest.mark.parametrize("way", WAYS)
def test_what_synthesize_made_is_made_for_every_command(
    fake_metrics, folders, tmp_path, monkeypatch, capsys, way, command
):
    assert command(named(way, folders, tmp_path), tmp_path, monkeypatch, capsys) == "made"


def test_labels_that_are_stated_count(folders):
    labels = str(folders / "plain" / "labels.csv")
    assert LabelledImages(csv=labels, labels="human").label_kind == "human"
    assert LabelledImages(csv=labels).label_kind == "made"


def test_other_files_of_that_name_show_nothing(tmp_path):
    (tmp_path / "recipe.json").write_text('{"flour": 500}')
    assert LabelledImages(csv=str(tmp_path / "labels.csv")).label_kind is None
    (tmp_path / "recipe.json").write_text("[")
    assert LabelledImages(csv=str(tmp_path / "labels.csv")).label_kind is None


def test_a_known_dataset_is_scored_by_people_unless_it_is_an_imitation(tmp_path):
    images = LabelledImages(dataset="kadid10k", root=str(tmp_path))
    assert images.label_kind == "human"
    (tmp_path / "MADE-LABELS.txt").touch()
    assert images.label_kind == "made"
    assert LabelledImages(dataset="kadid10k", root=str(tmp_path / "gone")).label_kind is None


# ---- one interval


def sample(name, reference=None, group=None):
    return Sample(Path(f"/d/{name}"), Path(f"/d/{reference}") if reference else None, 0.5, group=group)


def test_what_the_bootstrap_draws_together():
    samples = [
        sample("a/x.png"),
        sample("b/x.png"),
        sample("1.png", "a/ref.png"),
        sample("2.png", "b/ref.png"),
        sample("3.png", "b/ref.png", "scene"),
        sample("4.png", group="scene"),
    ]
    found = LabelledImages(csv="/d/x.csv").interval_groups(samples)
    assert found == ["a/x.png", "b/x.png", "a/ref.png", "scene", "scene", "scene"]


def write_scored(folder, grouping):
    """Images of several strengths of noise, the first six for training, as a CSV."""
    rng = np.random.default_rng(1)
    rows = []
    for number in range(24):
        pixels = 128 + (number % 6) * 20 * rng.uniform(-1, 1, (40, 48, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        group = {"group": f"g{number % 7}", "one": "same"}.get(grouping, "")
        reference = f"{number - number % 6}.png" if grouping == "reference" else ""
        rows.append(f"{number}.png,{reference},{rng.uniform():.3f},{group},{'train' if number < 6 else 'test'}")
    (folder / "data.csv").write_text("image,reference,mos,group,split\n" + "\n".join(rows) + "\n")
    return folder / "data.csv"


@pytest.mark.parametrize("grouping", ["image", "reference", "group", "one"])
def test_the_same_scores_have_the_same_interval_in_every_command(fake_metrics, tmp_path, monkeypatch, capsys, grouping):
    table = write_scored(tmp_path, grouping)
    with table.open(newline="") as stream:
        tested = [row for row in csv.DictReader(stream) if row["split"] == "test"]
    with (tmp_path / "test.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, tested[0])
        writer.writeheader()
        writer.writerows(tested)
    assert main([*EVALUATE, str(tmp_path / "test.csv"), "--format", "json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)

    (tmp_path / "data.toml").write_text('[datasets.mine]\ncsv = "test.csv"\n')
    options = ["--metrics", "fake-nr.tiny", "--data", tmp_path / "data.toml", "--output", tmp_path / "bench"]
    assert main(["benchmark", "run", "compare", *map(str, options)]) == 0
    (result,) = (tmp_path / "bench" / "jobs").glob("*/result.json")
    measured = json.loads(result.read_text())["figures"]["mine"]

    # The trainer's model scores otherwise, so it is given the metric's scores in place of its own.
    metric = create_metric("fake-nr.tiny")
    monkeypatch.setattr(
        "iqametrics.training.loop.Trainer.predict",
        lambda self, items, *where: np.array([metric(str(item.sample.image)).item() for item in items]),
    )
    (tmp_path / "tiny.toml").write_text(TINY.format(data='csv = "data.csv"', mode="nr", by="column"))
    with training_fake.registered(monkeypatch):
        folder = training.train(tmp_path / "tiny.toml", [], tmp_path / "run")
    trained = json.loads((folder / "results.json").read_text())["results"]["test"]

    # And what the run wrote down is evaluated alike.
    assert main([*EVALUATE, str(folder / "predictions.csv"), "--root", str(tmp_path), "--format", "json"]) == 0
    again = json.loads(capsys.readouterr().out)

    intervals = [(figures["srcc_low"], figures["srcc_high"]) for figures in (evaluated, measured, trained, again)]
    assert all(figures["n"] == 18 for figures in (evaluated, measured, trained, again))
    assert intervals[1:] == intervals[:1] * 3
    assert (intervals[0] == (None, None)) == (grouping == "one")
    assert evaluated["groups"] == {"by": grouping if grouping != "one" else "group", "used": grouping != "one"} | {
        "number": {"image": 18, "reference": 3, "group": 7, "one": 1}[grouping]
    }


def test_of_one_group_the_bootstrap_tells_nothing_of_a_difference(fake_metrics, tmp_path, capsys):
    table = write_scored(tmp_path, "one")
    assert main([*EVALUATE, str(table), "--metric", "fake-nr.lite", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    (pair,) = json.loads(out)["comparison"]
    assert [pair[name] for name in ("low", "high", "p_bootstrap", "p_bootstrap_holm")] == [None] * 4
    assert pair["p_williams"] is not None
    assert "there is no interval" in err
    (tmp_path / "data.toml").write_text('[datasets.mine]\ncsv = "data.csv"\n')
    options = [
        "--metrics",
        "fake-nr.tiny",
        "fake-nr.lite",
        "--data",
        tmp_path / "data.toml",
        "--output",
        tmp_path / "b",
    ]
    assert main(["benchmark", "run", "compare", *map(str, options)]) == 0
    assert main(["benchmark", "report", str(tmp_path / "b")]) == 0
    report = capsys.readouterr().out
    assert "| none | none | none | " in report
    assert "nan" not in report


# ---- one way of reading a CSV


def bad_csv(tmp_path, cell):
    """Twelve images on a scale of 1 to 5, with one bad label in line 10."""
    rng = np.random.default_rng(1)
    lines = ["image,mos"]
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{cell if number == 8 else f'{5 - number / 3:.2f}'}")
    (tmp_path / "scores.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "scores.csv"


@pytest.mark.parametrize("cell", ["", "nan", "N/A", "30%", "1,000", '"1,000"'])
@pytest.mark.parametrize("command", ["train", "train --mos-range", "evaluate", "benchmark"])
def test_a_bad_label_is_told_by_its_line(fake_metrics, tmp_path, monkeypatch, capsys, cell, command):
    table = bad_csv(tmp_path, cell)
    if command.startswith("train"):
        (tmp_path / "tiny.toml").write_text(TINY.format(data='csv = "scores.csv"', mode="nr", by="image"))
        options = ["--mos-range", "1", "5"] if "--mos-range" in command else []
        with training_fake.registered(monkeypatch):
            status = main(["train", str(tmp_path / "tiny.toml"), "--output", str(tmp_path / "run"), *options])
    elif command == "evaluate":
        status = main([*EVALUATE, str(table)])
    else:
        (tmp_path / "data.toml").write_text('[datasets.mine]\ncsv = "scores.csv"\nmos_range = [1, 5]\n')
        options = ["--metrics", "fake-nr.tiny", "--data", tmp_path / "data.toml", "--output", tmp_path / "bench"]
        status = main(["benchmark", "run", "compare", *map(str, options)])
    told = next(line for line in capsys.readouterr().err.splitlines() if "line " in line)
    assert status == 1
    assert "line 10: " in told
    assert ("'1', '000'" if cell == "1,000" else repr(cell.strip('"'))) in told
    assert "without unit or comma" in told or "no comma" in told
    assert "--mos-range" not in told
    if command in ("train --mos-range", "benchmark") and cell != "1,000":
        assert "from 1 (worst) to 5 (best)" in told


def test_how_a_range_is_given_is_said_in_the_words_of_the_command(fake_metrics, tmp_path, monkeypatch, capsys):
    table = bad_csv(tmp_path, "3")
    (tmp_path / "tiny.toml").write_text(TINY.format(data='csv = "scores.csv"', mode="nr", by="image"))
    with training_fake.registered(monkeypatch):
        assert main(["train", str(tmp_path / "tiny.toml"), "--output", str(tmp_path / "run")]) == 1
    assert "line 2: mos 5 is outside [0, 1]; say what the scale is, e.g. --mos-range 1 5" in capsys.readouterr().err
    (tmp_path / "data.toml").write_text('[datasets.mine]\ncsv = "scores.csv"\n')
    options = ["--metrics", "fake-nr.tiny", "--data", tmp_path / "data.toml", "--output", tmp_path / "bench"]
    assert main(["benchmark", "run", "compare", *map(str, options)]) == 1
    told = capsys.readouterr().err
    assert "mos_range = [1, 5] in [datasets.mine]" in told
    assert "--mos-range" not in told
    assert main([*EVALUATE, str(table)]) == 0


def test_a_missing_file_costs_its_row_only(fake_metrics, tmp_path, capsys):
    table = bad_csv(tmp_path, "3")
    whole = LabelledImages(csv=str(table)).choose()
    (tmp_path / "4.png").unlink()
    assert main([*EVALUATE, str(table), "--format", "json"]) == 1
    out, err = capsys.readouterr()
    metric = create_metric("fake-nr.tiny")
    kept = [number for number in range(12) if number != 4]
    expected = evaluate([metric(str(tmp_path / f"{n}.png")).item() for n in kept], [whole.opinions[n] for n in kept])
    record = json.loads(out)
    assert (record["n"], record["failed"]) == (11, 1)
    assert record["srcc"] == pytest.approx(expected.srcc)
    assert "4.png: does not exist" in err
    # A wrong root is another matter.
    assert main([*EVALUATE, str(table), "--root", str(tmp_path / "nowhere")]) == 1
    assert "12 of 12 files do not exist" in capsys.readouterr().err


# ---- what training refuses before it begins


def write_pairs(tmp_path, reference_size):
    rng = np.random.default_rng(1)
    lines = ["image,reference,mos"]
    for number in range(20):
        for name, side in ((f"{number}.png", 100), (f"r{number}.png", 100 if number != 6 else reference_size)):
            Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(tmp_path / name)
        lines.append(f"{number}.png,r{number}.png,{number}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "pairs.csv"


def test_a_pair_of_two_sizes_is_refused_alike(fake_metrics, tmp_path, monkeypatch, capsys):
    table = write_pairs(tmp_path, 128)
    (tmp_path / "tiny.toml").write_text(TINY.format(data='csv = "pairs.csv"', mode="fr", by="reference"))
    with training_fake.registered(monkeypatch):
        command = ["train", str(tmp_path / "tiny.toml"), "--mos-range", "0", "19", "--output", str(tmp_path / "run")]
        # Scaling the shorter side up would make the two sizes equal.
        assert main([*command, "--set", "sizing.short_side=64", "--set", "sizing.min_side=32"]) == 1
    trained = capsys.readouterr().err
    assert main(["evaluate", "--metric", "fake-fr.lite", "--csv", str(table)]) == 1
    words = "6.png: is 100x100 but its reference is 128x128; crop or resize them to the same width x height first"
    assert words in trained
    assert len(trained.splitlines()) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("selection", "part"), [("best-val", "validation"), ("best-test", "test")])
def test_labels_that_choose_nothing_are_refused(tmp_path, monkeypatch, capsys, selection, part):
    training_fake.write_dataset(tmp_path)
    header, *rows = (tmp_path / "data.csv").read_text().splitlines()
    cells = [row.split(",") for row in rows]
    names = ["train"] * 16 + ["validation"] * 4 + ["test"] * 4
    lines = [
        f"{image},{0.5 if name == part else mos},{name},{kind}"
        for (image, mos, _, kind), name in zip(cells, names, strict=True)
    ]
    (tmp_path / "data.csv").write_text("\n".join([header, *lines]))
    (tmp_path / "tiny.toml").write_text(TINY.format(data='csv = "data.csv"', mode="nr", by="column"))
    with training_fake.registered(monkeypatch):
        command = ["train", str(tmp_path / "tiny.toml"), "--output", str(tmp_path / "run"), "--selection"]
        assert main([*command, selection]) == 1
        told = capsys.readouterr().err
        assert f"all 4 {part} images have the same score" in told
        assert len(told.splitlines()) == 1
        assert not (tmp_path / "run").exists()
        assert main([*command, "last"]) == 0


@pytest.mark.parametrize("more", [[], ["--resume"], ["--splits", "2", "--set", "split.by=image"]])
@pytest.mark.parametrize("below", ["", "run"])
def test_an_output_that_is_a_file(tmp_path, monkeypatch, capsys, more, below):
    training_fake.write_dataset(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY.format(data='csv = "data.csv"', mode="nr", by="image"))
    (tmp_path / "taken").write_text("mine")
    with training_fake.registered(monkeypatch):
        output = str(tmp_path / "taken" / below)
        assert main(["train", str(tmp_path / "tiny.toml"), "--output", output, *more]) == 1
    told = capsys.readouterr().err
    assert f"{tmp_path / 'taken'}: is a file, and a run needs a folder" in told
    assert len(told.splitlines()) == 1
    assert (tmp_path / "taken").read_text() == "mine"


def test_shares_that_leave_nothing_are_told_by_their_sum(tmp_path, capsys):
    (tmp_path / "tiny.toml").write_text(TINY.format(data='csv = "data.csv"', mode="nr", by="image"))
    shares = ["--set", "split.validation=0.9", "--set", "split.test=0.9"]
    assert main(["train", str(tmp_path / "tiny.toml"), *shares]) == 1
    assert "split.validation + split.test = 1.8: their sum must be below 1" in capsys.readouterr().err
