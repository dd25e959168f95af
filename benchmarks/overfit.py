"""Overfit 16 image pairs with each model of the paper's size, to show that it can be trained at all.

    python benchmarks/overfit.py bpclip-fr bpclip-nr pfd-teacher pfd-iqa

The models start from random weights in the formats that timm and open_clip publish, so the result shows that loss,
gradients and optimiser work together at the real sizes, and nothing about quality. Sixteen distorted crops of one CC0
photograph, four types of KADID-10k at four levels, are learnt by heart, without flips and without dropout, until the
scores of these very crops have an SRCC above 0.99 with their labels, which are evenly spaced: worse for a stronger
distortion, and by the type among equals. `pfd-iqa` learns from the teacher that `pfd-teacher` has trained, or from a
random one.

The BatchNorms of ResNet-50 are frozen, so their statistics are set from the sixteen crops before its file is written.
BPCLIP's ResNet-50 is frozen at its random weights, and its levels are computed once, unless --whole is given: two slow
cores take seconds for a step of the whole network, and the rest of it can learn the sixteen from random features.
The outputs of PFD-IQA's teacher, which does not learn, are computed once too.
Learning rates are in `RATES`: the recipes' for the first and the last, higher ones for the two whose recipes only
fine-tune trained weights.

Each method continues where it was (in --work, which grows to 4 GB) and stops after --minutes at the latest. The results
are written to --output after each method.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iqametrics.common.files import write_file
from iqametrics.datasets.distortions import distort, find_distortion
from iqametrics.errors import DataError
from iqametrics.evaluation import srcc
from iqametrics.images import read_image
from iqametrics.methods import named_class, objectives
from iqametrics.nn.text_features import read_text_features
from iqametrics.objective import Batch, Objective, Statistics
from iqametrics.pfd_iqa.config import PfdIqaConfig
from iqametrics.pfd_iqa.model import PfdIqa
from iqametrics.pfd_iqa.objective import PfdIqaObjective
from iqametrics.pfd_iqa.prompts import DISTORTIONS, distortion_prompts, quality_prompts
from iqametrics.pfd_iqa.teacher import PfdTeacher, TeacherOutput
from iqametrics.pfd_iqa.teacher_objective import PfdTeacherObjective
from iqametrics.training.environment import this_session
from iqametrics.training.loop import step_seed
from iqametrics.training.recipe import read_recipe
from iqametrics.training.resume import Progress, load_state, save_state

ROOT = Path(__file__).resolve().parent.parent
PHOTOGRAPH = ROOT / "docs" / "example" / "seeding.jpg"
SIDES = {"bpclip-fr": 128, "bpclip-nr": 128, "pfd-teacher": 224, "pfd-iqa": 224}
RATES = {"bpclip-fr": 1e-4, "bpclip-nr": 1e-4, "pfd-teacher": 3e-5, "pfd-iqa": 2e-4}
KINDS, LEVELS = (1, 10, 11, 22), (2, 3, 4, 5)
GOAL, BATCH, LOOK_EVERY, SAVE_EVERY = 0.99, 8, 10, 50


def main() -> None:
    """Overfit each method of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+", choices=list(SIDES), help="which")
    parser.add_argument("--work", type=Path, default=Path("runs/overfit"), help="folder of starting files and states")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "overfit.json")
    parser.add_argument("--whole", action="store_true", help="train BPCLIP's backbone too")
    parser.add_argument("--minutes", type=float, default=60.0, help="at most, for each method (default: 60)")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for method in args.methods:
        found = overfit(method, args.work, args.minutes, whole=args.whole)
        results = json.loads(args.output.read_text()) if args.output.exists() else {}
        text = json.dumps({**results, method: found}, indent=2, sort_keys=True) + "\n"
        write_file(args.output, text, error=DataError)
        print(f"{method}: SRCC {found['srcc']:.4f} after {found['steps']} steps", flush=True)


def overfit(method: str, work: Path, minutes: float, *, whole: bool) -> dict[str, Any]:
    """Train until the goal is reached or the time is over; return the result."""
    torch.manual_seed(0)
    images = sixteen(SIDES[method])
    objective = build(method, work, images, whole=whole)
    batch = through_trunk(objective, images)
    model = objective.model
    recipe = read_recipe(f"paper/{method}", data={"csv": "none"})
    optimizer = torch.optim.AdamW(objective.parameter_groups(RATES[method], RATES[method], recipe.train.weight_decay))
    state, progress = work / f"{method}{'.whole' if whole else ''}.safetensors", Progress()
    if state.exists():
        progress = load_state(state, objective, optimizer=optimizer)
    else:
        moments = float(batch.mos.mean()), float(batch.mos.std(correction=0))
        objective.initialise(Statistics(mos_mean=moments[0], mos_std=moments[1], level_means=(), level_stds=()))
    found = agreement(objective, batch)
    started = time.monotonic()
    while found <= GOAL and time.monotonic() - started < minutes * 60:
        for _ in range(LOOK_EVERY):
            step(objective, optimizer, batch, progress)
        found = agreement(objective, batch)
        print(f"{method} step {progress.step}: loss {progress.sums['loss']:.5f}, SRCC {found:.4f}", flush=True)
        if progress.step % SAVE_EVERY == 0 or found > GOAL:
            save_state(state, objective, progress, optimizer=optimizer)
    save_state(state, objective, progress, optimizer=optimizer)
    return {
        "srcc": found,
        "goal": GOAL,
        "reached": found > GOAL,
        "steps": progress.step,
        "batch": BATCH,
        "crop": SIDES[method],
        "lr": RATES[method],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trained": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        **{key: value for key, value in this_session([], {}).items() if key != "inputs"},
    }


