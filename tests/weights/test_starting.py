"""Starting weights by name: pinned by the package, by the user, or not yet."""

import dataclasses
import hashlib
import importlib.util
import json
import logging
import warnings
from pathlib import Path

import pytest
import torch
from hub_server import HubServer
from safetensors.torch import save_file

from iqametrics import WeightsError
from iqametrics.nn.upstream import load_deit3
from iqametrics.nn.vit import DEIT3_SMALL, VisionTransformer
from iqametrics.weights import starting
from iqametrics.weights.manifest import WEIGHTS_FOLDER, is_repo, is_revision, is_sha256
from iqametrics.weights.starting import (
    UnpinnedWarning,
    hub_file,
    list_starting,
    pin_path,
    pin_starting,
    read_pin,
    starting_entry,
    starting_file,
)

OLD, NEW = b"old bytes" * 100, b"new bytes" * 100


@pytest.fixture
def server(tmp_path):
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    with HubServer() as hub, hub.client(tmp_path / "home"):
        yield hub


@pytest.fixture
def table(tmp_path, monkeypatch, server):
    """A table of three: pinned, with a commit only, and with nothing."""
    revision = server.add("org/start", {"model.safetensors": OLD})
    common = {"kind": "resnet50", "repo": "org/start", "file": "model.safetensors", "bytes": None, "licence": "mit"}
    digest = hashlib.sha256(OLD).hexdigest()
    entries = [
        {"name": "pinned", "revision": revision, "sha256": digest, **common},
        {"name": "commit_only", "revision": revision, "sha256": None, **common},
        {"name": "nothing", "revision": None, "sha256": None, **common},
    ]
    path = tmp_path / "starting.json"
    path.write_text(json.dumps({"format": 1, "starting": entries}))
    monkeypatch.setattr(starting, "TABLE", path)
    yield path
    starting._read_table.cache_clear()


class TestTable:
    def test_the_packages_own(self):
        assert list_starting() == [
            "clip_rn50_openai",
            "clip_vit_b16_openai",
            "deit3_small_fb_in22k_ft_in1k",
            "resnet50_tv_in1k",
        ]
        for name in list_starting():
            entry = starting_entry(name)
            assert is_repo(entry.repo)
            assert entry.revision is None or is_revision(entry.revision)
            assert entry.sha256 is None or is_sha256(entry.sha256)
            assert entry.licence

    @pytest.mark.parametrize(
        ("name", "package", "module", "text"),
        [
            ("resnet50_tv_in1k", "timm", "models/resnet.py", "'resnet50.tv_in1k': _cfg("),
            ("deit3_small_fb_in22k_ft_in1k", "timm", "models/deit.py", "'deit3_small_patch16_224.fb_in22k_ft_in1k': _"),
            ("clip_rn50_openai", "open_clip", "pretrained.py", 'hf_hub="timm/resnet50_clip.openai/"'),
            ("clip_vit_b16_openai", "open_clip", "pretrained.py", 'hf_hub="timm/vit_base_patch16_clip_224.openai/"'),
        ],
    )
    def test_the_names_are_those_of_timm_and_open_clip(self, name, package, module, text):
        """Their own tables name the repositories; read as text, since to import them takes seconds."""
        folder = Path(importlib.util.find_spec(package).submodule_search_locations[0])
        source = (folder / module).read_text()
        assert text in source
        entry = starting_entry(name)
        repo = text.split('"')[1].rstrip("/") if package == "open_clip" else "timm/" + text.split("'")[1]
        assert entry.repo == repo
        if package == "open_clip":
            assert f'HF_SAFE_WEIGHTS_NAME = "{entry.file}"' in (folder / "constants.py").read_text()
        else:
            assert "hf_hub_id='timm/'" in source[source.index(text) :][:120]

    def test_unknown(self):
        with pytest.raises(WeightsError, match="unknown starting weight 'resnet'; known: clip_rn50_openai"):
            starting_file("resnet")

    @pytest.mark.parametrize(
        "changes",
        [
            {"kind": "vgg"},
            {"repo": "org"},
            {"file": "../x.safetensors"},
            {"file": "x.pth"},
            {"revision": "main"},
            {"sha256": "00"},
            {"bytes": True},
            {"licence": None},
            {"name": "../x"},
            {"surprise": 1},
        ],
    )
    def test_wrong_entries(self, table, changes):
        content = json.loads(table.read_text())
        content["starting"][0] |= changes
        table.write_text(json.dumps(content))
        with pytest.raises(WeightsError, match="is not a readable table"):
            list_starting()

    @pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 1, "starting": [1]}'])
    def test_damaged(self, table, text):
        table.write_text(text)
        with pytest.raises(WeightsError, match="is not a readable table"):
            list_starting()

    def test_twice(self, table):
        content = json.loads(table.read_text())
        content["starting"][1]["name"] = "pinned"
        table.write_text(json.dumps(content))
        with pytest.raises(WeightsError, match="twice"):
            list_starting()


