"""The tool that puts checkpoints into the package."""

import functools
import json

import pytest
import torch
from tools import load_tool

from iqametrics.weights.checkpoint import load_checkpoint, save_checkpoint
from iqametrics.weights.manifest import read_manifest


@pytest.fixture
def tool(monkeypatch, tmp_path):
    module = load_tool("weights/bundle.py")
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1, "checkpoints": [], "bases": []}))
    monkeypatch.setattr(module, "WEIGHTS_FOLDER", tmp_path)
    monkeypatch.setattr(module, "MANIFEST", tmp_path / "manifest.json")

    @functools.cache
    def read():
        read_manifest.cache_clear()
        return read_manifest(tmp_path)

    monkeypatch.setattr(module, "read_manifest", read)
    return module


def bundle(tool, monkeypatch, folder, metric, value):
    """Bundle a run of a metric whose backbone is one number."""
    (folder / metric).mkdir(exist_ok=True)
    tensors = {"backbone.weight": torch.full((2,), value), "out.weight": torch.ones(1)}
    metadata = {"metric": metric, "tag": "a-run", "config": {}, "sizing": {}, "backbone": None}
    record = {"training": {}, "licence": "free", "results": {}, "sources": []}
    save_checkpoint(folder / metric / "checkpoint.safetensors", tensors, metadata | record)
    monkeypatch.setattr("sys.argv", ["bundle.py", str(folder / metric), "--backbone", "shared"])
    tool.main()


def test_a_base_that_another_checkpoint_needs_is_not_overwritten(tool, monkeypatch, tmp_path):
    bundle(tool, monkeypatch, tmp_path, "one", 1.0)
    bundle(tool, monkeypatch, tmp_path, "one", 2.0)  # its own it may renew
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.*")}
    with pytest.raises(SystemExit, match=r"--backbone shared: one\.lite\.safetensors refers to this base file"):
        bundle(tool, monkeypatch, tmp_path, "two", 3.0)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.*")} == before
    tensors = load_checkpoint(tmp_path / "one.lite.safetensors", folder=tmp_path)[1]
    assert tensors["backbone.weight"].tolist() == [2.0, 2.0]
