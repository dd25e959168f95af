"""The teacher in the way of LIQE: scenes, crops averaged before the softmax, a trained text tower, dynamic weights."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from safetensors.torch import save_file

from iqametrics.errors import RecipeError, WeightsError
from iqametrics.nn.clip_text import ClipTextTower, encode_texts
from iqametrics.objective import Batch
from iqametrics.pfd_iqa.config import PfdTeacherConfig
from iqametrics.pfd_iqa.encoder import WindowEncoder
from iqametrics.pfd_iqa.losses import dynamic_weights, scene_fidelity
from iqametrics.pfd_iqa.prompts import joint_prompts
from iqametrics.pfd_iqa.teacher import PfdTeacher
from iqametrics.pfd_iqa.teacher_objective import PfdTeacherObjective, TeacherLossConfig

TINY: dict[str, Any] = {
    "encoder": "efficientnet_lite0",
    "crop_space": "feature",
    "frozen_levels": 5,
    "grid": 2,
    "crop_size": 64,
    "text_width": 16,
    "logit_scale": 10.0,
}


def make_teacher(**changes):
    torch.manual_seed(1)
    teacher = PfdTeacher(PfdTeacherConfig(**TINY, **changes))
    teacher.set_prompts(torch.randn(teacher.joint_prompts.shape))
    return teacher


def make_batch(images=3, views=1):
    generator = torch.Generator().manual_seed(0)
    count = images * views
    levels = [torch.randn(count, c, 2 * k, 2 * k, generator=generator) for c, k in ((112, 2), (320, 1))]
    each = torch.arange(images).repeat_interleave(views)
    return Batch(
        dist=[*(torch.empty(count, 0) for _ in range(3)), *levels],
        ref=None,
        mos=each / 10,
        distortion=each - 1,
        source=torch.zeros(count, dtype=torch.int64),
        scenes=torch.eye(9)[each] * (each > 0)[:, None],
        views=views,
    )


def test_495_prompts_and_their_order():
    sentences = joint_prompts(scenes=True)
    assert len(set(sentences)) == 495
    assert sentences[55 * 3 + 5 * 2 + 4] == "a photo of a indoor with noise artifacts, which is of perfect quality"
    assert len(joint_prompts()) == 55


def test_marginals_with_scenes_against_numpy():
    teacher = make_teacher(scenes=True)
    logits = torch.randn(2, 1, 495) * 3
    joint = scipy.special.softmax(logits[:, 0].double().numpy(), axis=1).reshape(2, 9, 11, 5)
    opinion = teacher.opinion(logits)
    np.testing.assert_allclose(opinion.scene_probs, joint.sum((2, 3)), atol=1e-6)
    np.testing.assert_allclose(opinion.distortion_probs, joint.sum((1, 3)), atol=1e-6)
    np.testing.assert_allclose(opinion.quality_probs, joint.sum((1, 2)), atol=1e-6)
    np.testing.assert_allclose(opinion.quality, joint.sum((1, 2)) @ np.arange(1, 6), atol=1e-5)
    assert make_teacher().opinion(logits[..., :55]).scene_probs is None


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_what_is_averaged_over_the_crops(average):
    teacher = make_teacher(crop_average=average)
    logits = torch.randn(2, 3, 55) * 3
    raw = logits.double().numpy()
    if average == "logits":
        joint = scipy.special.softmax(raw.mean(1), axis=1)
    else:
        joint = scipy.special.softmax(raw, axis=2).mean(1)
    expected = joint.reshape(2, 11, 5).sum(1) @ np.arange(1, 6)
    np.testing.assert_allclose(teacher.opinion(logits).quality, expected, atol=1e-5)


def test_whole_images_are_judged_by_the_average_of_their_crops():
    """The default is what it was before there was a choice: the mean of the windows' expected levels."""
    torch.manual_seed(0)
    trunk = [torch.empty(1, 0)] * 3 + [torch.randn(1, 112, 8, 8), torch.randn(1, 320, 4, 4)]
    teacher = make_teacher(n_crops=4)
    windows, _ = teacher.windows(teacher.canvas(trunk))
    each = teacher.judge(windows[0])
    torch.testing.assert_close(teacher.quality(trunk), each.quality.mean()[None])
    other = make_teacher(n_crops=4, crop_average="logits")
    expected = other.judge(windows[0]).joint_logits.mean(0, keepdim=True)[:, None]
    torch.testing.assert_close(other.quality(trunk), other.opinion(expected).quality)


def test_crops_that_stand_together_make_one_opinion_in_the_loss():
    teacher = make_teacher(crop_average="logits", scenes=True)
    objective, batch = PfdTeacherObjective(teacher), make_batch(views=3)
    total, parts = objective.loss(batch)
    logits = teacher.head(batch.dist).joint_logits.double().detach().numpy().reshape(3, 3, 495).mean(1)
    joint = scipy.special.softmax(logits, axis=1).reshape(3, 9, 11, 5)
    # The type of the first image is unknown, and so are its scenes.
    types = joint.sum((1, 3))
    expected = np.mean([1 - np.sqrt(types[1, 0]), 1 - np.sqrt(types[2, 1])])
    assert parts["distortion"].item() == pytest.approx(expected, abs=1e-5)
    scenes = joint.sum((2, 3))[1:]
    truth = np.eye(9)[1:3]
    expected = np.mean(1 - np.sqrt(truth * scenes + 1e-8) - np.sqrt((1 - truth) * (1 - scenes) + 1e-8))
    assert parts["scene"].item() == pytest.approx(expected, abs=1e-5)
    assert total.item() == pytest.approx(sum(part.item() for part in parts.values()), rel=1e-5)


