"""Explanation of a PFD-IQA score: what the priors recognised, and where the decoder looked."""

from dataclasses import dataclass

import torch
from torch import Tensor

from iqametrics.images.explanation import Explanation
from iqametrics.pfd_iqa.model import PfdIqa
from iqametrics.pfd_iqa.prompts import DISTORTIONS, QUALITIES


@dataclass(frozen=True, repr=False)
class PfdIqaExplanation(Explanation):
    """Outputs of the parts of the network for one image.

    The probabilities are those of the student's own priors, which it learnt from its teacher, averaged over the
    windows. They are not calibrated, and mean little for distortions that the teacher was not trained on.

    Attributes:
        score: The score.
        distortions: Probability of each of the eleven distortions by name; empty without PDA.
        qualities: Probability of each of the five quality levels by name, worst first; empty without PDA.
        gamma: Weight that ANA gave the features in their mix with noise, the mean over the windows, in (0, 1).
        attention: Attention of the decoder's panel on each position, where 1 is uniform attention: one value for each
            pixel of the preprocessed image with windows in image space, for each cell of 32x32 pixels with windows in
            feature space. It is the mean over the windows that cover the position, NaN where none does. It does not
            say where distortions are.
        windows: Upper left corner (y, x) and side of each window, in pixels of the preprocessed image.
        window_scores: Score of each window; their mean is the score.
        picture: The image as the network saw it, (3, H, W) in [0, 1].
    """

    score: float
    distortions: dict[str, float]
    qualities: dict[str, float]
    gamma: float
    attention: Tensor
    windows: tuple[tuple[int, int, int], ...]
    window_scores: tuple[float, ...]
    picture: Tensor | None = None

    def __repr__(self) -> str:
        likely = "".join(f", {self._likeliest(table)}" for table in (self.distortions, self.qualities) if table)
        return f"<PfdIqaExplanation: score {self.score:.4f} of {len(self.windows)} windows{likely}>"

    def facts(self) -> dict[str, str]:
        """Return the score, the spread over the windows, and the probabilities of the priors, the likeliest first."""
        facts = {
            "score": f"{self.score:.4f}",
            "windows": f"{len(self.windows)}, scores {min(self.window_scores):.4f} to {max(self.window_scores):.4f}",
            "weight of the features in their mix with noise": f"{self.gamma:.2f}",
            "distortions by its own priors": self._ranked(self.distortions),
            "quality levels by its own priors": self._ranked(self.qualities),
        }
        return {name: text for name, text in facts.items() if text}

    def maps(self) -> dict[str, Tensor]:
        """Return the maps (H, W) over the picture by name."""
        return {"attention": self.attention}

    @staticmethod
    def _ranked(probabilities: dict[str, float]) -> str:
        ranked = sorted(probabilities.items(), key=lambda pair: -pair[1])
        return ", ".join(f"{name} {value:.2f}" for name, value in ranked)

    @staticmethod
    def _likeliest(probabilities: dict[str, float]) -> str:
        if not probabilities:
            return ""
        name = max(probabilities, key=probabilities.__getitem__)
        return f"{name} {probabilities[name]:.2f}"


@torch.no_grad()
def explain_image(model: PfdIqa, image: Tensor) -> PfdIqaExplanation:
    """Explain the score of one image by the first draw of the noise.

    Args:
        model: The network, in evaluation mode.
        image: Preprocessed image, RGB in [0, 1], (1, 3, H, W).
    """
    canvas = model.canvas(model.trunk(image))
    windows, corners = model.windows(canvas)
    priors = model.discover(windows[0])
    output = model.finish(priors, model.window_noise(len(corners), samples=1)[:, 0].to(priors.fused))
    looks = model.decoder.attention(output.refined, priors.class_token) * model.config.grid**2
    step = model.config.crop_size // model.config.window
    return PfdIqaExplanation(
        score=output.score.mean().item(),
        distortions=_mean_probabilities(output.distortion_logits, DISTORTIONS),
        qualities=_mean_probabilities(output.quality_logits, QUALITIES),
        gamma=output.gamma.mean().item(),
        attention=_assemble(looks, corners, model.config.window, tuple(canvas.shape[-2:])),
        windows=tuple((y * step, x * step, model.config.crop_size) for y, x in corners),
        window_scores=tuple(output.score.tolist()),
        picture=image[0],
    )


def _mean_probabilities(logits: Tensor | None, names: tuple[str, ...]) -> dict[str, float]:
    if logits is None:
        return {}
    return dict(zip(names, logits.softmax(dim=1).mean(dim=0).tolist(), strict=True))


def _assemble(looks: Tensor, corners: list[tuple[int, int]], window: int, size: tuple[int, ...]) -> Tensor:
    """Average the maps (K, grid, grid) of the windows at each position of the canvas."""
    total, covered = looks.new_zeros(size), looks.new_zeros(size)
    block = window // looks.shape[-1]
    for look, (y, x) in zip(looks, corners, strict=True):
        enlarged = look.repeat_interleave(block, dim=0).repeat_interleave(block, dim=1)
        total[y : y + window, x : x + window] += enlarged
        covered[y : y + window, x : x + window] += 1
    return total / covered
