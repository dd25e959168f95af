"""Conversion of upstream files: the libraries themselves write the files and are the oracles."""

import os
from dataclasses import replace
from functools import partial

import open_clip
import pytest
import timm
import torch
from nn_random import randomise
from safetensors.torch import load_file, save_file
from tools import load_tool

from iqametrics.cli.weights_publish import KINDS as CLI_KINDS
from iqametrics.errors import WeightsError
from iqametrics.nn.clip_text import ClipTextTower
from iqametrics.nn.resnet import ResNet50
from iqametrics.nn.vit import CLIP_VIT_B16, DEIT3_SMALL, VisionTransformer
from iqametrics.publishing import convert as module
from iqametrics.publishing.convert import KINDS, convert

pytestmark = pytest.mark.slow


def write(model, path, **changes):
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()} | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    return path


@pytest.fixture
def target(tmp_path):
    """Where to write; taken away after the test, since pytest keeps its folders."""
    path = tmp_path / "ours.safetensors"
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    path = tmp_path_factory.mktemp("resnet") / "model.safetensors"
    yield write(randomise(timm.create_model("resnet50")), path)
    path.unlink()


@pytest.fixture
def small_vits(monkeypatch):
    """Two blocks in place of twelve, ours and the libraries' alike; all names and shapes of a block are there."""
    deit, clip = (replace(config, depth=2) for config in (DEIT3_SMALL, CLIP_VIT_B16))

    def deit_oracle(upstream, x):
        model = timm.create_model("deit3_small_patch16_224", depth=2).eval()
        model.load_state_dict(upstream)
        return model.forward_features(x)[:, 0]

    def clip_oracle(upstream, x):
        model = small_clip()
        model.load_state_dict(upstream)
        return model.visual(x)

    for kind, config, forward in (("deit3", deit, deit_oracle), ("clip-visual", clip, clip_oracle)):
        changed = replace(KINDS[kind], build=partial(small_vit, config), forward=forward)
        monkeypatch.setitem(KINDS, kind, changed)


def small_vit(config, _):
    return VisionTransformer(config)


def small_clip():
    config = open_clip.get_model_config("ViT-B-16-quickgelu")
    return open_clip.CLIP(
        config["embed_dim"],
        config["vision_cfg"] | {"layers": 2},
        config["text_cfg"] | {"layers": 1, "width": 64, "heads": 1},
        quick_gelu=True,
    ).eval()


def test_the_command_line_knows_the_kinds():
    assert tuple(KINDS) == CLI_KINDS


def test_resnet50_against_timm(resnet, target):
    done = convert(resnet, target, "resnet50")
    assert done.library == "timm"
    assert 0 <= done.difference < 1e-4
    upstream, ours = load_file(resnet), load_file(target)
    assert ours.keys() == ResNet50().state_dict().keys()
    assert all(torch.equal(ours[name], upstream[name]) for name in ours)
    assert done.elements == sum(tensor.numel() for tensor in ours.values())
    assert "equal bit for bit" in done.lines()[1]


def test_deit3_and_clip_against_their_libraries(small_vits, tmp_path, target):
    deit = write(randomise(timm.create_model("deit3_small_patch16_224", depth=2)), tmp_path / "deit.safetensors")
    assert convert(deit, target, "deit3").difference < 1e-3
    clip = write(randomise(small_clip()), tmp_path / "clip.safetensors")
    done = convert(clip, target, "clip-visual")
    assert (done.library, done.difference < 1e-3) == ("open_clip", True)
    assert not any(name.startswith(("visual.", "transformer.")) for name in load_file(target))


def test_clip_text_against_open_clip(tmp_path, target, monkeypatch):
    def oracle(upstream, tokens):
        model = small_clip()
        model.load_state_dict(upstream)
        return model.encode_text(tokens)

    small = {"width": 64, "layers": 1, "heads": 1, "embed_dim": 512}
    changed = replace(KINDS["clip-text"], build=lambda _: ClipTextTower(**small), forward=oracle)
    monkeypatch.setitem(KINDS, "clip-text", changed)
    done = convert(write(randomise(small_clip()), tmp_path / "clip.safetensors"), target, "clip-text")
    assert (done.library, done.difference < 1e-3) == ("open_clip", True)


@pytest.mark.parametrize(("width", "name"), [(1024, "RN50-quickgelu"), (512, "ViT-B-16-quickgelu")])
def test_the_width_of_the_text_space_tells_the_clip_model(width, name):
    assert module._text_sizes({"text_projection": torch.zeros(512, width)}) == name
    assert open_clip.get_model_config(name)["embed_dim"] == width


