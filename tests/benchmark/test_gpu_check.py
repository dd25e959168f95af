"""`benchmarks/gpu_check.py`, on the CPU: what it writes, and that it can fail."""

import json
from itertools import count

import gpu_check
import pytest
import torch
from places import ROOT

from iqametrics.errors import RecipeError

RESULTS = sorted((ROOT / "benchmarks" / "results").glob("gpu-check*.json"))
KINDS = {
    "scores": {"difference", "difference_tf32", "within"},
    "deterministic": {"same_bits", "warnings"},
    "processes": {"one", "two", "difference"},
    "steps": {"batch", "crop", "loss", "memory", "memory_unknown", "steps_per_second"},
}
CPU = torch.device("cpu")


def check_memory(device, step):
    """A figure of the device's own memory, or why there is none: never the memory of the process beside it."""
    if device == "cuda":
        assert step["memory"] > 0
        assert step["memory_unknown"] is None
    else:
        assert step["memory"] is None
        assert device in step["memory_unknown"]


def check_format(found):
    """What a result tells, wherever it was written."""
    assert {"passed", "device", "small", "seconds", "checks", "commit", "date", "packages", "hardware"} <= found.keys()
    assert found["device"].keys() == {"type", "name", "count", "bytes", "capability"}
    assert found["checks"].keys() == KINDS.keys()
    entries = [(kind, entry) for kind, named in found["checks"].items() for entry in named.values()]
    for kind, entry in entries:
        assert entry["state"] in gpu_check.STATES
        told = KINDS[kind] if entry["state"] == "done" else set() if entry["state"] == "no room" else {"reason"}
        assert told <= entry.keys() or "difference" in entry or "same_bits" in entry
        if kind == "steps" and entry["state"] == "done":
            check_memory(found["device"]["type"], entry)
    assert found["passed"] == all(entry["state"] != "failed" for _, entry in entries)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_stored_results_have_the_format(path):
    check_format(json.loads(path.read_text()))


@pytest.mark.slow
def test_on_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "processes", lambda device: {"state": "left out", "reason": "starts processes"})
    output = tmp_path / "new" / "check.json"
    given = ["--device", "cpu", "--small", "--recipes", "paper/bpclip-nr", "--output", str(output)]
    assert gpu_check.main(given) == 0
    found = json.loads(output.read_text())
    check_format(found)
    assert all(entry["difference"] == 0 for entry in found["checks"]["scores"].values())
    assert found["checks"]["deterministic"]["paper/bpclip-nr"]["same_bits"]
    steps = found["checks"]["steps"]
    assert list(steps) == [f"paper/bpclip-nr, {mode}" for mode in gpu_check.MODES]
    assert all(step["steps_per_second"] > 0 and step["memory"] is None for step in steps.values())
    assert {step["memory_unknown"] for step in steps.values()} == {"torch keeps no peak of the memory of cpu"}
    assert steps["paper/bpclip-nr, bfloat16"]["loss"] == pytest.approx(
        steps["paper/bpclip-nr, float32"]["loss"], rel=0.1
    )


def test_the_peak_of_memory_is_that_of_the_device(monkeypatch):
    """On a GPU what its allocator gave since the check began, on any other device nothing, with the reason."""
    asked = []

    class Taken:
        def __init__(self, *_, **__):
            pass

        def wait(self):
            pass

    monkeypatch.setattr(gpu_check, "begin", lambda recipe, device: (None, None))
    monkeypatch.setattr(gpu_check, "Steps", Taken)
    monkeypatch.setattr(gpu_check, "take", lambda *_: 0.5)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: asked.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: asked.append("read") or 7)
    (recipe,) = gpu_check.distinct(["paper/bpclip-nr"], small=True).values()
    for name in ("cpu", "mps", "cuda"):
        check_memory(name, gpu_check.training_step(recipe, "float32", torch.device(name)))
    assert asked == ["reset", "read"]


def test_a_score_that_differs_fails(monkeypatch):
    calls = count()

    class Drifts:
        mode = "nr"

        def to(self, device):
            return self

        def __call__(self, image):
            return torch.tensor(next(calls) * 1e-3)

    monkeypatch.setattr(gpu_check, "create_metric", lambda name, device: Drifts())
    assert gpu_check.scores("drifts", CPU)["state"] == "failed"


@pytest.mark.parametrize(
    ("error", "state"),
    [(torch.OutOfMemoryError(), "no room"), (RecipeError("no bfloat16"), "refused"), (ValueError("a\nb"), "failed")],
)
def test_what_goes_wrong_is_a_result(error, state):
    def job():
        raise error

    assert gpu_check.tried(job, CPU)["state"] == state


def test_after_the_time_all_is_left_out():
    found = gpu_check.check_all(CPU, {}, minutes=-1, small=True)
    check_format(found)
    assert {entry["state"] for named in found["checks"].values() for entry in named.values()} == {"left out"}


def test_a_device_that_is_not_there_is_one_line(capsys):
    missing = f"cuda:{torch.cuda.device_count()}"
    assert gpu_check.main(["--device", missing]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_recipes_of_one_step_are_taken_once():
    found = gpu_check.distinct(["paper/bpclip-fr", "paper/bpclip-fr/live", "paper/bpclip-fr/progressive"], small=False)
    assert list(found) == ["paper/bpclip-fr", "paper/bpclip-fr/progressive"]
