"""What BPCLIP minimises: the squared error of eq. 10, with optional losses on order and on words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from iqametrics.bpclip.anchors import load_anchors, read_adjectives
from iqametrics.bpclip.config import LEVELS, BpclipConfig
from iqametrics.bpclip.model import Bpclip
from iqametrics.bpclip.word_loss import said, word_loss
from iqametrics.errors import RecipeError
from iqametrics.nn.backbones import load_backbone
from iqametrics.objective import Batch, Objective, Statistics, check_init, read_loss, require_backbone
from iqametrics.ranking import order_loss, scored_mean
from iqametrics.weights.checkpoint import fill, load_checkpoint

_ADJECTIVES = len(read_adjectives())
_MODES = {"bpclip-fr": "fr", "bpclip-nr": "nr"}


@dataclass(frozen=True, kw_only=True)
class BpclipLossConfig:
    """Weights of the parts of the loss; the defaults are the paper's.

    Attributes:
        mse_weight: Weight of the mean squared error between predicted and opinion scores.
        rank_weight: Weight of the pairwise hinge `rank_loss`, which the paper does not have.
        order_weight: Weight of the hinge on versions of one image, `iqametrics.ranking.order_loss`, which the paper
            does not have either; for data that are `ranked`.
        order_margin: Distance at least between the scores of ranks 0 and 1.
        word_weight: Weight of `iqametrics.bpclip.word_loss.word_loss`, which makes adjectives true of known damage and
            is no part of the paper; for data that are `ranked`, without reference.
    """

    mse_weight: float = 1.0
    rank_weight: float = 0.0
    order_weight: float = 0.0
    order_margin: float = 0.4
    word_weight: float = 0.0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "BpclipLossConfig":
        """Read a TOML table.

        Raises:
            RecipeError: If a key is unknown, a value is no number or negative, or both weights are zero.
        """
        config = read_loss(cls, values)
        if config.mse_weight == config.rank_weight == config.order_weight == 0:
            raise RecipeError("mse_weight, rank_weight and order_weight are all 0: no score would be learnt; raise one")
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
        self.learns_order = max(self.loss_config.order_weight, self.loss_config.word_weight) > 0

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
        check_init(init, ("backbone", "anchors", "checkpoint"))
        network, loss = cls._parts(metric_name, model)
        if network.config.frozen_pooling and "checkpoint" not in init:
            raise RecipeError(
                "init.checkpoint is missing: frozen_pooling = true would keep random gates; give a trained checkpoint"
            )
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

    @classmethod
    def blank(
        cls, metric_name: str, model: dict[str, Any], init: dict[str, str], teacher: Objective | None = None
    ) -> "BpclipObjective":
        """Build with random weights, for a plan; `init` and `teacher` are not looked at."""
        return cls(*cls._parts(metric_name, model))

    @staticmethod
    def _parts(metric_name: str, model: Mapping[str, Any]) -> tuple[Bpclip, BpclipLossConfig]:
        """Build the network, with random weights, and read the loss."""
        if metric_name not in _MODES:
            raise RecipeError(f"metric {metric_name!r} is not BPCLIP; choose one of {', '.join(_MODES)}")
        values = dict(model)
        loss = BpclipLossConfig.from_dict(values.pop("loss", {}))
        if values.setdefault("mode", _MODES[metric_name]) != _MODES[metric_name]:
            raise RecipeError(f"mode = {values['mode']!r} contradicts metric = {metric_name!r}; leave mode out")
        config = BpclipConfig.from_dict(values)
        if loss.word_weight and (config.mode == "fr" or not config.text_anchors or config.n_anchors != _ADJECTIVES):
            raise RecipeError(
                f"model.loss.word_weight = {loss.word_weight}: words are learnt by bpclip-nr with its text anchors, "
                f"all {_ADJECTIVES}; leave it out"
            )
        return Bpclip(config), loss

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the weighted loss and its parts: `mse`, and `rank`, `order` and `word` where they have a weight."""
        if batch.chains is not None:
            return self._loss_with_order(batch, batch.chains)
        # Under autocast the scores are in half precision; their differences need float32.
        scores = self._scores(batch).to(batch.mos.dtype)
        parts = {"mse": F.mse_loss(scores, batch.mos)}
        total = self.loss_config.mse_weight * parts["mse"]
        if self.loss_config.rank_weight:
            everyone = (batch.gather(values) for values in (scores, batch.mos, batch.source))
            parts["rank"] = batch.of_all(rank_loss(*everyone))
            total = total + self.loss_config.rank_weight * parts["rank"]
        return total, {name: part.detach() for name, part in parts.items()}

    def _loss_with_order(self, batch: Batch, chains: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of a batch in which some images have a rank in place of an opinion score."""
        config = self.loss_config
        numbers = None
        if config.word_weight:
            descriptors = self._descriptors(batch)
            scores, numbers = self.model.score(descriptors), batch.gather(said(descriptors).to(batch.mos.dtype))
        else:
            scores = self._scores(batch)
        scores = scores.to(batch.mos.dtype)
        scores, mos, source, chains = (batch.gather(values) for values in (scores, batch.mos, batch.source, chains))
        parts = {"mse": scored_mean((scores - mos).square(), chains)}
        if config.rank_weight:
            scored = chains[:, 0] < 0
            parts["rank"] = rank_loss(scores[scored], mos[scored], source[scored])
        if config.order_weight:
            parts["order"] = order_loss(scores, mos, chains, margin=config.order_margin)
        if numbers is not None and batch.words is not None:
            parts["word"] = word_loss(numbers, batch.gather(batch.words))
        parts = {name: batch.of_all(part) for name, part in parts.items()}
        total = torch.stack([getattr(config, f"{name}_weight") * part for name, part in parts.items()]).sum()
        return total, {name: part.detach() for name, part in parts.items()}

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Score whole images: (N,). The model stays in training or evaluation mode, whichever it was in."""
        training = self.model.training
        self.model.eval()
        scores = self._scores(batch)
        self.model.train(training)
        return scores

    def _scores(self, batch: Batch) -> Tensor:
        if self.model.config.mode == "nr" and batch.ref is None:
            return self.model.score(self._descriptors(batch))
        return self.model.head(batch.dist, batch.ref)

    def _descriptors(self, batch: Batch) -> Tensor:
        """Compute what the score MLP reads, without reference: (N, n - 1, K)."""
        if self.model.config.frozen_pooling:
            return self.model.encode_gated(batch.dist).descriptors
        return self.model.encode(self.model.levels(batch.dist)).descriptors

    def trunk(self, images: Tensor) -> list[Tensor]:
        """Compute the frozen levels, or with `frozen_pooling` their gated window means."""
        levels = super().trunk(images)
        if not self.model.config.frozen_pooling:
            return levels
        with torch.no_grad():
            return self.model.gated(levels)

    @property
    def trunk_strides(self) -> tuple[int, ...]:
        """Pixels a value in each of the trunk's maps; gated window means all lie on the smallest level's grid."""
        if self.model.config.frozen_pooling:
            return (2**LEVELS,) * LEVELS
        return super().trunk_strides

    def trunk_tensors(self) -> dict[str, Tensor]:
        """Return the backbone's tensors and, with `frozen_pooling`, those of the gates and the levels' statistics."""
        tensors = dict(super().trunk_tensors())
        if self.model.config.frozen_pooling:
            state = self.model.state_dict()
            held = ("standardise.", "pooling.")
            tensors |= {
                name: value for name, value in state.items() if name.startswith(held) and ".reduce." not in name
            }
        return tensors

    @torch.no_grad()
    def statistics_levels(self, trunk: list[Tensor]) -> list[Tensor]:
        """Compute all five levels, whose statistics the model standardises by."""
        return trunk if self.model.config.frozen_pooling else self.model.levels(trunk)

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
