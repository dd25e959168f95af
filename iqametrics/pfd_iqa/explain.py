"""What a PFD-IQA score came from: what the priors recognised, where the decoder looked, how sure the diffusion is."""

from dataclasses import dataclass

import torch
from torch import Tensor

from iqametrics.pfd_iqa.model import PfdIqa
from iqametrics.pfd_iqa.prompts import DISTORTIONS, QUALITIES


@dataclass(frozen=True)
class PfdIqaExplanation:
    """What the parts of the network gave for one image.

    The probabilities are those of the student's own priors, learnt from its teacher: the mean over the windows. They
    are not calibrated, and where the teacher saw only some of the distortions, the others mean little.

    Attributes:
        score: the score.
        distortions: probability of each of the eleven distortions by name; empty without PDA.
        qualities: probability of each of the five quality levels by name, worst first; empty without PDA.
        gamma: how much of the features ANA kept in the mix with noise, the mean over the windows, in (0, 1).
        attention: how much the decoder's panel looked at each place, where 1 is an even look: per pixel of the sized
            image for windows in image space, per cell of 32x32 pixels for windows in feature space. The mean over the
            windows that cover a place, NaN where there is none. It is no statement of where distortions are.
        windows: upper left corner (y, x) and side of each window, in pixels of the sized image.
        window_scores: score of each window; their mean is the score.
    """

    score: float
    distortions: dict[str, float]
    qualities: dict[str, float]
    gamma: float
    attention: Tensor
    windows: tuple[tuple[int, int, int], ...]
    window_scores: tuple[float, ...]


@torch.no_grad()
def explain_image(model: PfdIqa, image: Tensor) -> PfdIqaExplanation:
    """Explain the score of one image by the first draw of the noise.

    Args:
        model: the network, in evaluation mode.
        image: sized RGB in [0, 1], (1, 3, H, W).
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
    )


def _mean_probabilities(logits: Tensor | None, names: tuple[str, ...]) -> dict[str, float]:
    if logits is None:
        return {}
    return dict(zip(names, logits.softmax(dim=1).mean(dim=0).tolist(), strict=True))


def _assemble(looks: Tensor, corners: list[tuple[int, int]], window: int, size: tuple[int, ...]) -> Tensor:
    """Lay the maps (K, grid, grid) of windows over each other and average them."""
    total, covered = looks.new_zeros(size), looks.new_zeros(size)
    block = window // looks.shape[-1]
    for look, (y, x) in zip(looks, corners, strict=True):
        enlarged = look.repeat_interleave(block, dim=0).repeat_interleave(block, dim=1)
        total[y : y + window, x : x + window] += enlarged
        covered[y : y + window, x : x + window] += 1
    return total / covered
