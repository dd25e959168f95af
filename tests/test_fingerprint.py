"""Fingerprints: equal where scores may be compared, different where weights, sizes, versions or dtypes differ."""

import hashlib
import json
from dataclasses import replace

import pytest
from fakes import metadata, seeded_model

from iqametrics import create_metric, metric_info
from iqametrics.cli.main import main
from iqametrics.fingerprint import make_fingerprint
from iqametrics.weights.checkpoint import read_metadata, save_checkpoint
from iqametrics.weights.manifest import WEIGHTS_FOLDER

LITE = ("bpclip-fr.lite", "bpclip-nr.lite", "pfd-iqa.lite")


def one(**changes):
    values = {"tag": "lite", "weights": "ab" * 32, "preprocessing": {"min_side": 384, "max_side": 768}}
    return make_fingerprint("pfd-iqa", **{**values, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"tag": "other"},
        {"weights": "cd" * 32},
        {"weights": None},
        {"preprocessing": {"min_side": 385, "max_side": 768}},
        {"dtype": "bfloat16"},
    ],
)
def test_whatever_changes_scores_changes_the_text(changes):
    assert str(one()) == str(one())
    assert str(one(**changes)) != str(one())


def test_the_version_and_the_digest_of_the_record_are_in_the_text():
    made = one()
    name, version, digits = str(made).split(":")
    assert (name, version) == ("pfd-iqa.lite", made.version)
    record = {key: value for key, value in made.to_dict().items() if key != "fingerprint"}
    assert hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest().startswith(digits)
    assert str(replace(made, version="0.0.1")) != str(made)


@pytest.mark.parametrize("name", LITE)
def test_it_is_known_without_loading_and_names_the_file(name):
    info = metric_info(name)
    made = create_metric(name).fingerprint
    assert made == info.fingerprint
    file = (WEIGHTS_FOLDER / info.checkpoint.file).read_bytes()
    assert made.weights == hashlib.sha256(file).hexdigest()


def test_a_file_of_the_users_has_its_own(tmp_path):
    source = WEIGHTS_FOLDER / metric_info("bpclip-nr.lite").checkpoint.file
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes(source.read_bytes())
    assert create_metric(f"bpclip-nr={copy}").fingerprint == create_metric("bpclip-nr.lite").fingerprint
    assert create_metric("bpclip-nr", weights=None).fingerprint.weights is None
    assert create_metric("bpclip-nr.lite", dtype="bfloat16").fingerprint.dtype == "bfloat16"


def test_a_checkpoint_carries_one_of_its_tensors(tmp_path):
    from fakes import metadata, seeded_model

    state = seeded_model().state_dict()
    texts = []
    for number in range(2):
        path = tmp_path / f"{number}.safetensors"
        save_checkpoint(path, state, metadata("fake-nr"))
        texts.append(read_metadata(path)["fingerprint"]["fingerprint"])
    assert texts[0] == texts[1]
    first = next(iter(state))
    save_checkpoint(path, {**state, first: state[first] + 1}, metadata("fake-nr"))
    assert read_metadata(path)["fingerprint"]["fingerprint"] != texts[0]


def test_a_checkpoint_of_ones_own_is_cited_too(tmp_path, fake_metrics, capsys):
    save_checkpoint(tmp_path / "x.safetensors", seeded_model().state_dict(), metadata("fake-nr", tag="mine"))
    assert main(["info", f"fake-nr={tmp_path / 'x.safetensors'}", "--cite"]) == 0
    assert "Scores were computed with fake-nr.mine" in capsys.readouterr().out


def test_cite_gives_a_line_and_an_entry(capsys):
    assert main(["info", "--cite", "pfd-iqa.lite"]) == 0
    line, _, *entry = capsys.readouterr().out.splitlines()
    info = metric_info("pfd-iqa.lite")
    for part in ("pfd-iqa.lite", "li2025pfdiqa", info.checkpoint.sha256[:12], str(info.fingerprint), "448 px"):
        assert part in line
    assert entry[0] == "@inproceedings{li2025pfdiqa,"
    assert "\n".join(entry).count("{") == "\n".join(entry).count("}")
    assert main(["info", "--cite", "piq/fsim"]) == 0
    assert "@misc{piq-fsim," in capsys.readouterr().out
