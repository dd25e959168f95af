"""Tiny recipes of the real objectives."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from training_fake import write_dataset

from iqametrics.nn.efficientnet_lite import EfficientNetLite0
from iqametrics.objective import Batch, Objective
from iqametrics.training import run
from iqametrics.training.planning import blank_objective
from iqametrics.training.recipe import parse_recipe

_PFD = {
    "encoder": "efficientnet_lite0",
    "crop_space": "feature",
    "frozen_levels": 5,
    "grid": 2,
    "crop_size": 64,
    "text_width": 8,
    "n_crops": 2,
    "standardise_levels": True,
    "logit_scale": 5.0,
}
MODELS = {
    "bpclip-nr": {
        "backbone": "efficientnet_lite0",
        "frozen_levels": 4,
        "width": 8,
        "heads": 2,
        "gate_max_width": 4,
        "position_size": 4,
        "dropout": 0.0,
        "standardise_levels": True,
        "text_width": 8,
        "n_anchors": 4,
        "logit_scale": 5.0,
        "loss": {"rank_weight": 0.5},
    },
    "pfd-teacher": _PFD,
    "pfd-iqa": {**_PFD, "encoder_width": 8, "norm": "group", "sampling_steps": 2, "decoder_heads": 2, "panel": 2},
}


def write_starting_files(folder: Path) -> None:
    """A dataset of 12 images, a random backbone whose statistics fit it, and random sentences."""
    (folder / "data").mkdir()
    write_dataset(folder / "data", count=12, sizes=((64, 64), (72, 66)))
    torch.manual_seed(0)
    backbone = EfficientNetLite0().train()
    with torch.no_grad():
        for _ in range(8):  # so that the stored statistics are those of images
            backbone(torch.rand(4, 3, 64, 64))
    save_file(backbone.state_dict(), folder / "backbone.safetensors")
    shapes = {"anchors": 4, "distortion_prompts": 11, "quality_prompts": 5, "joint_prompts": 55}
    save_file({name: torch.randn(count, 8) for name, count in shapes.items()}, folder / "anchors.safetensors")


def tables(metric: str, init: dict | None = None, **train) -> dict:
    """Tables of a recipe of one epoch: two steps, of four and five images."""
    return {
        "metric": {"name": metric, "tag": "tiny"},
        "model": MODELS[metric],
        "init": {"backbone": "./backbone.safetensors", "anchors": "./anchors.safetensors", **(init or {})},
        "data": {"csv": "data/data.csv"},
        "split": {"validation": 0.25, "by": "image"},
        "train": {
            "epochs": 1,
            "batch_size": 5,
            "crop": 64,
            "lr": 1e-3,
            "ema": 0.5,
            "device": "cpu",
            "workers": 1,
            "save_every": 0,
            "keep_state": True,
            **train,
        },
        "cache": {"enabled": True, "dtype": "float32", "folder": "cache"},
    }


def write_ranked(folder: Path) -> None:
    """Three versions of one image, which come together in a step: one of two processes has none of them."""
    (folder / "ranked").mkdir()
    table = write_dataset(folder / "ranked", count=3, sizes=((64, 64),))
    rows = ["image,mos,group,distortion", "0.png,1,A,", "1.png,0.6,A,white_noise", "2.png,0.2,A,white_noise"]
    table.write_text("\n".join(rows) + "\n")


def ranked_tables() -> dict:
    """Tables of a recipe that learns the order of `write_ranked`'s images beside the scores of the others."""
    recipe = tables("bpclip-nr", batch_size=12, lr=1e-5)
    loss = {"rank_weight": 0.5, "order_weight": 0.5}
    recipe["model"] = {**recipe["model"], "loss": loss}
    recipe["data"] = {**recipe["data"], "extra": [{"csv": "ranked/data.csv", "ranked": True}]}
    return recipe


def train(folder: Path, recipe: dict, name: str, *, resume: bool = False) -> Path:
    """Train tables in a subfolder."""
    return run.train_recipe(parse_recipe(recipe, folder), folder / name, resume=resume)


def step_of(metric: str) -> tuple[Objective, Batch]:
    """An objective with random weights, and what its trunk makes of three crops of noise."""
    torch.manual_seed(0)
    folder = Path("/nowhere")
    first = blank_objective(parse_recipe(tables("pfd-teacher"), folder)) if metric == "pfd-iqa" else None
    init = {"teacher": "teacher.toml"} if first is not None else {}
    objective = blank_objective(parse_recipe(tables(metric, init), folder), first).train()
    generator = torch.Generator().manual_seed(1)
    crops = Batch(
        dist=objective.trunk(torch.rand(3, 3, 64, 64, generator=generator)),
        ref=None,
        mos=torch.tensor([0.2, 0.5, 0.9]),
        distortion=torch.tensor([0, -1, 3]),
        source=torch.tensor([0, 1, 1]),
        seeds=torch.arange(3),
    )
    return objective, crops