def step(objective: Objective, optimizer: torch.optim.Optimizer, batch: Batch, progress: Progress) -> None:
    """Take one step on half of the sixteen, another half each time."""
    torch.manual_seed(step_seed(0, progress.step))
    rows = torch.randperm(len(batch))[:BATCH]
    objective.train()
    if isinstance(objective, PfdIqaObjective) and isinstance(objective.teacher, HeldTeacher):
        objective.teacher.rows = rows
    loss, _ = objective.loss(pick(batch, rows))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    progress.step += 1
    progress.sums = {"loss": float(loss.detach())}


def agreement(objective: Objective, batch: Batch) -> float:
    """Compute the SRCC of the scores of the sixteen."""
    objective.eval()
    with torch.no_grad():
        halves = torch.arange(len(batch)).split(BATCH)
        scores = torch.cat([objective.predict(pick(batch, rows)) for rows in halves])
    return srcc(scores.double().numpy(), batch.mos.double().numpy())


def pick(batch: Batch, rows: Tensor) -> Batch:
    """Return those images of a batch."""
    return dataclasses.replace(
        batch,
        dist=[level[rows] for level in batch.dist],
        ref=None if batch.ref is None else [level[rows] for level in batch.ref],
        mos=batch.mos[rows],
        distortion=batch.distortion[rows],
        source=batch.source[rows],
    )


def through_trunk(objective: Objective, batch: Batch) -> Batch:
    """Run the frozen part, as the trainer does before the loss."""
    ref = objective.trunk(batch.ref[0]) if batch.ref is not None and objective.needs_reference else None
    return dataclasses.replace(batch, dist=objective.trunk(batch.dist[0]), ref=ref)


def sixteen(side: int) -> Batch:
    """Make the pairs: crops of a photograph, each with a distortion; a stronger one has a lower label."""
    photograph = read_image(PHOTOGRAPH)
    rng = np.random.default_rng(0)
    pairs, labels, classes = [], [], []
    for number, kind in enumerate(KINDS):
        for level in LEVELS:
            top, left = (int(rng.integers(0, size - side + 1)) for size in photograph.shape[-2:])
            clean = photograph[:, top : top + side, left : left + side]
            pixels = distort(clean.permute(1, 2, 0).numpy(), kind, level, rng)
            pairs.append((torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float(), clean))
            labels.append(0.95 - 0.9 * (LEVELS.index(level) * len(KINDS) + number) / (len(KINDS) * len(LEVELS) - 1))
            classes.append(DISTORTIONS.index(find_distortion(kind).liqe_class))
    dist, ref = (torch.stack(images) for images in zip(*pairs, strict=True))
    return Batch(
        dist=[dist],
        ref=[ref],
        mos=torch.tensor(labels),
        distortion=torch.tensor(classes),
        source=torch.zeros(len(labels), dtype=torch.int64),
    )


def build(method: str, work: Path, batch: Batch, *, whole: bool) -> Objective:
    """Build a method's objective by its recipe, from random files; BPCLIP's backbone is frozen unless `whole`."""
    recipe = read_recipe(f"paper/{method}", data={"csv": "none"})
    files = {key: str(starting_file(value, work, batch)) for key, value in recipe.init.items() if key != "teacher"}
    if method != "pfd-iqa":
        objective_class: type[Objective] = named_class(objectives()[method])
        changes = {"dropout": 0.0, "frozen_levels": 0 if whole else 5} if method.startswith("bpclip") else {}
        return objective_class.from_recipe(method, dict(recipe.model) | changes, files)
    teacher = build("pfd-teacher", work, batch, whole=whole)
    if (work / "pfd-teacher.safetensors").exists():
        load_state(work / "pfd-teacher.safetensors", teacher)
    assert isinstance(teacher, PfdTeacherObjective)
    config = PfdIqaConfig.from_dict({key: value for key, value in recipe.model.items() if key != "loss"})
    student = PfdIqa(config)
    student.load_encoder(files["backbone"])
    prompts = {"distortion_prompts": distortion_prompts(), "quality_prompts": quality_prompts()}
    shapes = {name: (len(texts), config.text_width) for name, texts in prompts.items()}
    features = read_text_features(files["anchors"], shapes, prompts)
    student.set_prompts(features["distortion_prompts"], features["quality_prompts"])
    objective = PfdIqaObjective(student, teacher.model)
    objective.teacher = HeldTeacher(teacher.model, batch)  # type: ignore[assignment]
    return objective


class HeldTeacher(torch.nn.Module):
    """A teacher's outputs for the sixteen, computed once; `head` returns those at `rows`."""

    def __init__(self, teacher: PfdTeacher, batch: Batch) -> None:
        super().__init__()
        self.rows = torch.arange(len(batch))
        with torch.no_grad():
            self.output = teacher.eval().head(teacher.trunk(batch.dist[0]))

    def head(self, _: Any) -> TeacherOutput:
        """Return the outputs at `rows`."""
        return TeacherOutput(*(tensor[self.rows] for tensor in self.output))


def starting_file(name: str, work: Path, batch: Batch) -> Path:
    """Write a random file in upstream format if there is none yet; the tests have the writers."""
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    import paper_files

    path = work / f"{name}.safetensors"
    if path.exists():
        return path
    writers: dict[str, Callable[[Path], object]] = {
        "resnet50_tv_in1k": partial(paper_files.write_resnet50, images=batch.dist[0]),
        "deit3_small_fb_in22k_ft_in1k": paper_files.write_deit3,
        "clip_rn50_openai": paper_files.write_clip_rn50,
        "clip_vit_b16_openai": paper_files.write_clip_vit_b16,
    }
    paper_files.seeded()
    begun = path.with_suffix(".tmp")
    writers[name](begun)
    begun.replace(path)
    return path


if __name__ == "__main__":
    main()
