"""Model cards: only what the record holds, and valid for the Hub."""

import json
import re

import pytest
import yaml
from fakes import metadata
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT
from tools import load_tool

from iqametrics import create_metric
from iqametrics.publishing.card import card, hub_licence
from iqametrics.weights.manifest import WEIGHTS_FOLDER, read_manifest
from iqametrics.weights.untrusted import read_metadata

FULL = {
    "data": ["scores.csv"],
    "images": {"train": 700, "validation": 100, "test": 211},
    "split": {"by": "reference", "seed": 3},
    "selection": "best-test",
    "epoch": 12,
    "settings": {"lr": 0.001, "epochs": 30},
    "commit": "a" * 40,
    "changed_since_commit": True,
    "hardware": {"machine": "x86_64", "system": "Linux", "cpus": 16, "torch_threads": 8, "gpu": "NVIDIA A100"},
    "date": "2026-11-22T01:11:42+00:00",
    "resumed": [{"commit": None}],
}
RESULTS = {
    "test": {"n": 211, "srcc": 0.81234, "plcc": 0.8, "plcc_logistic": None, "krcc": 0.61, "rmse": 0.09}
    | {"srcc_low": 0.75, "srcc_high": 0.86}
}


def text(labels=None, repo=None, **changes):
    return card(
        {"format": 1, **metadata("fake-nr", **changes)}, sha256="0" * 64, elements=117, labels=labels, repo=repo
    )


def numbers(words):
    return {float(number) for number in re.findall(r"\d+(?:\.\d+)?", words)}


def of_record(value):
    """Every number in a record, also those in its texts, as it is and at three decimals."""
    if isinstance(value, dict):
        return set().union(*(of_record(key) | of_record(part) for key, part in value.items()))
    if isinstance(value, list):
        return set().union(*map(of_record, value), set())
    if isinstance(value, str):
        return numbers(value)
    return set() if value is None or isinstance(value, bool) else {float(value), round(float(value), 3)}


class TestWhatItSays:
    def test_everything_of_a_full_record(self):
        found = text(labels="human", repo="org/name", training=FULL, results=RESULTS)
        for words in (
            'create_metric("fake-nr", weights="hub:org/name@REVISION")',
            "| test | 211 | 0.812 (0.750 to 0.860) | 0.800 | - | 0.610 | 0.090 |",
            "- Images and scores: scores.csv\n",
            "700 train, 100 validation, 211 test; split by reference, seed 3",
            "Epoch 12; rule of choice: the one with the best SRCC on the test part, so the test figures are too good",
            "NVIDIA A100, 2026-11-22, resumed 1 times",
            "a" * 40 + " with changes that are in no commit",
            "lr 0.001, epochs 30",
            "Agreement with human opinion scores",
            "- nowhere",
            "The model has 117 values",
        ):
            assert words in found
        assert "no test part" not in found

    def test_what_is_missing_is_not_stated(self):
        found = text(training={}, results={}, sources=[], licence="")
        for words in (
            "- Images and scores: not stated\n- Sources: not stated\n",
            "Images: not stated; split by not stated.",
            "None were measured on held-out images.",
            "Epoch not stated; rule of choice: not stated.",
            "Trained on hardware not stated, not stated; commit of iqametrics: not stated.",
            "## Licence\n\nnot stated.",
        ):
            assert words in found

    @pytest.mark.parametrize(
        ("labels", "words", "not_words"),
        [
            ("made", "This is not agreement with human scores of these images", "Agreement with human"),
            ("human", "Agreement with human opinion scores", "made"),
            (None, "whether these are human opinion is not stated", "Agreement with human"),
        ],
    )
    def test_labels(self, labels, words, not_words):
        found = text(labels=labels, results=RESULTS)
        assert words in found
        assert not_words not in found

    def test_lite_is_called_lite(self):
        assert "This is a lite checkpoint" in text(tag="lite")
        assert "lite checkpoint" not in text(tag="paper")

    def test_a_full_reference_metric_is_shown_with_its_reference(self):
        record = {"format": 1, **metadata("fake-fr")}
        found = card(record, sha256="0" * 64, elements=1, repo="org/name")
        assert 'metric("photo.jpg", "original.jpg")' in found
        assert "--ref original.jpg" in card(record, sha256="0" * 64, elements=1)

    @settings(max_examples=40, deadline=None)
    @given(
        st.integers(0, 10**6),
        st.dictionaries(
            st.sampled_from(["srcc", "plcc", "plcc_logistic", "krcc", "rmse", "srcc_low", "srcc_high"]),
            st.none() | st.floats(-1, 1),
        ),
    )
    def test_no_number_that_is_not_in_the_record(self, n, values):
        record = {"format": 1, **metadata("fake-nr", training=FULL, results={"test": {"n": n, **values}})}
        found = numbers(card(record, sha256="", elements=117, labels="human"))
        known = {abs(number) for number in of_record(record)} | {117.0, 40.0, 95.0, 0.0, 1.0, 256.0}
        assert all(min(abs(number - other) for other in known) < 1e-9 for number in found)


class TestFrontMatter:
    @pytest.mark.parametrize(
        ("licence", "name"),
        [
            ("Apache-2.0", "apache-2.0"),
            (" mit ", "mit"),
            ("CC0", "cc0-1.0"),
            ("research use; see the terms", None),
            ("", None),
        ],
    )
    def test_licence(self, licence, name):
        assert hub_licence(licence) == name
        front = yaml.safe_load(text(licence=licence).split("---\n")[1])
        assert front["license"] == (name or "other")
        assert ("license_name" in front) == (name is None)

    @pytest.mark.parametrize("tag", ["lite", 'a"b', "a: b", "- x", "{", "'", "#", "\\", "null", "ü"])
    def test_the_hubs_client_reads_it(self, tag):
        data = ModelCard(text(tag=tag)).data.to_dict()
        assert data["library_name"] == "iqametrics"
        assert data["tags"] == ["image-quality-assessment", "no-reference", "fake-nr", tag]
        assert data["pipeline_tag"] == "other"

    def test_a_hostile_record_cannot_write_its_own_markup(self):
        found = text(licence="x\n---\n# Mine\n<script>", sources=["a\n\n## Held-out results\n| 1 | 2 |"])
        assert found.count("\n## Held-out results\n") == 1
        assert found.count("\n---\n") == 1
        assert "<script>" not in found


class TestBundled:
    @pytest.mark.parametrize("entry", read_manifest().checkpoints, ids=lambda entry: entry.full_name)
    def test_the_cards_in_the_repository_are_what_the_writer_writes(self, entry):
        stored = ROOT / "weights" / "cards" / f"{entry.full_name}.md"
        assert stored.read_text(encoding="utf-8") == load_tool("weights/make_cards.py").bundled_card(entry)

    @pytest.mark.parametrize("entry", read_manifest().checkpoints, ids=lambda entry: entry.full_name)
    def test_the_count_is_that_of_the_model(self, entry):
        model = create_metric(entry.full_name).model
        values = sum(tensor.numel() for tensor in model.state_dict().values())
        assert f"The model has {values} values" in load_tool("weights/make_cards.py").bundled_card(entry)

    def test_figures_are_those_of_the_record(self):
        record = read_metadata(WEIGHTS_FOLDER / "bpclip-nr.lite.safetensors")["results"]["validation"]
        stored = (ROOT / "weights" / "cards" / "bpclip-nr.lite.md").read_text(encoding="utf-8")
        assert f"| {record['n']} | {record['srcc']:.3f} (" in stored
        assert json.dumps(round(record["krcc"], 3)) in stored
