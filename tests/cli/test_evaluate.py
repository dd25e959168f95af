"""`iqametrics evaluate` on datasets and splits, with one metric and with several."""

import csv
import io
import json
import shutil
from pathlib import Path

import fakes
import numpy as np
import pytest
from PIL import Image

from iqametrics import create_metric, evaluate
from iqametrics.cli.main import main
from iqametrics.datasets.catalogue import load_dataset
from iqametrics.datasets.protocol import select
from iqametrics.evaluation import compare_metrics
from iqametrics.weights.checkpoint import save_checkpoint

JSON = ("--format", "json")
DATASET = ("--dataset", "kadid10k")


def write_image(path, generator):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(generator.integers(0, 256, (16, 18, 3), dtype=np.uint8)).save(path)


@pytest.fixture(scope="module")
def kadid(tmp_path_factory):
    """Six references with four versions each, in KADID-10k's layout, scores from 1 to 5 with their spread."""
    root = tmp_path_factory.mktemp("kadid")
    generator = np.random.default_rng(0)
    lines = ["dist_img,ref_img,dmos,var"]
    for r in range(1, 7):
        write_image(root / "images" / f"I{r:02d}.png", generator)
        for k in range(1, 5):
            name = f"I{r:02d}_{k:02d}_01.png"
            write_image(root / "images" / name, generator)
            lines.append(f"{name},I{r:02d}.png,{generator.uniform(1, 5):.2f},{generator.uniform(0.3, 1):.3f}")
    (root / "dmos.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def koniq(tmp_path_factory):
    """Forty photographs in KonIQ-10k's layout with its official parts."""
    root = tmp_path_factory.mktemp("koniq")
    generator = np.random.default_rng(1)
    lines = ["image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set"]
    for n in range(40):
        write_image(root / "512x384" / f"{n}.jpg", generator)
        part = "training" if n < 20 else "validation" if n < 28 else "test"
        lines.append(f"{n}.jpg,0.1,0.2,0.4,0.2,0.1,100,{generator.uniform(10, 90):.3f},0.9,{part}")
    (root / "koniq10k_distributions_sets.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def run(fake_metrics, capsys):
    def call(*arguments):
        status = main(["evaluate", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def scores(name, samples):
    metric = create_metric(name)
    if metric.mode == "fr":
        return [metric(str(s.image), str(s.reference)).item() for s in samples]
    return [metric(str(s.image)).item() for s in samples]


def test_a_dataset_by_its_name(run, kadid, tmp_path):
    saved = tmp_path / "scores.csv"
    status, out, err = run("--metric", "fake-fr.lite", *DATASET, "--root", kadid, *JSON, "--save", saved)
    assert status == 0
    assert all(line.startswith("iqametrics: note: ") for line in err.splitlines())
    record = json.loads(out)
    samples = load_dataset("kadid10k", kadid)
    ours = evaluate(
        scores("fake-fr.lite", samples),
        [s.mos for s in samples],
        groups=[s.reference.name for s in samples],
        spread=[s.mos_std for s in samples],
    ).to_dict()
    assert {name: record[name] for name in ours} == pytest.approx(ours, abs=1e-5)
    assert record["outlier_ratio"] is not None
    assert (record["metric"], record["dataset"], record["csv"]) == ("fake-fr.lite", "kadid10k", None)
    assert (record["split"], record["images"], record["of_images"]) == ("all", 24, 24)
    assert record["of_release"] == 10_125
    assert record["groups"] == {"by": "reference", "number": 6, "used": True}
    assert record["definitions"]["plcc"] == "raw scores"
    assert record["opinions"] == "DMOS, from 1 (worst) to 5 (best), as 0 to 1"
    rows = list(csv.DictReader(io.StringIO(saved.read_text())))
    assert [float(row["mos"]) for row in rows] == pytest.approx([s.mos for s in samples])


def test_the_images_of_a_split(run, koniq, kadid, tmp_path):
    def images(dataset, root, split):
        saved = tmp_path / "s.csv"
        metric = ("--metric", "fake-nr.tiny", "--dataset", dataset, "--root", root)
        status, out, _ = run(*metric, "--split", split, "--save", saved, *JSON)
        found = [row["image"] for row in csv.DictReader(io.StringIO(saved.read_text()))]
        assert (status, json.loads(out)["n"], json.loads(out)["split"]) == (0, len(found), split)
        return found

    assert [int(name.split("/")[-1][:-4]) for name in images("koniq10k", koniq, "official")] == list(range(28, 40))
    assert len(images("koniq10k", koniq, "official:train")) == 20
    chosen = select(load_dataset("kadid10k", kadid), "random:3:train", mode="fr")
    assert images("kadid10k", kadid, "random:3:train") == [str(s.image) for s in chosen]


@pytest.mark.slow
def test_two_metrics_are_compared(run, kadid, tmp_path):
    saved = tmp_path / "scores.csv"
    both = ("--metric", "fake-nr.tiny", "--metric", "fake-fr.lite", *DATASET, "--root", kadid)
    status, out, err = run(*both, *JSON, "--save", saved)
    assert (status, len(err.splitlines())) == (0, 2)
    record = json.loads(out)
    assert [result["metric"] for result in record["results"]] == ["fake-nr.tiny", "fake-fr.lite"]
    alone = json.loads(run("--metric", "fake-fr.lite", *DATASET, "--root", kadid, *JSON)[1])
    assert record["results"][1].items() <= alone.items()
    rows = list(csv.DictReader(io.StringIO(saved.read_text())))
    by_metric = {name: [float(row["score"]) for row in rows if row["metric"] == name] for name in
                 ("fake-nr.tiny", "fake-fr.lite")}  # fmt: skip
    samples = load_dataset("kadid10k", kadid)
    pairs = compare_metrics(
        by_metric,
        [s.mos for s in samples],
        lower_is_better=["fake-fr.lite"],
        groups=[s.reference.name for s in samples],
    )
    assert record["comparison"] == [pytest.approx(pair.to_dict()) for pair in pairs]
    table = run(*both)[1]
    assert "p_bootstrap_holm" in table
    assert "plcc: raw scores" in table
    assert "groups: 6 by reference" in table


def test_the_table_of_one_metric_says_what_its_figures_are(run, kadid):
    out = run("--metric", "fake-nr.tiny", *DATASET, "--root", kadid, "--split", "random:0:train")[1]
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["split"] == "random:0:train"
    assert lines["plcc"].endswith("(raw scores)")
    assert lines["plcc_logistic5"].endswith("(after the five-parameter logistic (Sheikh et al. 2006))")


def test_a_bad_image_costs_its_row_only(run, kadid, tmp_path):
    table = tmp_path / "t.csv"
    good = "\n".join(f"{image},{n}" for n, image in enumerate(sorted((kadid / "images").glob("I0?_0?_01.png"))))
    (tmp_path / "broken.png").write_bytes(b"nothing")
    table.write_text(f"image,mos\n{good}\nbroken.png,3\n")
    saved = tmp_path / "scores.csv"
    both = ("--metric", "fake-nr.tiny", "--metric", "fake-nr.lite", "--csv", table, *JSON, "--save", saved)
    status, out, err = run(*both)
    record = json.loads(out)
    assert status == 1
    assert "broken.png" in err
    assert [(r["n"], r["failed"]) for r in record["results"]] == [(24, 1), (24, 1)]
    assert record["comparison"][0]["n"] == 24
    assert len(saved.read_text().splitlines()) == 1 + 2 * 25


def test_no_figures_but_the_scores_are_kept(run, tmp_path, kadid):
    images = sorted((kadid / "images").glob("I01_0?_01.png"))
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(b"nothing")
    rows = [f"{images[0]},1", f"{images[1]},2", "a.png,3", "b.png,4", "c.png,5"]
    (tmp_path / "t.csv").write_text("\n".join(["image,mos", *rows]))
    saved = tmp_path / "s.csv"
    one = ("--metric", "fake-nr.tiny", "--csv", tmp_path / "t.csv", "--save", saved)
    status, _, err = run(*one)
    assert status == 1
    assert err.splitlines()[-1] == "iqametrics: error: fake-nr.tiny: scores has 2 values; at least 3 images are needed"
    assert len(saved.read_text().splitlines()) == 6
    status, out, err = run(*one, "--metric", "fake-nr.lite", *JSON)
    assert status == 1
    assert "the metrics are not compared" in err
    assert [r["error"] for r in json.loads(out)["results"]] == ["scores has 2 values; at least 3 images are needed"] * 2


def test_opinions_that_are_all_equal_have_no_correlation(run, kadid, tmp_path):
    images = sorted((kadid / "images").glob("I0?_01_01.png"))
    (tmp_path / "t.csv").write_text("image,mos\n" + "\n".join(f"{image},3" for image in images))
    status, out, _ = run("--metric", "fake-nr.tiny", "--csv", tmp_path / "t.csv", *JSON)
    record = json.loads(out)
    assert (status, record["n"], record["srcc"], record["plcc_logistic"]) == (0, 6, None, None)
    assert record["logistic_converged"] is False


# ---- images that a checkpoint has seen


def checkpoint(tmp_path, **training):
    path = tmp_path / "mine.safetensors"
    more = {"sources": training.pop("sources", ["nowhere"])}
    save_checkpoint(
        path, fakes.seeded_model().state_dict(), fakes.metadata("fake-nr", tag="mine", training=training, **more)
    )
    return ("--metric", f"fake-nr={path}", "--format", "json")


@pytest.mark.parametrize(
    ("training", "split", "noted"),
    [
        ({"data": ["KADID-10k (2019)"]}, "all", True),
        ({"data": "kadid10k", "split": {"by": "auto", "seed": 3}}, "all", True),
        ({"data": "kadid10k", "split": {"by": "auto", "seed": 3}, "images": {"test": 4}}, "random:3:test", False),
        ({"data": "kadid10k", "split": {"by": "auto", "seed": 3}, "images": {"test": 4}}, "random:4:test", True),
        ({"data": "kadid10k", "split": {"by": "auto", "seed": 3}, "images": {"test": 4}}, "random:3:train", True),
        # The same seed, but nothing held out, or less than a fifth: it has seen these images.
        ({"data": "kadid10k", "split": {"by": "auto", "seed": 3}, "images": {"test": 0}}, "random:3:test", True),
        ({"data": "kadid10k", "split": {"by": "auto", "seed": 3}}, "random:3:test", True),
        ({"data": [], "sources": ["fine-tuned on kadid10k"]}, "all", True),
        ({"data": ["kadid10kish", "TID2013"]}, "all", False),
    ],
)
def test_a_checkpoint_that_has_seen_the_dataset_is_noted(run, kadid, tmp_path, training, split, noted):
    status, out, err = run(*checkpoint(tmp_path, **training), *DATASET, "--root", kadid, "--split", split)
    record = json.loads(out)
    assert (status, record["metric"]) == (0, "fake-nr.mine")
    assert ("made from" in err) is noted
    assert len(err.splitlines()) == noted + 2  # few references, and fewer images than the release


@pytest.mark.parametrize(
    ("training", "split", "noted"),
    [
        ({"data": "koniq10k", "split": {"by": "official", "seed": 0}, "images": {"test": 12}}, "official", False),
        ({"data": "koniq10k", "split": {"by": "official", "seed": 0}, "images": {"test": 12}}, "all", True),
        ({"data": "koniq10k", "split": {"by": "image", "seed": 0}, "images": {"test": 12}}, "official", True),
        ({"data": [], "sources": ["KonIQ-10k: a part of its training split"]}, "official:test", False),
        ({"data": [], "sources": ["KonIQ-10k: a part of its training split"]}, "official:train", True),
    ],
)
def test_official_parts_that_a_checkpoint_has_seen(run, koniq, tmp_path, training, split, noted):
    own = checkpoint(tmp_path, **training)
    status, _, err = run(*own, "--dataset", "koniq10k", "--root", koniq, "--split", split)
    assert status == 0
    assert ("made from" in err) is noted


def test_a_checkpoint_on_the_hub_is_asked_too(run, kadid, tmp_path, monkeypatch):
    path = checkpoint(tmp_path, data=["kadid10k"])[1].partition("=")[2]
    reference = f"hub:org/name@{40 * 'a'}"
    monkeypatch.setattr("iqametrics.weights.locate.cached_path", lambda file: Path(path))
    monkeypatch.setattr("iqametrics.cli.common.create_metric", lambda name, **_: create_metric("fake-nr", weights=path))
    status, _, err = run("--metric", f"fake-nr={reference}", *DATASET, "--root", kadid)
    assert status == 0
    assert "names 'kadid10k' among what it was made from" in err


# ---- what is said beside the figures


def test_a_part_of_a_release_is_not_passed_off_as_the_dataset(run, kadid):
    err = run("--metric", "fake-nr.tiny", *DATASET, "--root", kadid)[2]
    assert "lists 24 images, that of the release 10,125" in err
    assert "share only 6 references" in err


def test_no_spread_where_the_labels_were_made(run, kadid, tmp_path):
    shutil.copytree(kadid, tmp_path / "made")
    rows = (kadid / "dmos.csv").read_text().splitlines()
    (tmp_path / "made" / "dmos.csv").write_text(
        "\n".join([rows[0], *(row.rpartition(",")[0] + "," for row in rows[1:])]) + "\n"
    )
    (tmp_path / "made" / "MADE-LABELS.txt").write_text("made\n")
    own = ("--metric", "fake-nr.tiny", *DATASET, "--root", tmp_path / "made")
    _, out, err = run(*own, "--format", "json")
    record = json.loads(out)
    assert record["spread"] is record["outlier_ratio"] is None
    assert "nobody saw these images" in err
    assert "10,125" not in err
    assert "outlier_ratio" not in run(*own)[1]


def test_a_fit_that_did_not_converge_is_said(run, kadid, monkeypatch):
    monkeypatch.setattr("iqametrics.evaluation.logistic._MAX_EVALUATIONS", 1)
    err = run("--metric", "fake-nr.tiny", "--metric", "fake-fr.lite", *DATASET, "--root", kadid)[2]
    for name in ("fake-nr.tiny", "fake-fr.lite"):
        assert f"{name}: the fit of the curve of four parameters did not converge" in err
        assert f"{name}: the fit of the curve of five parameters did not converge" in err


def test_a_checkpoint_that_has_seen_the_csv_is_noted(run, kadid, tmp_path):
    images = sorted((kadid / "images").glob("I0?_01_01.png"))
    (tmp_path / "labels.csv").write_text("image,mos\n" + "\n".join(f"{i},{n}" for n, i in enumerate(images)))
    own = checkpoint(tmp_path, data=["labels.csv"])
    assert "names 'labels.csv'" in run(*own, "--csv", tmp_path / "labels.csv")[2]
    (tmp_path / "others.csv").write_text((tmp_path / "labels.csv").read_text())
    assert run(*own, "--csv", tmp_path / "others.csv")[2] == ""


# ---- what is refused


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--metric", "fake-nr.tiny"], 2, "one of the arguments --csv --dataset is required"),
        (["--metric", "fake-nr.tiny", *DATASET], 2, "needs --root"),
        (["--metric", "fake-nr.tiny", "--dataset", "kadid", "--root", "{kadid}"], 1, "did you mean kadid10k"),
        (["--metric", "fake-nr.tiny", *DATASET, "--root", "{kadid}", "--split", "test"], 1, "is not one; use all"),
        (["--metric", "fake-nr.tiny", *DATASET, "--root", "{kadid}", "--split", "official"], 1, "no split of its own"),
        (["--metric", "fake-fr.lite", "--dataset", "koniq10k", "--root", "{koniq}"], 1, "a no-reference metric"),
        (["--metric", "fake-nr", "--metric", "fake-nr.tiny", *DATASET, "--root", "{kadid}"], 2, "are fake-nr.tiny"),
        (["--metric", "fake-nr=", *DATASET, "--root", "{kadid}"], 2, "nothing after the equals sign"),
        (["--metric", "fake-nr=gone.safetensors", *DATASET, "--root", "{kadid}"], 1, "gone.safetensors"),
        (["--metric", "fake-nr.tiny", *DATASET, "--root", "{kadid}", "--save", "no/such/s.csv"], 2, "--save"),
    ],
)
def test_one_line_for_a_mistake(run, capsys, kadid, koniq, arguments, status, message):
    arguments = [text.format(kadid=kadid, koniq=koniq) for text in arguments]
    try:
        found, _, err = run(*arguments)
    except SystemExit as leaving:
        found, err = leaving.code, capsys.readouterr().err
    assert found == status
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_csv_with_the_same_spreads_has_the_datasets_outlier_ratio(run, kadid, tmp_path):
    rows = [row.split(",") for row in (kadid / "dmos.csv").read_text().splitlines()[1:]]
    lines = [f"images/{image},images/{reference},{mos},{std}" for image, reference, mos, std in rows]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["image,reference,mos,mos_std", *lines]) + "\n")
    metric = ("--metric", "fake-nr.tiny", "--format", "json")
    of_dataset = json.loads(run(*metric, *DATASET, "--root", kadid)[1])
    of_csv = json.loads(run(*metric, "--csv", path, "--root", kadid)[1])
    assert of_csv["outlier_ratio"] == of_dataset["outlier_ratio"] is not None
    assert of_csv["spread"] == "the CSV's column mos_std"