def test_without_the_library(resnet, target, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    done = convert(resnet, target, "resnet50")
    assert (done.library, done.difference) == (None, None)
    assert "not compared" in done.lines()[2]


class TestRefused:
    @pytest.fixture(autouse=True)
    def nothing_is_left(self, tmp_path):
        yield
        assert not list(tmp_path.glob("ours*"))
        assert not list(tmp_path.glob(".*"))

    def test_a_conversion_that_changes_a_value(self, resnet, target, monkeypatch):
        # The mutant: what is written is not what was loaded.
        save = module.to_bytes
        monkeypatch.setattr(
            module,
            "to_bytes",
            lambda state, *args, **kw: save({**state, "conv1.weight": -state["conv1.weight"]}, *args, **kw),
        )
        with pytest.raises(WeightsError, match="outputs are not the same"):
            convert(resnet, target, "resnet50")

    def test_a_loader_that_disagrees_with_the_library(self, resnet, target, monkeypatch):
        # The mutant: the module is filled, twice the same way, but wrongly.
        def load(model, path):
            KINDS_RESNET.load(model, path)
            with torch.no_grad():
                model.bn1.bias.fill_(0.5)

        KINDS_RESNET = KINDS["resnet50"]
        monkeypatch.setitem(KINDS, "resnet50", replace(KINDS_RESNET, load=load))
        with pytest.raises(WeightsError, match=r"differ from timm's by \d.* deviations; nothing was written"):
            convert(resnet, target, "resnet50")

    def test_an_unknown_kind(self, resnet, target):
        with pytest.raises(WeightsError, match="kind 'vgg16' is not known; choose one of resnet50"):
            convert(resnet, target, "vgg16")

    def test_another_architecture(self, resnet, target):
        with pytest.raises(WeightsError, match="does not fit VisionTransformer"):
            convert(resnet, target, "deit3")
        with pytest.raises(WeightsError, match=r"text_projection has the shape \(\)"):
            convert(resnet, target, "clip-text")

    @pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"PK\x03\x04 zip", b"\xff" * 100])
    def test_no_safetensors_file(self, tmp_path, target, content):
        source = tmp_path / "model.pth"
        source.write_bytes(content)
        with pytest.raises(WeightsError, match=r"model\.pth: "):
            convert(source, target, "resnet50")

    def test_missing_or_itself(self, resnet, target, tmp_path):
        with pytest.raises(WeightsError, match="cannot be read"):
            convert(tmp_path / "absent.safetensors", target, "resnet50")
        with pytest.raises(WeightsError, match="is the source itself"):
            convert(resnet, resnet, "resnet50")

    def test_a_folder_that_is_not_there(self, resnet, tmp_path):
        with pytest.raises(WeightsError, match="cannot be written"):
            convert(resnet, tmp_path / "absent" / "x.safetensors", "resnet50")


class TestPth:
    """The maintainers' tool that reads .pth files."""

    @pytest.fixture
    def tool(self, monkeypatch):
        tool = load_tool("weights/pth_to_safetensors.py")

        def run(*arguments):
            monkeypatch.setattr("sys.argv", ["pth_to_safetensors.py", *map(str, arguments)])
            tool.main()

        return run

    def test_names_and_values(self, tool, tmp_path):
        weight = torch.arange(6.0).reshape(2, 3)
        tied = {"module.w": weight, "module.t": weight.T}
        torch.save({"model": {"state": tied}, "epoch": 3}, tmp_path / "x.pth")
        target = tmp_path / "x.safetensors"
        tool(tmp_path / "x.pth", target, "--key", "model", "--key", "state", "--prefix", "module.")
        found = load_file(target)
        assert torch.equal(found["w"], weight)
        assert torch.equal(found["t"], weight.T)
        assert {path.name for path in tmp_path.iterdir()} == {"x.pth", "x.safetensors"}

    def test_a_pickle_that_runs_code_is_refused_and_does_not_run(self, tool, tmp_path):
        class Hostile:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "made by the pickle"),)

        torch.save({"w": Hostile()}, tmp_path / "x.pth")
        with pytest.raises(SystemExit, match=r"x\.pth: cannot be read as plain tensors"):
            tool(tmp_path / "x.pth", tmp_path / "x.safetensors")
        assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]

    @pytest.mark.parametrize(
        ("content", "arguments", "message"),
        [({"a": 1}, [], "more than tensors"), ([1], [], "more than tensors"), ({}, ["--key", "x"], "no such entry")],
    )
    def test_other_content(self, tool, tmp_path, content, arguments, message):
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(SystemExit, match=message):
            tool(tmp_path / "x.pth", tmp_path / "x.safetensors", *arguments)