def test_unknown_scenes_do_not_count():
    assert scene_fidelity(torch.full((2, 9), 0.5), torch.zeros(2, 9)) == 0
    known = torch.zeros(2, 9)
    known[1, 4] = 1
    assert scene_fidelity(torch.full((2, 9), 0.5), known).item() == pytest.approx(1 - np.sqrt(0.5), abs=2e-4)


def test_dynamic_weights_by_hand():
    rows = [{"train_a": 1.0, "train_b": 2.0}, {"train_a": 0.5, "train_b": 2.0}]
    assert dynamic_weights(rows[:1], ("a", "b"), temperature=2.0) == [1.0, 1.0]
    # r = 0.5 and 1; 2 exp(r / 2) over their sum.
    expected = 2 * scipy.special.softmax([0.25, 0.5])
    assert dynamic_weights(rows, ("a", "b"), temperature=2.0) == pytest.approx(list(expected))
    assert dynamic_weights([{"train_a": 0.0, "train_b": 1.0}] * 2, ("a", "b"), temperature=2.0) == [1.0, 1.0]


def test_dynamic_weights_change_the_loss_only_where_they_are_asked_for():
    batch = make_batch()
    history = [{"train_quality": 1.0, "train_distortion": 1.0}, {"train_quality": 0.2, "train_distortion": 1.0}]
    fixed = PfdTeacherObjective(make_teacher())
    dynamic = PfdTeacherObjective(make_teacher(), TeacherLossConfig(dynamic=True))
    for objective in (fixed, dynamic):
        objective.begin_epoch(history)
    total, parts = fixed.loss(batch)
    assert total.item() == pytest.approx(parts["quality"].item() + parts["distortion"].item())
    one, other = 2 * scipy.special.softmax([0.1, 0.5])
    expected = one * parts["quality"].item() + other * parts["distortion"].item()
    assert dynamic.loss(batch)[0].item() == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory):
    """A CLIP of open_clip's names whose text tower has one block of width 64."""
    torch.manual_seed(0)
    tower = ClipTextTower(width=64, layers=1, heads=1, embed_dim=16)
    names = {"blocks.": "transformer.resblocks.", ".norm1.": ".ln_1.", ".norm2.": ".ln_2.", ".mlp.fc1.": ".mlp.c_fc."}
    names |= {".mlp.fc2.": ".mlp.c_proj.", ".attn.qkv.weight": ".attn.in_proj_weight"}
    names |= {".attn.qkv.bias": ".attn.in_proj_bias", ".attn.proj.": ".attn.out_proj."}
    tensors = {}
    for name, tensor in tower.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        tensors[name] = tensor.contiguous()
    path = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    save_file(tensors, path)
    return tower.eval(), path


def test_a_trained_text_tower_learns_and_leaves_its_prompts_in_the_model(clip_file, tmp_path):
    tower, path = clip_file
    backbone = tmp_path / "backbone.safetensors"
    save_file(make_teacher().backbone.state_dict(), backbone)
    init = {"anchors": str(path), "backbone": str(backbone)}
    objective = PfdTeacherObjective.from_recipe("pfd-teacher", {**TINY, "text_tower": "trained"}, init)
    start = encode_texts(tower, joint_prompts())
    torch.testing.assert_close(objective.model.joint_prompts, start)
    optimizer = torch.optim.AdamW(objective.parameter_groups(1e-2, 1e-2, 0.0))
    objective.train().loss(make_batch())[0].backward()
    assert objective.text.text_projection.grad.abs().max() > 0
    optimizer.step()
    torch.testing.assert_close(objective.model.joint_prompts, start)  # stale until it is needed
    objective.eval()
    assert not torch.allclose(objective.model.joint_prompts, start)
    with torch.no_grad():
        torch.testing.assert_close(objective.model.joint_prompts, objective.text(objective.tokens))
    # Only the prompts go into the checkpoint.
    assert not any("text" in name for name in objective.model.state_dict())

    frozen = PfdTeacherObjective.from_recipe("pfd-teacher", TINY, init)
    assert frozen.text is None
    torch.testing.assert_close(frozen.eval().model.joint_prompts, start)


def test_a_text_tower_cannot_be_trained_from_finished_prompts(tmp_path):
    backbone, anchors = tmp_path / "backbone.safetensors", tmp_path / "anchors.safetensors"
    save_file(make_teacher().backbone.state_dict(), backbone)
    save_file({"joint_prompts": torch.randn(55, 16)}, anchors)
    init = {"anchors": str(anchors), "backbone": str(backbone)}
    with pytest.raises(WeightsError, match="holds no text tower"):
        PfdTeacherObjective.from_recipe("pfd-teacher", {**TINY, "text_tower": "trained"}, init)
    with pytest.raises(WeightsError, match=r"should have shape \(495, 16\)"):
        PfdTeacherObjective.from_recipe("pfd-teacher", {**TINY, "scenes": True}, init)
    with pytest.raises(RecipeError, match="crop_average = 'mean' is not known"):
        PfdTeacherConfig(crop_average="mean")


def test_patches_of_32_pixels_give_a_map_on_the_grid_of_the_students(monkeypatch):
    from iqametrics.pfd_iqa import encoder

    small = dataclasses.replace(encoder.CLIP_VIT_B32, width=32, depth=1, heads=2)
    monkeypatch.setitem(encoder._TRANSFORMERS, "clip_vit_b32", small)
    model = WindowEncoder(PfdTeacherConfig(encoder="clip_vit_b32"))
    assert model.backbone.patch_embed.patch_size == 32
    class_token, features = model.encode(torch.rand(1, 3, 224, 224))
    assert (class_token.shape, features.shape) == ((1, 512), (1, 512, 14, 14))
