"""What PFD-IQA's teacher minimises, in the way of LIQE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from iqametrics.nn.clip_text import ClipTextTower
from iqametrics.nn.text_features import load_text_tower, read_text_features
from iqametrics.nn.tokenizer import tokenize
from iqametrics.objective import Batch, Objective, check_init, require_backbone
from iqametrics.pfd_iqa.config import PfdTeacherConfig
from iqametrics.pfd_iqa.losses import distortion_fidelity, dynamic_weights, pairwise_fidelity, scene_fidelity
from iqametrics.pfd_iqa.objective import WindowObjective, require_prompts, split_loss
from iqametrics.pfd_iqa.prompts import QUALITIES, joint_prompts
from iqametrics.pfd_iqa.teacher import PfdTeacher


@dataclass(frozen=True, kw_only=True)
class TeacherLossConfig:
    """Weights of the parts of the teacher's loss.

    Attributes:
        quality_weight: Weight of the pairwise fidelity loss on quality.
        distortion_weight: Weight of the fidelity loss on the type of distortion.
        scene_weight: Weight of the fidelity loss on the scenes, which counts where the prompts name them.
        dynamic: Whether each epoch multiplies the weights by those of `losses.dynamic_weights`, as LIQE does.
        temperature: Temperature of the dynamic weights.
    """

    quality_weight: float = 1.0
    distortion_weight: float = 1.0
    scene_weight: float = 1.0
    dynamic: bool = False
    temperature: float = 2.0


class PfdTeacherObjective(WindowObjective):
    """The teacher's loss, LIQE's: fidelity of the order of pairs, of the type of distortion, and of the scenes.

    Args:
        model: The teacher.
        loss: Weights of the parts.
        text: Text tower that is trained too; its features of the joint prompts replace those that the model holds,
            which are brought up to date whenever the objective goes into evaluation mode.
    """

    model: PfdTeacher
    tokens: Tensor

    def __init__(
        self, model: PfdTeacher, loss: TeacherLossConfig | None = None, text: ClipTextTower | None = None
    ) -> None:
        super().__init__(model)
        self.weights = loss or TeacherLossConfig()
        self.parts = ("quality", "distortion", "scene") if model.config.scenes else ("quality", "distortion")
        self.factors = [1.0] * len(self.parts)
        self.text = text
        if text is not None:
            tokens = tokenize(joint_prompts(scenes=model.config.scenes), text.context_length)
            self.register_buffer("tokens", tokens, persistent=False)

    @classmethod
    def from_recipe(cls, metric_name: str, model: dict[str, Any], init: dict[str, str]) -> "PfdTeacherObjective":
        """Build from a recipe.

        Args:
            metric_name: "pfd-teacher".
            model: Fields of `PfdTeacherConfig`, and optionally a table `loss` with fields of `TeacherLossConfig`.
            init: `anchors`, a safetensors file with a tensor "joint_prompts" (55, C_t), or (495, C_t) with scenes, or
                open_clip's file of a CLIP model, which a trained text tower needs; and `backbone`, a safetensors file
                of the encoder, needed where levels are frozen. For CLIP ViT-B/16 both are the same file.

        Raises:
            RecipeError: If a key or a value is not known or impossible, or a starting file is needed and not given.
            WeightsError: If a file cannot be read or does not fit.
        """
        check_init(init, ("backbone", "anchors"))
        values, loss = split_loss(model, TeacherLossConfig)
        teacher = PfdTeacher(PfdTeacherConfig.from_dict(values))
        require_backbone(init, teacher.config.frozen_levels)
        require_prompts(init, "give the file that weights/make_anchors.py writes")
        if "backbone" in init:
            teacher.load_encoder(init["backbone"])
        shape = (teacher.joint_prompts.shape[0], teacher.joint_prompts.shape[1])
        prompts = joint_prompts(scenes=teacher.config.scenes)
        found = read_text_features(init["anchors"], {"joint_prompts": shape}, {"joint_prompts": prompts})
        teacher.set_prompts(found["joint_prompts"])
        text = load_text_tower(init["anchors"]) if teacher.config.text_tower == "trained" else None
        return cls(teacher, loss, text)

    @classmethod
    def blank(
        cls, metric_name: str, model: dict[str, Any], init: dict[str, str], teacher: Objective | None = None
    ) -> "PfdTeacherObjective":
        """Build with random weights, for a plan; a text tower has the size of that of CLIP ViT-B/16."""
        values, loss = split_loss(model, TeacherLossConfig)
        network = PfdTeacher(PfdTeacherConfig.from_dict(values))
        trained = network.config.text_tower == "trained"
        tower = ClipTextTower(width=512, layers=12, heads=8, embed_dim=network.config.text_width) if trained else None
        return cls(network, loss, tower)

    def begin_epoch(self, history: Sequence[Mapping[str, float]]) -> None:
        """Set the dynamic weights from the mean losses of the epochs before."""
        if self.weights.dynamic:
            self.factors = dynamic_weights(history, self.parts, temperature=self.weights.temperature)

    def train(self, mode: bool = True) -> "PfdTeacherObjective":
        """Set the mode; in evaluation the model holds what the text tower now makes of the prompts."""
        super().train(mode)
        if not mode and self.text is not None:
            with torch.no_grad():
                self.model.set_prompts(self.text(self.tokens))
        return self

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch of windows, and its parts without their weights.

        Windows of one image that stand together (`Batch.views`) make one opinion.
        """
        class_token, _ = self.model.encode(self.model.canvas(batch.dist))
        prompts = self.model.joint_prompts if self.text is None else self.text(self.tokens)
        logits = batch.gather(self.model.compare(class_token, prompts)).unflatten(0, (-1, batch.views))
        opinion = self.model.opinion(logits)
        mos, source, distortion = (
            batch.gather(values)[:: batch.views] for values in (batch.mos, batch.source, batch.distortion)
        )
        parts = {
            "quality": batch.of_all(pairwise_fidelity(opinion.quality, mos, source)),
            "distortion": batch.of_all(distortion_fidelity(opinion.distortion_probs, distortion)),
        }
        if opinion.scene_probs is not None:
            known = (
                batch.mos.new_zeros(len(batch), opinion.scene_probs.shape[1]) if batch.scenes is None else batch.scenes
            )
            scenes = batch.gather(known)[:: batch.views]
            parts["scene"] = batch.of_all(scene_fidelity(opinion.scene_probs, scenes))
        weighted = [
            factor * getattr(self.weights, f"{name}_weight") * parts[name]
            for name, factor in zip(self.parts, self.factors, strict=True)
        ]
        return torch.stack(weighted).sum(), parts

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Predict the quality of whole images, (N,), with levels 1..5 mapped to [0, 1]."""
        self.model.eval()
        return (self.model.quality(batch.dist) - 1.0) / (len(QUALITIES) - 1)
