"""What BPCLIP minimises: the squared error of eq. 10, with an optional loss on the order of pairs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from iqametrics.bpclip.anchors import load_anchors
from iqametrics.bpclip.config import BpclipConfig
from iqametrics.bpclip.model import Bpclip
from iqametrics.errors import RecipeError
from iqametrics.nn.backbones import load_backbone
from iqametrics.objective import Batch, Objective, Statistics, check_init, read_loss, require_backbone
from iqametrics.weights.checkpoint import fill, load_checkpoint

_MODES = {"bpclip-fr": "fr", "bpclip-nr": "nr"}


@dataclass(frozen=True, kw_only=True)
class BpclipLossConfig:
    """Weights of the parts of the loss; the defaults are the paper's.

    Attributes:
        mse_weight: Weight of the mean squared error between predicted and opinion scores.
        rank_weight: Weight of the pairwise hinge `rank_loss`, which the paper does not have.
    """

    mse_weight: float = 1.0
    rank_weight: float = 0.0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "BpclipLossConfig":
        """Read a TOML table.

        Raises:
            RecipeError: If a key is unknown, a value is no number or negative, or both weights are zero.
        """
        config = read_loss(cls, values)
        if config.mse_weight == config.rank_weight == 0:
            raise RecipeError("mse_weight and rank_weight are both 0, so nothing would be learnt; raise one")
        return config


class BpclipObjective(Objective):
    """BPCLIP in training, eq. 10: mean squared error on opinion scores in [0, 1], higher is better.

    Args:
        model: The network.
        loss: Weights of the loss's parts.
        fine_tuning: Whether the model is already trained; its level statistics and score bias then stay as they are.
    """

    model: Bpclip

    def __init__(self, model: Bpclip, loss: BpclipLossConfig | None = None, *, fine_tuning: bool = False) -> None:
        super().__init__()
        self.fine_tuning = fine_tuning
        self.model = model
        self.loss_config = loss or BpclipLossConfig()
        self.needs_reference = model.config.mode == "fr"

    @classmethod
    def from_recipe(cls, metric_name: str, model: dict[str, Any], init: dict[str, str]) -> "BpclipObjective":
        """Build from a recipe.

        Args:
            metric_name: "bpclip-fr" or "bpclip-nr", which decides the mode.
            model: Fields of `BpclipConfig` without `mode`, and optionally a table `loss` with fields of
                `BpclipLossConfig`.
            init: Files to start from. Either `backbone`, a safetensors file of the backbone, needed where levels are
                frozen, and `anchors`, a safetensors file with a tensor "anchors" (K, C_t) or open_clip's file of a
                CLIP model, needed with text anchors; or `checkpoint`, a checkpoint of this method and config.

        Raises:
            RecipeError: If a name or a value is not known or impossible, or a starting file is needed and not given.
            WeightsError: If a file cannot be read or does not fit.
        """
        if metric_name not in _MODES:
            raise RecipeError(f"metric {metric_name!r} is not BPCLIP; choose one of {', '.join(_MODES)}")
        check_init(init, ("backbone", "anchors", "checkpoint"))
        values = dict(model)
        loss = BpclipLossConfig.from_dict(values.pop("loss", {}))
        if values.setdefault("mode", _MODES[metric_name]) != _MODES[metric_name]:
            raise RecipeError(f"mode = {values['mode']!r} contradicts metric = {metric_name!r}; leave mode out")
        network = Bpclip(BpclipConfig.from_dict(values))
        if "checkpoint" in init:
            fill(network, load_checkpoint(init["checkpoint"])[1], source=init["checkpoint"])
            return cls(network, loss, fine_tuning=True)
        require_backbone(init, network.config.frozen_levels)
        if network.config.text_anchors and "anchors" not in init:
            raise RecipeError(
                "init.anchors is missing: the score would be made of similarities to random vectors; give the file "
                "that weights/make_anchors.py writes, or model.text_anchors = false"
            )
        if "backbone" in init:
            load_backbone(network.backbone, init["backbone"])
        if "anchors" in init:
            network.set_anchors(load_anchors(init["anchors"], network.config.n_anchors, network.config.text_width))
        return cls(network, loss)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the weighted loss and its parts: `mse`, and `rank` where it has a weight."""
        # Under autocast the scores are in half precision; their differences need float32.
        scores = self.model.head(batch.dist, batch.ref).to(batch.mos.dtype)
        parts = {"mse": F.mse_loss(scores, batch.mos)}
        total = self.loss_config.mse_weight * parts["mse"]
        if self.loss_config.rank_weight:
            everyone = (batch.gather(values) for values in (scores, batch.mos, batch.source))
            parts["rank"] = batch.of_all(rank_loss(*everyone))
            total = total + self.loss_config.rank_weight * parts["rank"]
        return total, {name: part.detach() for name, part in parts.items()}

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Score whole images: (N,). The model stays in training or evaluation mode, whichever it was in."""
        training = self.model.training
        self.model.eval()
        scores = self.model.head(batch.dist, batch.ref)
        self.model.train(training)
        return scores

    @torch.no_grad()
    def statistics_levels(self, trunk: list[Tensor]) -> list[Tensor]:
        """Compute all five levels, whose statistics the model standardises by."""
        return self.model.levels(trunk)

    def initialise(self, statistics: Statistics) -> None:
        """Start the score at the mean opinion score and store the levels' statistics; do nothing in fine-tuning."""
        if self.fine_tuning:
            return
        with torch.no_grad():
            self.model.score.out.bias.fill_(statistics.mos_mean)
        self.model.set_level_statistics(statistics.level_means, statistics.level_stds)


def rank_loss(scores: Tensor, mos: Tensor, source: Tensor) -> Tensor:
    """Average max(0, p_j - p_i) over the pairs of one source in which i has the higher opinion score.

    Args:
        scores: Predictions p, (N,).
        mos: Opinion scores, (N,).
        source: Number of the scale that an opinion score is on, (N,); pairs across sources do not count.

    Returns:
        A scalar, 0 where every pair is in order or there is no pair.
    """
    better = (mos[:, None] > mos[None, :]) & (source[:, None] == source[None, :])
    wrong = F.relu(scores[None, :] - scores[:, None])
    return (wrong * better).sum() / better.sum().clamp(min=1)
