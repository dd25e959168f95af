"""What PFD-IQA's student minimises, and what its objective shares with the teacher's."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqametrics.errors import RecipeError
from iqametrics.nn.levels import LEVELS
from iqametrics.nn.text_features import read_text_features
from iqametrics.objective import Batch, Objective, Statistics, check_init, draw_each, read_loss, require_backbone
from iqametrics.pfd_iqa.config import EncoderConfig, PfdIqaConfig, PfdTeacherConfig
from iqametrics.pfd_iqa.encoder import WindowEncoder
from iqametrics.pfd_iqa.model import PfdIqa, PfdOutput
from iqametrics.pfd_iqa.priors import channel_mask, prior_divergence
from iqametrics.pfd_iqa.prompts import DISTORTIONS, QUALITIES, distortion_prompts, quality_prompts
from iqametrics.pfd_iqa.teacher import PfdTeacher
from iqametrics.ranking import order_loss, scored_mean
from iqametrics.weights.checkpoint import build_and_fill, load_checkpoint


@dataclass(frozen=True, kw_only=True)
class PfdLossConfig:
    """Weights of the parts of equation 13; the defaults are the paper's.

    Attributes:
        kl_weight: Weight lambda_1 of L_KL.
        ldm_weight: Weight lambda_2 of L_ldm.
        fea_weight: Weight lambda_3 of L_fea.
        regression: Loss on the score: L1, as in eq. 13, or SmoothL1, quadratic below 1 (DEIQT).
        label_scale: Factor of both score and opinion score in that loss; DEIQT's labels range to about 100, against
            which the other weights of eq. 13 are a hundred times smaller.
        order_weight: Weight of the hinge on versions of one image, `iqametrics.ranking.order_loss`, which the paper
            does not have; for data that are `ranked`.
        order_margin: Distance at least between the scores of ranks 0 and 1.
    """

    kl_weight: float = 0.5
    ldm_weight: float = 1.0
    fea_weight: float = 0.01
    regression: Literal["l1", "smooth_l1"] = "l1"
    label_scale: float = 1.0
    order_weight: float = 0.0
    order_margin: float = 0.4


class Draws(NamedTuple):
    """Random numbers of the student's loss for a batch.

    Attributes:
        noise: Noise of equation 10, (N, C_t, grid, grid).
        mask: M_c of equation 1, (N, C_t, 1, 1), of zeros and ones.
        times: Time steps of equation 9, (N,), int64.
        trajectory: Noise of equation 8, (N, C_t, grid, grid).
    """

    noise: Tensor
    mask: Tensor
    times: Tensor
    trajectory: Tensor


class WindowObjective(Objective):
    """Base of the objectives of student and teacher, whose models are both a `WindowEncoder`."""

    model: WindowEncoder

    def __init__(self, model: WindowEncoder) -> None:
        super().__init__()
        self.model = model
        self.needed_levels = needed_levels(model.config)

    def statistics_levels(self, trunk: list[Tensor]) -> list[Tensor]:
        """Compute levels 4 and 5 as one map on the grid of cells, if the encoder standardises them; else nothing."""
        config = self.model.config
        if not (self.model.is_convolutional and config.standardise_levels):
            return []
        with torch.no_grad():
            return [self.model.raw_cells(trunk)]

    def initialise(self, statistics: Statistics) -> None:
        """Store the statistics of the levels."""
        if statistics.level_means:
            self.model.set_level_statistics(statistics.level_means, statistics.level_stds)


class PfdIqaObjective(WindowObjective):
    """The student's loss, equation 13: 0.5 L_KL + L_ldm + 0.01 L_fea + |score - opinion score|.

    Student and teacher see the same windows. Without PDA there is no L_KL, without PDR no L_ldm and no L_fea, and
    without both no teacher.

    Args:
        model: The student.
        teacher: A trained teacher; it is frozen, and not stored in the checkpoint.
        loss: Weights of the parts.

    Raises:
        RecipeError: If the loss needs a teacher and there is none, or it does not fit the student.
    """

    model: PfdIqa

    def __init__(self, model: PfdIqa, teacher: PfdTeacher | None, loss: PfdLossConfig | None = None) -> None:
        super().__init__(model)
        if teacher is None and (model.config.use_pda or model.config.use_pdr):
            raise RecipeError("PFD-IQA learns from a teacher: give the path of its checkpoint as init.teacher")
        if teacher is not None:
            check_teacher(model, teacher)
            teacher.requires_grad_(False)
        self.teacher = teacher
        self.weights = loss or PfdLossConfig()
        self.learns_order = self.weights.order_weight > 0

    @classmethod
    def from_recipe(cls, metric_name: str, model: dict[str, Any], init: dict[str, str]) -> "PfdIqaObjective":
        """Build from a recipe.

        Args:
            metric_name: "pfd-iqa".
            model: Fields of `PfdIqaConfig`, and optionally a table `loss` with fields of `PfdLossConfig`.
            init: `teacher`, a checkpoint of a teacher; `backbone`, a safetensors file of the encoder, needed where
                levels are frozen; `anchors`, a safetensors file of "distortion_prompts" (11, C_t) and "quality_prompts"
                (5, C_t), or open_clip's file of a CLIP model, needed with PDA.

        Raises:
            RecipeError: If a key or a value is not known or impossible, or a starting file is needed and not given.
            WeightsError: If a file cannot be read or does not fit.
        """
        check_init(init, ("backbone", "anchors", "teacher"))
        values, loss = split_loss(model, PfdLossConfig)
        student = PfdIqa(PfdIqaConfig.from_dict(values))
        require_backbone(init, student.config.frozen_levels)
        if "backbone" in init:
            student.load_encoder(init["backbone"])
        if student.config.use_pda:
            require_prompts(init, "give the file that weights/make_anchors.py writes, or model.use_pda = false")
            width = student.config.text_width
            shapes = {"distortion_prompts": (len(DISTORTIONS), width), "quality_prompts": (len(QUALITIES), width)}
            prompts = {"distortion_prompts": distortion_prompts(), "quality_prompts": quality_prompts()}
            found = read_text_features(init["anchors"], shapes, prompts)
            student.set_prompts(*(found[name] for name in shapes))
        return cls(student, load_teacher(init["teacher"]) if "teacher" in init else None, loss)

    @classmethod
    def blank(
        cls, metric_name: str, model: dict[str, Any], init: dict[str, str], teacher: Objective | None = None
    ) -> "PfdIqaObjective":
        """Build with random weights, for a plan, with the blank teacher or the checkpoint that `init` names.

        Raises:
            RecipeError: If a value is impossible, or there is no teacher.
        """
        values, loss = split_loss(model, PfdLossConfig)
        student = PfdIqa(PfdIqaConfig.from_dict(values))
        given = load_teacher(init["teacher"]) if "teacher" in init else None
        network = teacher.model if isinstance(teacher, WindowObjective) else given
        if network is not None and not isinstance(network, PfdTeacher):
            raise RecipeError(f"init.teacher makes a {type(network).__name__}, and PFD-IQA learns from a PfdTeacher")
        if network is not None and student.config.frozen_levels:
            # They start from one file.
            network.backbone.load_state_dict(student.backbone.state_dict(), strict=False)
        return cls(student, network, loss)

    def checkpoint_activations(self) -> None:
        """Compute the activations of the denoising steps again in the backward pass.

        Raises:
            RecipeError: If the ablation has no such steps.
        """
        if self.model.refinement is None:
            super().checkpoint_activations()
        else:
            self.model.refinement.checkpointing = True

    def initialise(self, statistics: Statistics) -> None:
        """Store the statistics of the levels, and start the score at the mean opinion."""
        super().initialise(statistics)
        nn.init.constant_(self.model.decoder.score.bias, statistics.mos_mean)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch of windows, and its parts without their weights."""
        draws = self._draw(batch)
        mask = draws.mask if self.training else None
        output = self.model.head(batch.dist, noise=draws.noise, mask=mask)
        total, parts = self._judged(batch, output.score.to(batch.mos.dtype))
        for name, value in self._teacher_parts(batch, output, draws).items():
            parts[name] = value
            total = total + getattr(self.weights, f"{name}_weight") * value
        return total, parts

    def _judged(self, batch: Batch, scores: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss on opinion scores and, where some images have a rank in place of one, that on order."""
        distance = F.l1_loss if self.weights.regression == "l1" else F.smooth_l1_loss
        scale, mos = self.weights.label_scale, batch.mos
        if batch.chains is None:
            value = distance(scale * scores, scale * mos)
            return value, {"l1": value}
        scores, mos, chains = (batch.gather(values) for values in (scores, mos, batch.chains))
        gaps = distance(scale * scores, scale * mos, reduction="none")
        parts = {
            "l1": batch.of_all(scored_mean(gaps, chains)),
            "order": batch.of_all(order_loss(scores, mos, chains, margin=self.weights.order_margin)),
        }
        return parts["l1"] + self.weights.order_weight * parts["order"], parts

    def _draw(self, batch: Batch) -> "Draws":
        """Draw what a batch needs at random, each image by its own seed, where the step runs.

        A batch of 128 needs 25 million normal numbers, for which a GPU would wait if they came from the CPU. A GPU
        draws other numbers than a CPU does from the same seed.
        """
        config, generators = self.model.config, batch.generators()
        shape = self.model.noise_shape(1)[1:]
        mos, channels = batch.mos, config.text_width

        def normal(g: torch.Generator) -> Tensor:
            return torch.randn(shape, generator=g, dtype=torch.float32, device=g.device)

        return Draws(
            noise=draw_each(generators, normal).to(mos),
            mask=channel_mask(generators, channels, config.mask_ratio).to(mos),
            times=draw_each(generators, lambda g: torch.randint(config.timesteps, (), generator=g, device=g.device)).to(
                mos.device
            ),
            trajectory=draw_each(generators, normal).to(mos),
        )

    def _teacher_parts(self, batch: Batch, output: PfdOutput, draws: "Draws") -> dict[str, Tensor]:
        """Compute L_KL, L_ldm and L_fea, as far as the ablation has them."""
        if self.teacher is None:
            return {}
        with torch.no_grad():
            target = self.teacher.head(batch.dist)
        parts: dict[str, Tensor] = {}
        condition = None
        if output.distortion_logits is not None and output.quality_logits is not None:
            condition = self.model.condition(target.distortion_probs, target.quality_probs)
            divergences = (
                prior_divergence(target.distortion_probs, output.distortion_logits),
                prior_divergence(target.quality_probs, output.quality_logits),
            )
            parts["kl"] = divergences[0] + divergences[1]
        if self.model.refinement is not None:
            parts["ldm"] = self.model.refinement.trajectory_loss(
                target.features, condition, times=draws.times, noise=draws.trajectory
            )
            parts["fea"] = self.model.refinement.feature_loss(output.refined, target.features)
        return parts

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Score whole images by all their windows: (N,)."""
        self.model.eval()
        return self.model.score_samples(batch.dist).mean(dim=1)


def needed_levels(config: EncoderConfig) -> tuple[int, ...] | None:
    """Return the numbers of the frozen levels that the encoder uses: the last one, or the last two of five."""
    if not config.frozen_levels:
        return None
    return (LEVELS - 1, LEVELS) if config.frozen_levels == LEVELS else (config.frozen_levels,)


def load_teacher(path: str | Path) -> PfdTeacher:
    """Build the teacher that a checkpoint describes.

    Raises:
        WeightsError: If the file cannot be read or is no checkpoint of a teacher.
    """
    metadata, tensors = load_checkpoint(path)
    config = metadata["config"]
    teacher = build_and_fill(lambda: PfdTeacher(PfdTeacherConfig.from_dict(config)), tensors, source=str(path))
    assert isinstance(teacher, PfdTeacher)
    return teacher


def check_teacher(student: PfdIqa, teacher: PfdTeacher) -> None:
    """Check that a teacher can judge the student's windows.

    Raises:
        RecipeError: If the two differ in the text space, in the windows, or in the frozen levels that they share.
    """
    for name in ("text_width", "grid", "crop_size", "crop_space", "frozen_levels"):
        ours, theirs = getattr(student.config, name), getattr(teacher.config, name)
        if ours != theirs:
            raise RecipeError(f"{name} = {ours} of the student is {theirs} in its teacher; make them the same")
    if not student.config.frozen_levels:
        return
    if student.config.encoder != teacher.config.encoder or not _same_frozen_part(student, teacher):
        raise RecipeError(
            "student and teacher share their frozen levels, but init.backbone is not what the teacher has there; "
            "start both from the same file"
        )


def _same_frozen_part(student: PfdIqa, teacher: PfdTeacher) -> bool:
    stages = student.levels_backbone.stage_modules(above_level=student.config.frozen_levels)
    upper = {id(parameter) for parameter in stages.parameters()}
    theirs = dict(teacher.backbone.named_parameters())
    # The teacher may have been stored in half precision.
    return all(
        torch.allclose(parameter, theirs[name], rtol=1e-2, atol=1e-3)
        for name, parameter in student.backbone.named_parameters()
        if id(parameter) not in upper
    )


def split_loss(model: Mapping[str, Any], loss_class: type[Any]) -> tuple[dict[str, Any], Any]:
    """Split a recipe's [model] into its other fields and its table `loss`.

    Raises:
        RecipeError: If one of its keys is unknown, or a weight is no number or negative.
    """
    values = dict(model)
    loss = read_loss(loss_class, values.pop("loss", {}))
    return values, loss


def require_prompts(init: Mapping[str, str], remedy: str) -> None:
    """Refuse to compare with prompts that nothing was loaded into.

    Raises:
        RecipeError: If the recipe's [init] names no anchors.
    """
    if "anchors" not in init:
        raise RecipeError(f"init.anchors is missing: every prompt's embedding would be zero; {remedy}")
