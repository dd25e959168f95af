"""`iqametrics info`: what a person wants first, in few lines, and each of its figures where a reader finds it."""

import json
import re
from pathlib import Path

import pytest
from fakes import metadata, seeded_model

from iqametrics import create_metric
from iqametrics.cli.main import main
from iqametrics.registry import metric_info
from iqametrics.weights import facts
from iqametrics.weights.checkpoint import save_checkpoint
from iqametrics.weights.manifest import WEIGHTS_FOLDER, read_manifest

ROOT = Path(__file__).parents[2]
LITE = ("bpclip-fr", "bpclip-nr", "pfd-iqa")


@pytest.fixture
def info(capsys):
    def call(*words):
        assert main(["info", *words]) == 0
        return capsys.readouterr().out

    return call


@pytest.mark.parametrize("tag", ["lite", "lite2"])
@pytest.mark.parametrize("name", LITE)
def test_the_first_lines_answer_what_a_person_asks(info, name, tag):
    name = f"{name}.{tag}"
    text = info(name)
    labels = [line.split()[0] for line in text.splitlines() if line[0] not in " ("]
    assert labels[:5] == [name, "judges", "score", "good", "agrees"]
    assert {"elsewhere", "blind", "size", "speed", "licence"} <= set(labels)
    assert "training.settings" not in text
    assert len(text.splitlines()) <= 24
    assert max(map(len, text.splitlines())) <= 118
    figures = metric_info(name).metadata["results"]["validation"]
    words = " ".join(text.split())
    assert f"SRCC {figures['srcc']:.3f} (95% interval {figures['srcc_low']:.3f} to {figures['srcc_high']:.3f})" in words
    assert f"n = {figures['n']}" in words


def test_settings_come_after_all(info):
    whole = info("bpclip-nr", "--all")
    assert whole.startswith(info("bpclip-nr").rpartition("(")[0])
    for fact in ("training.settings.lr", "sha256", "results.validation.krcc", "https://arxiv.org/abs/2506.17969"):
        assert fact in whole


@pytest.mark.parametrize("name", LITE)
def test_json_has_every_field_and_the_facts_with_their_sources(info, name):
    name = f"{name}.lite"
    told = json.loads(info(name, "--format", "json"))
    assert told == json.loads(json.dumps(metric_info(name).to_dict()))
    for kind in ("good", "outside", "blind", "speed"):
        assert told["facts"][kind]
        assert all(fact["text"] and fact["source"] for fact in told["facts"][kind])
    outside = told["facts"]["outside"][0]
    assert "commit 82e4cba" in outside["source"]
    assert "not in the repository" in outside["source"]


def test_figures_of_facts_are_those_of_the_stored_results():
    cost = {found["metric"]: found for found in json.loads((ROOT / "benchmarks/results/cost.json").read_text())["rows"]}
    seconds = json.loads((ROOT / "benchmarks/results/lite-cost.json").read_text())["seconds"]
    of_one = {
        "bpclip-fr": [
            seconds["25 versions of one reference, as pairs"] / 25,
            seconds["25 versions of one reference, features held"] / 25,
        ],
        "bpclip-nr": [seconds["warm score of 100 photographs, bpclip-nr"] / 100],
        "pfd-iqa": [seconds["warm score of 100 photographs, pfd-iqa"] / 100],
    }
    for name in LITE:
        known = metric_info(f"{name}.lite").facts
        assert known.parameters == cost[f"{name}.lite"]["parameters"]
        assert re.findall(r"[\d.]+", known.speed[0].text) == [f"{value:.2f}" for value in of_one[name]]


def test_facts_are_of_checkpoints_that_are_there():
    entries = {entry.sha256: entry.full_name for entry in read_manifest().checkpoints}
    for known in facts._read(WEIGHTS_FOLDER).values():
        assert entries[known.sha256] == known.checkpoint, "measured on a file that is not shipped any more"


def test_a_file_of_ones_own_is_not_said_to_have_been_measured(fake_metrics, tmp_path, info):
    record = metadata(
        "fake-nr",
        training={"data": ["my.csv"], "labels": "made"},
        results={"test": {"n": 40, "srcc": 0.5, "srcc_low": 0.25, "srcc_high": 0.75, "plcc": 0.625}},
    )
    save_checkpoint(tmp_path / "mine.safetensors", seeded_model().state_dict(), record)
    text = " ".join(info(f"fake-nr={tmp_path / 'mine.safetensors'}").split())
    assert "SRCC 0.500 (95% interval 0.250 to 0.750), PLCC 0.625, n = 40: test part, my.csv, made labels" in text
    assert "blind to not measured" in text


@pytest.mark.parametrize("results", [{}, {"test": 3}, {"test": {"srcc": "high", "n": [1]}}, {"srcc": 0.5}])
def test_whatever_a_record_says_there_is_an_answer(fake_metrics, tmp_path, info, results):
    save_checkpoint(
        tmp_path / "x.safetensors", seeded_model().state_dict(), metadata("fake-nr", results=results, backbone=None)
    )
    assert "agrees" in info(f"fake-nr={tmp_path / 'x.safetensors'}")


def test_a_damaged_file_of_facts_is_told(tmp_path, monkeypatch):
    (tmp_path / "facts.json").write_text('{"sources": {}, "checkpoints": [{"good": [{"text": "x", "source": "?"}]}]}')
    with pytest.raises(facts.WeightsError, match="facts"):
        facts.find_facts("0" * 64, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("tag", ["lite", "lite2"])
def test_the_pictures_of_the_readme_score_what_it_says(tag):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"\(docs/example/(score-[\d.]+\.jpg)\)", text)
    row = rf"^\| `bpclip-nr\.{tag}` ([\d.]+), `pfd-iqa\.{tag}` ([\d.]+) \| (.*) \|$"
    first, *rest = re.findall(row, text, re.MULTILINE)[0]
    told = [(first, rest[0]), *(tuple(cell.split(", ")) for cell in rest[1].split(" | "))]
    assert len(pictures) == len(told) == 3
    for number, name in enumerate(("bpclip-nr", "pfd-iqa")):
        metric = create_metric(f"{name}.{tag}")
        scores = metric([ROOT / "docs/example" / picture for picture in pictures]).tolist()
        assert scores == pytest.approx([float(pair[number]) for pair in told], abs=0.006)
