"""What PFD-IQA's student and teacher minimise: equation 13 from its parts, and whether it can be learnt."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from safetensors.torch import save_file

from iqametrics.errors import RecipeError, WeightsError
from iqametrics.objective import Batch, Statistics
from iqametrics.pfd_iqa.config import PfdIqaConfig, PfdTeacherConfig
from iqametrics.pfd_iqa.model import PfdIqa
from iqametrics.pfd_iqa.objective import PfdIqaObjective, PfdLossConfig, load_teacher
from iqametrics.pfd_iqa.teacher import PfdTeacher
from iqametrics.pfd_iqa.teacher_objective import PfdTeacherObjective, TeacherLossConfig
from iqametrics.ranking import ORIGINAL, UNCHAINED
from iqametrics.weights.checkpoint import save_checkpoint

SHARED: dict[str, Any] = {
    "encoder": "efficientnet_lite0",
    "crop_space": "feature",
    "frozen_levels": 5,
    "grid": 2,
    "crop_size": 64,
    "text_width": 16,
    "standardise_levels": True,
}
STUDENT = PfdIqaConfig(**SHARED, encoder_width=12, sampling_steps=2, n_crops=3, norm="group")
TEACHER = PfdTeacherConfig(**{**SHARED, "logit_scale": 10.0}, n_crops=3)


def prompts(count, seed):
    return torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))


def make_teacher():
    torch.manual_seed(1)
    teacher = PfdTeacher(TEACHER)
    teacher.set_prompts(prompts(55, 3))
    return teacher


def make_student(teacher, **changes):
    torch.manual_seed(2)
    model = PfdIqa(dataclasses.replace(STUDENT, **changes))
    model.backbone.load_state_dict(teacher.backbone.state_dict())
    model.set_prompts(prompts(11, 1), prompts(5, 2))
    return model


def make_objective(**changes):
    teacher = make_teacher()
    return PfdIqaObjective(make_student(teacher, **changes), teacher)


def make_batch(count=4, side=64):
    """Stored levels as a cache gives them: unread ones empty, the others of order one."""
    generator = torch.Generator().manual_seed(0)
    cells = side // 32
    levels = [torch.randn(count, c, cells * k, cells * k, generator=generator) for c, k in ((112, 2), (320, 1))]
    return Batch(
        dist=[*(torch.empty(count, 0) for _ in range(3)), *levels],
        ref=None,
        mos=torch.rand(count, generator=generator),
        distortion=torch.arange(count) - 1,
        source=torch.zeros(count, dtype=torch.int64),
    )


def seeded(batch, *seeds):
    return dataclasses.replace(batch, seeds=torch.tensor(seeds))


def part_of(batch, rows):
    """Some of the images of a batch."""
    tensors = {name: getattr(batch, name)[rows] for name in ("mos", "distortion", "source", "seeds")}
    return dataclasses.replace(batch, dist=[level[rows] for level in batch.dist], **tensors)


def test_the_loss_is_equation_13():
    objective, batch = make_objective().train(), seeded(make_batch(), 9, 8, 7, 6)
    total, parts = objective.loss(batch)

    noise, mask, times, trajectory = [], [], [], []
    for seed in (9, 8, 7, 6):
        torch.manual_seed(seed)
        noise.append(torch.randn(16, 2, 2))
        mask.append(torch.rand(16, 1, 1) >= 0.15)
        times.append(torch.randint(1000, ()))
        trajectory.append(torch.randn(16, 2, 2))
    student, teacher = objective.model, objective.teacher
    with torch.no_grad():
        output = student.head(batch.dist, noise=torch.stack(noise), mask=torch.stack(mask))
        target = teacher.head(batch.dist)
        kl = 0.0
        for soft, logits in (
            (target.distortion_probs, output.distortion_logits),
            (target.quality_probs, output.quality_logits),
        ):
            kl += np.mean([scipy.stats.entropy(p, q) for p, q in zip(soft, logits.double().softmax(1), strict=True)])
        condition = torch.stack(
            [target.distortion_probs @ student.distortion_prompts, target.quality_probs @ student.quality_prompts], 1
        )
        ldm = student.refinement.trajectory_loss(
            target.features, condition, times=torch.stack(times), noise=torch.stack(trajectory)
        ).item()
    fea = ((output.refined - target.features) ** 2).mean().item()
    l1 = (output.score - batch.mos).abs().mean().item()
    expected = {"l1": l1, "kl": kl, "ldm": ldm, "fea": fea}
    assert {name: value.item() for name, value in parts.items()} == pytest.approx(expected, rel=1e-4)
    assert total.item() == pytest.approx(0.5 * kl + 1.0 * ldm + 0.01 * fea + l1, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0.25),
        ({"label_scale": 100.0}, 25.0),
        # Quadratic below 1: 0.5 (0.1^2 + 0.4^2) / 2; linear above: (10 - 0.5 + 40 - 0.5) / 2.
        ({"regression": "smooth_l1"}, 0.0425),
        ({"regression": "smooth_l1", "label_scale": 100.0}, 24.5),
    ],
)
def test_the_loss_on_the_score_by_hand(changes, expected, monkeypatch):
    objective = make_objective()
    batch = dataclasses.replace(make_batch(2), mos=torch.tensor([0.5, 0.5]))
    objective.weights = PfdLossConfig(**changes)
    head = objective.model.head
    scores = torch.tensor([0.4, 0.9])
    monkeypatch.setattr(objective.model, "head", lambda *a, **k: head(*a, **k)._replace(score=scores))
    assert objective.loss(batch)[1]["l1"].item() == pytest.approx(expected)


def test_ranked_images_are_ordered_and_not_scored(monkeypatch):
    """A photograph, its slight and its strong damage; only the fourth image has an opinion score."""
    objective = make_objective()
    objective.weights = PfdLossConfig(order_weight=0.5, order_margin=0.4)
    chains = torch.tensor([[0, ORIGINAL], [0, 1], [0, 1], UNCHAINED])
    batch = dataclasses.replace(make_batch(4), mos=torch.tensor([1.0, 0.8, 0.3, 0.5]), chains=chains)
    head = objective.model.head
    scores = torch.tensor([0.6, 0.55, 0.7, 0.4], requires_grad=True)
    monkeypatch.setattr(objective.model, "head", lambda *a, **k: head(*a, **k)._replace(score=scores))
    total, parts = objective.loss(batch)
    assert parts["l1"].item() == pytest.approx(0.1)
    # max(0, 0.08 - 0.05), max(0, 0.28 + 0.1), max(0, 0.2 + 0.15)
    assert parts["order"].item() == pytest.approx((0.03 + 0.38 + 0.35) / 3)
    others = 0.5 * parts["kl"] + parts["ldm"] + 0.01 * parts["fea"]
    assert total.item() == pytest.approx((0.1 + 0.5 * parts["order"] + others).item(), rel=1e-5)
    total.backward()
    assert scores.grad.tolist() == pytest.approx([-1 / 3, 0, 1 / 3, -1], abs=1e-6)


def test_ranks_are_learnt_where_the_recipe_asks():
    teacher = make_teacher()
    assert not PfdIqaObjective(make_student(teacher), teacher).learns_order
    assert PfdIqaObjective(make_student(teacher), teacher, PfdLossConfig(order_weight=0.1)).learns_order


def test_what_is_drawn_for_an_image_depends_on_its_seed_alone():
    objective, batch = make_objective().train(), seeded(make_batch(), 5, 6, 7, 8)
    whole = objective.loss(batch)[0]
    singles = [objective.loss(part_of(batch, [k]))[0] for k in (2, 0, 3, 1)]
    assert whole.item() == pytest.approx(sum(single.item() for single in singles) / 4, rel=1e-5)
    assert objective.loss(seeded(batch, 5, 6, 7, 9))[0].item() != pytest.approx(whole.item(), rel=1e-4)


def test_half_precision_gives_nearly_the_same_loss_and_finite_gradients():
    objective, batch = make_objective().train(), seeded(make_batch(), 5, 6, 7, 8)
    whole = objective.loss(batch)[0]
    for half in (torch.bfloat16, torch.float16):
        objective.zero_grad()
        with torch.autocast("cpu", half):
            loss = objective.loss(batch)[0]
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(whole.item(), rel=0.1)
        loss.backward()
        assert all(p.grad.isfinite().all() for p in objective.parameters() if p.grad is not None)


def test_without_seeds_the_loss_draws_from_the_global_generator_only():
    objective, batch = make_objective(), make_batch()
    objective.train()
    values = []
    for seed in (4, 4, 5):
        torch.manual_seed(seed)
        values.append(objective.loss(batch)[0].item())
    assert values[0] == values[1] != values[2]


def test_every_trainable_parameter_of_the_student_learns_and_the_teacher_does_not():
    objective = make_objective()
    objective.train()
    before = copy.deepcopy(objective.teacher.state_dict())
    objective.loss(make_batch())[0].backward()
    dead = [
        n for n, p in objective.model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    # A bias on the keys moves all logits of a softmax alike.
    assert [name for name in dead if not name.endswith("key.bias")] == []
    assert all(p.grad is None for p in objective.teacher.parameters())
    assert all(torch.equal(before[n], t) for n, t in objective.teacher.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"use_pda": False}, {"l1", "ldm", "fea"}),
        ({"use_pdr": False}, {"l1", "kl"}),
        ({"use_pda": False, "use_pdr": False}, {"l1"}),
        ({"use_ana": False}, {"l1", "kl", "ldm", "fea"}),
        ({"use_ppa": False}, {"l1", "kl", "ldm", "fea"}),
    ],
)
def test_an_ablation_leaves_out_its_losses(changes, names):
    teacher = make_teacher()
    needs_teacher = names != {"l1"}
    objective = PfdIqaObjective(make_student(teacher, **changes), teacher if needs_teacher else None)
    total, parts = objective.loss(make_batch())
    assert set(parts) == names
    total.backward()


def test_the_baseline_needs_no_teacher_and_the_rest_does():
    with pytest.raises(RecipeError, match=r"give the path of its checkpoint as init\.teacher"):
        PfdIqaObjective(make_student(make_teacher()), None)


@pytest.mark.slow
def test_the_student_learns_four_scores():
    objective, batch = make_objective(), make_batch()
    objective.initialise(Statistics(batch.mos.mean().item(), 0.2, (torch.zeros(432),), (torch.ones(432),)))
    start = (objective.predict(batch) - batch.mos).abs().mean().item()
    optimiser = torch.optim.AdamW(objective.parameter_groups(3e-3, 3e-4, 0.0))
    first = {}
    for step in range(30):
        torch.manual_seed(step)
        objective.train()
        loss, parts = objective.loss(batch)
        first = first or parts
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    # One window each, so the training batch is the whole image.
    assert (objective.predict(batch) - batch.mos).abs().mean().item() < 0.7 * start
    assert parts["kl"].item() < first["kl"].item() / 2
    assert parts["ldm"].item() < first["ldm"].item()


def test_initialise_starts_at_the_mean_score_with_standard_levels():
    objective, batch = make_objective(), make_batch()
    (cells,) = objective.statistics_levels(batch.dist)
    assert cells.shape == (4, 432, 2, 2)
    objective.initialise(Statistics(0.62, 0.1, (cells.mean((0, 2, 3)),), (cells.std((0, 2, 3)),)))
    assert objective.model.decoder.score.bias.item() == pytest.approx(0.62)
    torch.testing.assert_close(objective.model.level_mean.flatten(), cells.mean((0, 2, 3)))
    assert objective.predict(batch).mean().item() == pytest.approx(0.62, abs=0.1)


def test_predict_is_what_the_model_scores_whole_images():
    objective = make_objective()
    objective.train()
    image = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    batch = dataclasses.replace(make_batch(2), dist=objective.trunk(image))
    scores = objective.predict(batch)
    assert torch.equal(scores, objective.predict(batch))
    with torch.no_grad():
        torch.testing.assert_close(scores, objective.model.eval()(image))


def test_only_the_levels_that_are_read_are_needed():
    assert make_objective().needed_levels == (4, 5)
    three = dataclasses.replace(TEACHER, frozen_levels=3)
    assert PfdTeacherObjective(PfdTeacher(three)).needed_levels == (3,)
    assert PfdTeacherObjective(PfdTeacher(dataclasses.replace(TEACHER, frozen_levels=0))).needed_levels is None


def test_parameter_groups_are_the_students_alone():
    torch.manual_seed(1)
    teacher = PfdTeacher(dataclasses.replace(TEACHER, frozen_levels=3))
    objective = PfdIqaObjective(make_student(teacher, frozen_levels=3), teacher)
    groups = objective.parameter_groups(1e-3, 1e-4, 0.05)
    listed = {id(p) for group in groups for p in group["params"]}
    assert listed == {id(p) for p in objective.model.parameters() if p.requires_grad}
    upper = {id(p) for p in objective.model.backbone.parameters()}
    assert all((group["lr"] == 1e-4) == (id(p) in upper) for group in groups for p in group["params"])


def test_the_teachers_loss_is_the_sum_of_two_fidelities():
    objective, batch = PfdTeacherObjective(make_teacher(), TeacherLossConfig(distortion_weight=0.5)), make_batch()
    total, parts = objective.loss(batch)
    with torch.no_grad():
        output = objective.model.head(batch.dist)
    pairs = []
    for i in range(4):
        for j in range(i + 1, 4):
            p = scipy.stats.norm.cdf((output.quality[i] - output.quality[j]).item() / np.sqrt(2))
            pairs.append(1 - np.sqrt(p if batch.mos[i] > batch.mos[j] else 1 - p))
    known = [1 - output.distortion_probs[i, i - 1].sqrt().item() for i in (1, 2, 3)]
    assert parts["quality"].item() == pytest.approx(np.mean(pairs), abs=1e-3)
    assert parts["distortion"].item() == pytest.approx(np.mean(known), abs=1e-3)
    assert total.item() == pytest.approx(np.mean(pairs) + 0.5 * np.mean(known), abs=1e-3)


def test_the_teacher_learns_order_and_type():
    objective, batch = PfdTeacherObjective(make_teacher()), make_batch()
    optimiser = torch.optim.AdamW(objective.parameter_groups(3e-3, 3e-4, 0.0))
    for _ in range(30):
        loss, parts = objective.loss(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert parts["distortion"].item() < 0.1
    predicted = objective.predict(batch)
    assert scipy.stats.spearmanr(predicted, batch.mos).statistic == pytest.approx(1)
    assert ((predicted >= 0) & (predicted <= 1)).all()


# Recipes


@pytest.fixture
def files(tmp_path):
    """A teacher's checkpoint, its backbone and the prompts, as a recipe's [init] names them."""
    teacher = make_teacher()
    save_file(dict(teacher.backbone.state_dict()), tmp_path / "backbone.safetensors")
    embeddings = {
        "distortion_prompts": prompts(11, 1),
        "quality_prompts": prompts(5, 2),
        "joint_prompts": prompts(55, 3),
    }
    save_file(embeddings, tmp_path / "anchors.safetensors")
    record = {"metric": "pfd-teacher", "tag": "lite", "config": TEACHER.to_dict(), "sizing": {}, "backbone": None}
    save_checkpoint(tmp_path / "teacher.safetensors", teacher.state_dict(), record, dtype=torch.float16)
    return {name: str(tmp_path / f"{name}.safetensors") for name in ("backbone", "anchors", "teacher")}


def test_a_recipe_builds_student_and_teacher(files):
    model = {**STUDENT.to_dict(), "loss": {"kl_weight": 0.25}}
    objective = PfdIqaObjective.from_recipe("pfd-iqa", model, files)
    assert objective.model.config == STUDENT
    assert objective.weights == PfdLossConfig(kl_weight=0.25)
    assert torch.equal(objective.model.distortion_prompts, prompts(11, 1))
    assert objective.config() == STUDENT.to_dict()
    torch.testing.assert_close(objective.teacher.joint_prompts, prompts(55, 3), rtol=1e-3, atol=1e-3)
    del files["teacher"]
    teacher = PfdTeacherObjective.from_recipe("pfd-teacher", TEACHER.to_dict(), files)
    assert torch.equal(teacher.model.joint_prompts, prompts(55, 3))
    assert torch.equal(teacher.model.backbone.stem[0].weight, objective.model.backbone.stem[0].weight)


def test_starting_files_that_are_not_read_are_refused(files):
    with pytest.raises(RecipeError, match="unknown init keys: checkpoint; known are backbone, anchors, teacher"):
        PfdIqaObjective.from_recipe("pfd-iqa", STUDENT.to_dict(), {**files, "checkpoint": files["teacher"]})
    with pytest.raises(RecipeError, match="unknown init keys: teacher; known are backbone, anchors"):
        PfdTeacherObjective.from_recipe("pfd-teacher", TEACHER.to_dict(), files)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("anchors", r"init\.anchors is missing: every prompt's embedding would be zero; give the file"),
        ("backbone", r"init\.backbone is missing: 5 frozen levels would stay random; .* or model\.frozen_levels = 0"),
    ],
)
def test_starting_files_that_are_needed_are_asked_for(files, key, message):
    del files[key]
    with pytest.raises(RecipeError, match=message):
        PfdIqaObjective.from_recipe("pfd-iqa", STUDENT.to_dict(), files)
    del files["teacher"]
    with pytest.raises(RecipeError, match=message):
        PfdTeacherObjective.from_recipe("pfd-teacher", TEACHER.to_dict(), files)


def test_without_pda_no_prompts_are_asked_for(files):
    del files["anchors"]
    PfdIqaObjective.from_recipe("pfd-iqa", {**STUDENT.to_dict(), "use_pda": False}, files)


def test_a_student_with_another_frozen_part_than_its_teacher_is_refused(files, tmp_path):
    torch.manual_seed(8)
    save_file(dict(PfdTeacher(TEACHER).backbone.state_dict()), tmp_path / "backbone.safetensors")
    with pytest.raises(RecipeError, match="start both from the same file"):
        PfdIqaObjective.from_recipe("pfd-iqa", STUDENT.to_dict(), files)


def test_a_teacher_of_another_text_space_is_refused(files):
    model = {**STUDENT.to_dict(), "text_width": 24}
    wider = {name: torch.randn(count, 24) for name, count in (("distortion_prompts", 11), ("quality_prompts", 5))}
    save_file(wider, files["anchors"])
    with pytest.raises(RecipeError, match="text_width = 24 of the student is 16 in its teacher"):
        PfdIqaObjective.from_recipe("pfd-iqa", model, files)


@pytest.mark.parametrize(
    ("loss", "message"),
    [({"l1_weight": 2}, "model.loss: unknown key 'l1_weight'"), ({"kl_weight": -1}, "kl_weight = -1 is no weight")],
)
def test_impossible_loss_weights_are_refused(loss, message):
    with pytest.raises(RecipeError, match=message):
        PfdIqaObjective.from_recipe("pfd-iqa", {**STUDENT.to_dict(), "loss": loss}, {})


def test_prompts_of_another_shape_are_refused(files, tmp_path):
    with pytest.raises(WeightsError, match=r"distortion_prompts should have shape \(11, 24\) but is \(11, 16\)"):
        PfdIqaObjective.from_recipe("pfd-iqa", {**STUDENT.to_dict(), "text_width": 24}, files)
    init = {"backbone": files["backbone"], "anchors": str(tmp_path / "nothing")}
    with pytest.raises(WeightsError, match="nothing"):
        PfdTeacherObjective.from_recipe("pfd-teacher", TEACHER.to_dict(), init)
    with pytest.raises(WeightsError, match=r"anchors\.safetensors"):
        load_teacher(files["anchors"])


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_denoising_steps_that_are_computed_again_give_the_same_gradient_for_less_memory(norm):
    """Bit for bit, the running statistics of BatchNorm included: they must not be counted twice."""
    found = []
    for again in (False, True):
        objective = make_objective(denoiser_norm=norm, sampling_steps=5).train()
        if again:
            objective.checkpoint_activations()
        own, kept = {parameter.data_ptr() for parameter in objective.parameters()}, {}

        def keep(tensor, own=own, kept=kept):
            if tensor.data_ptr() not in own:
                kept[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss, _ = objective.loss(seeded(make_batch(), 9, 8, 7, 6))
        loss.backward()
        gradients = {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}
        found.append((loss.detach(), gradients, dict(objective.named_buffers()), sum(kept.values())))
    (loss, gradients, buffers, whole), (other, repeated, counted, less) = found
    assert torch.equal(loss, other)
    assert gradients.keys() == repeated.keys()
    assert all(torch.equal(gradients[name], repeated[name]) for name in gradients)
    assert all(torch.equal(buffers[name], counted[name]) for name in buffers)
    assert any("denoiser" in name and "running_mean" in name for name in buffers) == (norm == "batch")
    assert less < 0.7 * whole


def test_what_has_no_denoising_steps_cannot_compute_them_again():
    with pytest.raises(RecipeError, match=r"^train\.checkpointing = true: only pfd-iqa, with model\.use_pdr"):
        make_objective(use_pdr=False).checkpoint_activations()
    with pytest.raises(RecipeError, match=r"^train\.checkpointing = true"):
        PfdTeacherObjective(make_teacher()).checkpoint_activations()