class TestFetching:
    def test_pinned_is_silent_and_records_nothing(self, table):
        assert starting_file("pinned").read_bytes() == OLD
        assert not pin_path("pinned").exists()

    def test_pinned_refuses_another_file(self, table, server):
        content = json.loads(table.read_text())
        content["starting"][0]["sha256"] = "0" * 64
        table.write_text(json.dumps(content))
        with pytest.raises(WeightsError, match="offers another file"):
            starting_file("pinned")

    @pytest.mark.parametrize("name", ["commit_only", "nothing"])
    def test_unpinned_warns_once_and_records(self, table, name):
        with pytest.warns(UnpinnedWarning, match=rf"{name}: is not pinned, .*recorded in .*`iqametrics weights pin"):
            path = starting_file(name)
        assert path.read_bytes() == OLD
        pin = json.loads(pin_path(name).read_text())
        assert pin["sha256"] == hashlib.sha256(OLD).hexdigest()
        assert is_revision(pin["revision"])
        assert (pin["repo"], pin["bytes"], pin["trusted"]) == ("org/start", len(OLD), False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert starting_file(name) == path

    def test_what_was_recorded_stays_though_the_branch_moves(self, table, server):
        with pytest.warns(UnpinnedWarning):
            path = starting_file("nothing")
        server.add("org/start", {"model.safetensors": NEW})
        assert starting_file("nothing", force=True) == path
        assert path.read_bytes() == OLD

    def test_other_bytes_for_the_same_name_are_refused(self, table, server):
        with pytest.warns(UnpinnedWarning):
            path = starting_file("commit_only")
        server.repos["org/start"].commits[0][1]["model.safetensors"] = NEW  # a Hub that lies about its commits
        server.blobs[hashlib.sha256(NEW).hexdigest()] = NEW
        with pytest.raises(WeightsError, match="offers another file"):
            starting_file("commit_only", force=True)
        assert path.read_bytes() == OLD

    def test_a_record_that_cannot_be_written(self, table, tmp_path):
        (tmp_path / "home").mkdir(exist_ok=True)
        (tmp_path / "home" / "iqametrics").write_text("a file in the way")
        with pytest.warns(UnpinnedWarning, match=r"not recorded, since .* cannot be written"):
            assert starting_file("nothing").read_bytes() == OLD
        with pytest.raises(WeightsError, match="the pin was not recorded"):
            pin_starting("nothing")

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": "nothing"}'])
    def test_a_damaged_record(self, table, text):
        pin_path("nothing").parent.mkdir(parents=True)
        pin_path("nothing").write_text(text)
        with pytest.raises(WeightsError, match=r"is not a readable pin .*remove it and fetch nothing again"):
            starting_file("nothing")


class TestPinning:
    def test_by_the_user(self, table):
        pin = pin_starting("nothing")
        assert pin.trusted
        assert read_pin("nothing") == pin
        assert hub_file(starting_entry("nothing")).sha256 == hashlib.sha256(OLD).hexdigest()
        assert starting_file("nothing").read_bytes() == OLD  # no warning: warnings are errors here

    def test_by_the_package(self, table):
        entry = pin_starting("nothing", write_package=True)
        assert entry.is_pinned
        assert json.loads(table.read_text())["starting"][2]["sha256"] == hashlib.sha256(OLD).hexdigest()
        assert not pin_path("nothing").exists()
        assert pin_starting("pinned") == starting_entry("pinned")

    def test_a_new_commit_of_the_package_goes_before_the_users_record(self, table, server):
        with pytest.warns(UnpinnedWarning):
            starting_file("commit_only")
        newer = server.add("org/start", {"model.safetensors": NEW})
        content = json.loads(table.read_text())
        content["starting"][1]["revision"] = newer
        table.write_text(json.dumps(content))
        starting._read_table.cache_clear()
        with pytest.warns(UnpinnedWarning):
            assert starting_file("commit_only").read_bytes() == NEW


def test_a_starting_weight_fills_its_module(table, server, tmp_path):
    """The way of a starting weight, end to end: a file with timm's names, the Hub, the module."""
    small = dataclasses.replace(DEIT3_SMALL, width=24, depth=1, heads=2, image_size=32)
    original, module = VisionTransformer(small), VisionTransformer(small)
    save_file({**original.state_dict(), "head.weight": torch.zeros(2, 24)}, tmp_path / "deit.safetensors")
    server.add("org/start", {"model.safetensors": (tmp_path / "deit.safetensors").read_bytes()})
    with pytest.warns(UnpinnedWarning):
        load_deit3(module, starting_file("nothing"))
    assert all(torch.equal(value, original.state_dict()[name]) for name, value in module.state_dict().items())


def test_the_table_is_in_the_package():
    assert starting.TABLE == WEIGHTS_FOLDER / "starting.json"
