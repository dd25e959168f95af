"""The teacher of PFD-IQA, used in training only: an encoder that compares images with 55 or 495 sentences."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from iqametrics.datasets.image_labels import SCENES
from iqametrics.nn.precision import without_autocast
from iqametrics.pfd_iqa.config import PfdTeacherConfig
from iqametrics.pfd_iqa.encoder import WindowEncoder
from iqametrics.pfd_iqa.fusion import channel_layer_norm
from iqametrics.pfd_iqa.priors import scaled_cosines
from iqametrics.pfd_iqa.prompts import DISTORTIONS, QUALITIES


class Opinion(NamedTuple):
    """What the teacher thinks of N windows, or of N images by several windows each.

    Attributes:
        distortion_probs: Probabilities p_d, (N, 11).
        quality_probs: Probabilities p_q, (N, 5).
        quality: The expected level, sum_q q p_q with q = 1..5, (N,).
        scene_probs: Probabilities p_s, (N, 9); None where the prompts name no scenes.
    """

    distortion_probs: Tensor
    quality_probs: Tensor
    quality: Tensor
    scene_probs: Tensor | None


class TeacherOutput(NamedTuple):
    """Outputs of the teacher for N windows.

    Attributes:
        joint_logits: Logits (N, 55), distortion d and quality q at index 5 d + q; (N, 495) with scenes, scene s at
            index 55 s + 5 d + q.
        distortion_probs: Probabilities p_d, (N, 11).
        quality_probs: Probabilities p_q, (N, 5).
        quality: The expected level, sum_q q p_q with q = 1..5, (N,).
        features: Features F_tea, (N, C_t, grid, grid), each cell of mean 0 and variance 1.
    """

    joint_logits: Tensor
    distortion_probs: Tensor
    quality_probs: Tensor
    quality: Tensor
    features: Tensor


class PfdTeacher(WindowEncoder):
    """Teacher: an image encoder with the text head of LIQE, with or without LIQE's scenes.

    p(s, d, q | x) = softmax(scale * cos(class token, joint prompts)); p_s, p_d and p_q are its marginals. F_tea are the
    patch tokens in the same space as the class token.

    Source: the PFD-IQA paper, sections 3.2, 3.3 and 4.2, and Zhang et al., "Blind Image Quality Assessment via
    Vision-Language Correspondence", CVPR 2023, equations 1 to 4.

    Args:
        config: The model's config.
    """

    config: PfdTeacherConfig
    joint_prompts: Tensor

    def __init__(self, config: PfdTeacherConfig) -> None:
        super().__init__(config)
        self._shape = (len(SCENES) if config.scenes else 1, len(DISTORTIONS), len(QUALITIES))
        count = self._shape[0] * len(DISTORTIONS) * len(QUALITIES)
        self.register_buffer("joint_prompts", torch.zeros(count, config.text_width))

    def set_prompts(self, joint: Tensor) -> None:
        """Store the embeddings (55, C_t), or (495, C_t), of `prompts.joint_prompts`."""
        self.joint_prompts.copy_(joint)

    def head(self, trunk: Sequence[Tensor]) -> TeacherOutput:
        """Judge single windows from the output of `trunk` for them."""
        return self.judge(self.canvas(trunk))

    def judge(self, window: Tensor) -> TeacherOutput:
        """Judge windows of a canvas, (N, C, window, window)."""
        class_token, features = self.encode(window)
        logits = self.compare(class_token, self.joint_prompts)
        opinion = self.opinion(logits[:, None])
        return TeacherOutput(
            joint_logits=logits,
            distortion_probs=opinion.distortion_probs,
            quality_probs=opinion.quality_probs,
            quality=opinion.quality,
            features=channel_layer_norm(features),
        )

    def compare(self, class_token: Tensor, prompts: Tensor) -> Tensor:
        """Compare class tokens (N, C_t) with the embeddings of the K joint prompts, (K, C_t): logits (N, K)."""
        return scaled_cosines(class_token, prompts, scale=self.config.logit_scale)

    def opinion(self, logits: Tensor) -> Opinion:
        """Turn the logits of V windows of each of N images, (N, V, K), into one opinion an image."""
        if self.config.crop_average == "logits":
            probabilities = logits.mean(dim=1).softmax(dim=1)
        else:
            probabilities = logits.softmax(dim=2).mean(dim=1)
        joint = probabilities.unflatten(1, self._shape)
        quality_probs = joint.sum(dim=(1, 2))
        levels = torch.arange(1, len(QUALITIES) + 1, dtype=quality_probs.dtype, device=quality_probs.device)
        with without_autocast(quality_probs):
            quality = quality_probs @ levels
        return Opinion(
            distortion_probs=joint.sum(dim=(1, 3)),
            quality_probs=quality_probs,
            quality=quality,
            scene_probs=joint.sum(dim=(2, 3)) if self.config.scenes else None,
        )

    def quality(self, trunk: Sequence[Tensor]) -> Tensor:
        """Judge whole images by all their windows: the expected level, (N,), in [1, 5]."""
        windows, _ = self.windows(self.canvas(trunk))
        class_token, _ = self.encode(windows.flatten(0, 1))
        logits = self.compare(class_token, self.joint_prompts)
        return self.opinion(logits.unflatten(0, windows.shape[:2])).quality

    def forward(self, images: Tensor) -> Tensor:
        """Judge whole images (N, 3, H, W), RGB in [0, 1]: the expected level, (N,), in [1, 5]."""
        return self.quality(self.trunk(images))
