"""Each model of the paper's size takes its first steps on the CPU: its own recipe, files in upstream format."""

import csv
import math
import shutil

import numpy as np
import open_clip
import paper_files
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from iqametrics import create_metric
from iqametrics.bpclip.anchors import read_adjectives
from iqametrics.pfd_iqa.prompts import distortion_prompts, joint_prompts, quality_prompts
from iqametrics.training.loop import Trainer
from iqametrics.training.recipe import read_recipe
from iqametrics.training.run import train_recipe

pytestmark = pytest.mark.slow

COMMON = [
    *("train.epochs=1", "train.batch_size=4", "train.views=1", "train.device=cpu", "train.workers=1"),
    *("split.by=image", "split.validation=0.0", "split.test=0.0", "train.selection=last", "train.save_every=0"),
]


@pytest.fixture(autouse=True)
def no_state(monkeypatch):
    """States to resume from are gigabytes at this size, and tested at another."""
    monkeypatch.setattr(Trainer, "_save_last", lambda self: None)


@pytest.fixture(scope="module")
def bpclip_files(tmp_path_factory):
    """ResNet-50 and CLIP RN50 for both modes: a folder and the two networks."""
    folder = tmp_path_factory.mktemp("bpclip-files")
    paper_files.seeded()
    trunk = paper_files.write_resnet50(folder / "resnet50.safetensors", torch.rand(2, 3, 64, 64)).state_dict()
    yield folder, trunk, paper_files.write_clip_rn50(folder / "clip.safetensors")
    shutil.rmtree(folder)


@pytest.fixture
def folder(tmp_path):
    """Four noisy pictures with their references; the folder is taken away after the test, since it grows to 1 GB."""
    rng = np.random.default_rng(0)
    with (tmp_path / "data.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "reference", "mos", "distortion"])
        for number in range(4):
            clean = rng.integers(0, 256, (72, 64, 3))
            for name, pixels in (("r", clean), ("d", clean + rng.normal(0, 20 * number + 1, clean.shape))):
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{name}{number}.png")
            writer.writerow([f"d{number}.png", f"r{number}.png", 1 - number / 4, "noise"])
    yield tmp_path
    shutil.rmtree(tmp_path)


def train(name, folder, *overrides):
    recipe = read_recipe(name, [*COMMON, *overrides], {"csv": str(folder / "data.csv")})
    run = train_recipe(recipe, folder / "run")
    return run, load_file(run / "checkpoint.safetensors")


def losses(run):
    with (run / "history.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    return {name: float(value) for name, value in row.items() if name.startswith("train_")}


def assert_encoded_by(clip, features, prompts):
    """The text tower that open_clip runs gives the features that the checkpoint holds."""
    expected = clip.encode_text(open_clip.tokenize(prompts))
    torch.testing.assert_close(features, expected, atol=1e-4 * float(expected.std()), rtol=1e-3)


@pytest.mark.parametrize("mode", ["fr", "nr"])
def test_bpclip(mode, folder, bpclip_files):
    files, trunk, clip = bpclip_files
    files = [f"init.backbone='{files}/resnet50.safetensors'", f"init.anchors='{files}/clip.safetensors'"]
    run, tensors = train(f"paper/bpclip-{mode}", folder, *files, "train.crop=64", "sizing.min_side=64")
    assert math.isfinite(losses(run)["train_mse"])
    assert_encoded_by(clip, tensors["similarity.anchors"], [adjective.prompt for adjective in read_adjectives()])
    # All but the BatchNorms has moved a little from the file, and they have not.
    for name in ("conv1.weight", "layer4.2.conv3.weight"):
        assert 0 < (tensors[f"backbone.{name}"] - trunk[name]).abs().max() < 0.01
    for name in ("bn1.weight", "bn1.running_mean", "layer4.2.bn3.running_var", "layer1.0.bn2.bias"):
        assert torch.equal(tensors[f"backbone.{name}"], trunk[name])
    metric = create_metric(f"bpclip-{mode}", weights=run / "checkpoint.safetensors")
    pair = [folder / "d1.png", folder / "r1.png"][: 2 if mode == "fr" else 1]
    assert math.isfinite(float(metric(*pair)))


def test_pfd_iqa_after_its_teacher(folder):
    paper_files.seeded()
    deit = paper_files.write_deit3(folder / "deit3.safetensors").state_dict()
    clip = paper_files.write_clip_vit_b16(folder / "clip.safetensors")
    run, tensors = train(
        "paper/pfd-iqa",
        folder,
        f"init.backbone='{folder}/deit3.safetensors'",
        f"init.anchors='{folder}/clip.safetensors'",
        *(
            "teacher.train.epochs=1",
            "teacher.train.batch_size=4",
            "teacher.train.views=2",
            "teacher.train.steps_per_epoch=1",
            "teacher.train.save_every=0",
        ),
        *(f"teacher.init.{key}='{folder}/clip.safetensors'" for key in ("backbone", "anchors")),
        "teacher.train.selection=last",
    )
    found, of_teacher = losses(run), losses(run / "teacher")
    assert found.keys() == {f"train_{part}" for part in ("loss", "l1", "kl", "ldm", "fea")}
    assert of_teacher.keys() == {f"train_{part}" for part in ("loss", "quality", "distortion")}
    assert all(map(math.isfinite, (*found.values(), *of_teacher.values())))
    # One weight of each part of equation 13.
    total = sum(w * found[f"train_{part}"] for w, part in ((0.5, "kl"), (1, "ldm"), (0.01, "fea"), (1, "l1")))
    assert found["train_loss"] == pytest.approx(total, rel=1e-5)
    assert_encoded_by(clip, tensors["distortion_prompts"], distortion_prompts())
    assert_encoded_by(clip, tensors["quality_prompts"], quality_prompts())
    teacher = load_file(run / "teacher" / "checkpoint.safetensors")
    # The text tower has been trained by a step: its sentences are nearly, not exactly, what they were.
    before = clip.encode_text(open_clip.tokenize(joint_prompts()))
    moved = (teacher["joint_prompts"] - before).abs().max() / before.std()
    assert 1e-6 < moved < 0.1
    moved = teacher["backbone.patch_embed.proj.weight"] - clip.state_dict()["visual.conv1.weight"]
    assert 0 < moved.abs().max() < 1e-4
    assert 0 < (tensors["backbone.blocks.0.mlp.fc1.weight"] - deit["blocks.0.mlp.fc1.weight"]).abs().max() < 0.01
    metric = create_metric("pfd-iqa", weights=run / "checkpoint.safetensors")
    assert math.isfinite(float(metric(folder / "d1.png")))
