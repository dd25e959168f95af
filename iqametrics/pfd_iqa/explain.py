"""Explanation of a PFD-IQA score: what the priors recognised, and where the decoder looked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import stdev

import torch
from torch import Tensor

from iqametrics.images.explanation import HARM, Explanation
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
        harm: By how much each position lowers the score, to first order, against the mean features of its window: minus
            the gradient of the score by the denoised features, times what they differ from the mean. In units of the
            score; below 0 where a position raises it. The only map here that is meant to point at damage
            (docs/explain.md has how often it does).
        cam_before: Grad-CAM of a worse score by the features before the diffusion, from 0 up.
        cam_after: The same by the denoised features (the paper's Figure 4).
        features_before: How far the features before the diffusion are from their mean over the window, root mean square
            over channels, from 0 up (Figure 1).
        features_after: The same of the denoised features.
        attention: Attention of the decoder's panel on each position, where 1 is uniform attention: one value for each
            pixel of the preprocessed image with windows in image space, for each cell of 32x32 pixels with windows in
            feature space. It does not say where distortions are. This and the other maps are the mean over the windows
            that cover a position, NaN where none does.
        windows: Upper left corner (y, x) and side of each window, in pixels of the preprocessed image.
        window_scores: Score of each window; their mean is the score.
        noise_scores: Score by each of several draws of the noise that the diffusion starts from; the first is the
            score of a checkpoint that uses one draw.
        picture: The image as the network saw it, (3, H, W) in [0, 1].
        told: What is known of the image besides, see `Metric.told`.
    """

    score: float
    distortions: dict[str, float]
    qualities: dict[str, float]
    gamma: float
    harm: Tensor
    cam_before: Tensor
    cam_after: Tensor
    features_before: Tensor
    features_after: Tensor
    attention: Tensor
    windows: tuple[tuple[int, int, int], ...]
    window_scores: tuple[float, ...]
    noise_scores: tuple[float, ...]
    picture: Tensor | None = None
    told: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        likely = "".join(f", {self._likeliest(table)}" for table in (self.distortions, self.qualities) if table)
        return f"<PfdIqaExplanation: score {self.score:.4f} of {len(self.windows)} windows{likely}>"

    def facts(self) -> dict[str, str]:
        """Return the score, what is known of the image besides, and the spread over windows and noise.

        The probabilities of the priors are attributes: as words most are not true (docs/explain.md).
        """
        facts = {
            "score": f"{self.score:.4f}",
            **self.told,
            "windows": f"{len(self.windows)}, scores {min(self.window_scores):.4f} to {max(self.window_scores):.4f}",
            "noise": self._spread(),
            "weight of the features in their mix with noise": f"{self.gamma:.2f}",
        }
        return {name: text for name, text in facts.items() if text}

    def maps(self) -> dict[str, Tensor]:
        """Return the maps (H, W) over the picture by name."""
        return {
            HARM: self.harm,
            "Grad-CAM before denoising": self.cam_before,
            "Grad-CAM after denoising": self.cam_after,
            "features before denoising": self.features_before,
            "features after denoising": self.features_after,
            "attention": self.attention,
        }

    def figure(self) -> list[list[str]]:
        """Return the rows of the paper's Figures 1 and 4: before denoising, and after it."""
        before, after = (
            [name for name in self.maps() if name.endswith(f"{when} denoising")] for when in ("before", "after")
        )
        return [before, after, [HARM, "attention"]]

    def _spread(self) -> str:
        if len(self.noise_scores) < 2:
            return ""
        scores = self.noise_scores
        return f"{len(scores)} draws, scores {min(scores):.4f} to {max(scores):.4f}, deviation {stdev(scores):.4f}"

    @staticmethod
    def _likeliest(probabilities: dict[str, float]) -> str:
        if not probabilities:
            return ""
        name = max(probabilities, key=probabilities.__getitem__)
        return f"{name} {probabilities[name]:.2f}"


def explain_image(model: PfdIqa, image: Tensor, *, draws: int = 8) -> PfdIqaExplanation:
    """Explain the score of one image by the first draw of the noise.

    Args:
        model: The network, in evaluation mode.
        image: Preprocessed image, RGB in [0, 1], (1, 3, H, W).
        draws: Number of draws of the noise for its spread, from 1 up.
    """
    with torch.no_grad():
        canvas = model.canvas(model.trunk(image))
        windows, corners = model.windows(canvas)
        priors = model.discover(windows[0])
        noise = model.window_noise(len(corners), samples=draws).to(priors.fused).unbind(1)
        others = [model.finish(priors, draw).score.mean().item() for draw in noise[1:]]
    with torch.enable_grad():
        priors = priors._replace(fused=priors.fused.detach().requires_grad_())
        output = model.finish(priors, noise[0])
        by_fused, by_refined = torch.autograd.grad(output.score.sum(), [output.fused, output.refined])
    fused, refined = output.fused.detach(), output.refined.detach()
    with torch.no_grad():
        looks = model.decoder.attention(refined, priors.class_token) * model.config.grid**2
    size, window = tuple(canvas.shape[-2:]), model.config.window
    maps = {
        "harm": -(by_refined * (refined - refined.mean(dim=(2, 3), keepdim=True))).sum(dim=1),
        "cam_before": grad_cam(fused, -by_fused),
        "cam_after": grad_cam(refined, -by_refined),
        "features_before": _contrast(fused),
        "features_after": _contrast(refined),
        "attention": looks,
    }
    step = model.config.crop_size // window
    return PfdIqaExplanation(
        score=output.score.mean().item(),
        distortions=_mean_probabilities(output.distortion_logits, DISTORTIONS),
        qualities=_mean_probabilities(output.quality_logits, QUALITIES),
        gamma=output.gamma.mean().item(),
        windows=tuple((y * step, x * step, model.config.crop_size) for y, x in corners),
        window_scores=tuple(output.score.tolist()),
        noise_scores=(output.score.mean().item(), *others),
        picture=image[0],
        **{name: _assemble(values, corners, window, size) for name, values in maps.items()},
    )


def grad_cam(features: Tensor, gradients: Tensor) -> Tensor:
    """Compute Grad-CAM maps of N windows, (N, h, w), from 0 up.

    Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
    ICCV 2017, eq. 1 and 2.

    Args:
        features: Features A, (N, C, h, w).
        gradients: Gradients by them of what is explained, of the same shape.
    """
    return (gradients.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu()


def _contrast(features: Tensor) -> Tensor:
    """Return how far features (N, C, h, w) are from their mean over the cells, (N, h, w)."""
    return (features - features.mean(dim=(2, 3), keepdim=True)).square().mean(dim=1).sqrt()


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
