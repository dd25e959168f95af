"""Entries for the Hub's leaderboards: read back by the Hub's own client, and never of another checkpoint."""

import json
import shutil
import sys
from types import ModuleType

import huggingface_hub
import numpy as np
import pytest
import yaml
from fakes import metadata, seeded_model
from hub_server import TOKEN, HubServer
from PIL import Image

from iqametrics import WeightsError
from iqametrics.cli.main import main
from iqametrics.publishing.eval_results import eval_results
from iqametrics.publishing.upload import publish_checkpoint
from iqametrics.weights.checkpoint import save_checkpoint

pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    pytest.mark.skipif(not hasattr(huggingface_hub, "EvalResultEntry"), reason="this huggingface_hub has no entries"),
]

BENCHMARK = "org/koniq:srcc"


@pytest.fixture
def file(tmp_path, fake_metrics):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, seeded_model(seed=5).state_dict(), metadata("fake-nr", tag="mine"))
    return path


@pytest.fixture
def record(file, tmp_path, capsys):
    """What `evaluate` says of the checkpoint on five pictures; its path."""
    generator = np.random.default_rng(0)
    lines = ["image,mos"]
    for number in range(5):
        Image.fromarray(generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{number}")
    (tmp_path / "mos.csv").write_text("\n".join(lines), encoding="utf-8")
    csv = str(tmp_path / "mos.csv")
    assert main(["evaluate", "--metric", f"fake-nr={file}", "--csv", csv, "--format", "json"]) == 0
    path = tmp_path / "record.json"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    return path


def fingerprint(record):
    (text,) = json.loads(record.read_text(encoding="utf-8"))["fingerprints"].values()
    return text


@pytest.mark.slow
def test_the_entry_goes_into_the_same_commit(file, record, tmp_path, monkeypatch):
    with HubServer() as server, server.client(tmp_path / "home"):
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        publish_checkpoint(file, "org/mine", evaluated=[f"{record}={BENCHMARK}"])
        ((_, files),) = server.repos["org/mine"].commits
    (entry,) = huggingface_hub.parse_eval_result_entries(yaml.safe_load(files[".eval_results/org-koniq-srcc.yaml"]))
    measured = json.loads(record.read_text(encoding="utf-8"))
    assert (entry.dataset_id, entry.task_id) == ("org/koniq", "srcc")
    assert entry.value == round(measured["srcc"], 4)
    assert entry.notes == f"SRCC, mos.csv, all, n = 5; {fingerprint(record)}"


def test_a_dry_run_shows_it(file, record, capsys):
    arguments = ["weights", "publish", str(file), "--repo", "org/mine", "--dry-run"]
    assert main([*arguments, "--evaluated", f"{record}={BENCHMARK}"]) == 0
    assert ".eval_results/org-koniq-srcc.yaml:\n- dataset:\n" in capsys.readouterr().out


def test_a_benchmark_job(file, tmp_path):
    """As `benchmark run` leaves it: result.json beside the folder of the training."""
    (tmp_path / "job" / "training").mkdir(parents=True)
    shutil.copy(file, tmp_path / "job" / "training" / "checkpoint.safetensors")
    result = tmp_path / "job" / "result.json"
    figures = {"koniq10k": {"n": 2000, "srcc": 0.91237}}
    told = {"figures": figures, "job": {"split": 3}, "date": "2026-11-29T10:00:00+00:00"}
    result.write_text(json.dumps(told), encoding="utf-8")
    name, text = eval_results(f"{result}={BENCHMARK}", file, "any")
    (entry,) = huggingface_hub.parse_eval_result_entries(yaml.safe_load(text))
    assert name == ".eval_results/org-koniq-srcc.yaml"
    assert (entry.value, entry.notes) == (0.9124, "SRCC, koniq10k, split 3, n = 2000")
    assert str(entry.date) == "2026-11-29"
    save_checkpoint(file, seeded_model(seed=6).state_dict(), metadata("fake-nr", tag="mine"))
    with pytest.raises(WeightsError, match="of another checkpoint"):
        eval_results(f"{result}={BENCHMARK}", file, "any")


def test_a_record_of_another_checkpoint_is_refused(file, record):
    with pytest.raises(WeightsError, match=r"was measured with fake-nr\.mine:.*evaluate it anew"):
        eval_results(f"{record}={BENCHMARK}", file, "fake-nr.mine:0.1.0:000000000000")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no JSON"),
        ("[]", "has no figures of one metric"),
        ('{"figures": {}, "job": {"split": null}}', "is of another checkpoint"),
        ('{"fingerprints": {"a": "F"}, "split": "all", "srcc": "x", "n": 3}', "has no figures of one metric"),
        ('{"fingerprints": {"a": "F"}, "split": "all"}', "has no figures of one metric"),
    ],
)
def test_what_is_no_record(file, tmp_path, text, told):
    path = tmp_path / "record.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WeightsError, match=told):
        eval_results(f"{path}={BENCHMARK}", file, "F")


@pytest.mark.parametrize("target", ["", "org/koniq", "koniq:srcc", "org/koniq:", "org/ko niq:srcc"])
def test_what_names_no_benchmark(file, record, target):
    with pytest.raises(WeightsError, match=r"write RECORD\.json=ORG/DATASET:TASK"):
        eval_results(f"{record}={target}", file, "F")


def test_an_old_client_is_told(file, record, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", ModuleType("huggingface_hub"))
    with pytest.raises(WeightsError, match="pip install -U huggingface_hub"):
        eval_results(f"{record}={BENCHMARK}", file, "F")
