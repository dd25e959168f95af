"""What a BPCLIP score came from: where in the image, and by which similarities to the text anchors.

Sources: the maps, BPCLIP, Figure 4; the contributions, Sundararajan et al., "Axiomatic Attribution for Deep
Networks", ICML 2017 (integrated gradients), eq. 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from iqametrics.bpclip.anchors import read_adjectives
from iqametrics.bpclip.model import Bpclip, ScoreMlp
from iqametrics.images.explanation import Explanation, differences


@dataclass(frozen=True, repr=False)
class BpclipExplanation(Explanation):
    """Where, and by which similarities, the score of one image came about.

    The maps are facts about the network, on its token grid: one token is 32x32 pixels of the preprocessed image. The
    contributions are facts about the score MLP: they add up to `score - baseline_score`. Neither says what an
    adjective means to a person: training never grounds a text in its meaning, so "blurry" is the name of a direction.

    Attributes:
        score: The score.
        baseline_score: The score if no anchor were preferred, that is, if each level's similarities were all equal to
            their mean.
        importance: How much each position counts, (n - 1, H_n, W_n), in (0, 1): the weight branch of eq. 6, averaged
            over channels; the lowest level first. No level in the ablations without one of the branches.
        distortion: Strength of the information branch of eq. 6 at each position, (n - 1, H_n, W_n), from 0 up: root
            mean square over channels. No level in the ablation without that branch.
        contributions: By how much each similarity moved the score, (n - 1, K), in units of the score. No level in the
            ablation without text anchors.
        words: The K adjectives; numbers as text where the anchors are not those of `prompts.json`.
        difference: Where image and reference differ by their features, (H_n, W_n), in [0, 2]: 1 - cosine, the mean over
            the five levels. None without a reference.
        picture: The image as the network saw it, (3, H, W) in [0, 1]; None where only its features are known.
    """

    score: float
    baseline_score: float
    importance: Tensor
    distortion: Tensor
    contributions: Tensor
    words: tuple[str, ...]
    difference: Tensor | None = None
    picture: Tensor | None = None

    def top(self, count: int = 10) -> list[tuple[str, float]]:
        """Return the anchors that moved the score most, over all levels, each with its contribution."""
        totals = self.contributions.sum(dim=0).tolist()
        ranked = sorted(zip(self.words, totals, strict=True), key=lambda pair: -abs(pair[1]))
        return ranked[:count]

    def __repr__(self) -> str:
        levels, height, width = self.importance.shape
        return (
            f"<BpclipExplanation: score {self.score:.4f}, {self._strongest() or 'no text anchors'}; "
            f"{levels} maps of {height}x{width}>"
        )

    def facts(self) -> dict[str, str]:
        """Return the score, what it would be without anchors, and the anchors that moved it most."""
        return {
            "score": f"{self.score:.4f}",
            "score without a preferred anchor": f"{self.baseline_score:.4f}",
            "anchors that moved it most (names of directions)": self._strongest() or "none",
        }

    def maps(self) -> dict[str, Tensor]:
        """Return the maps (H_n, W_n) over the picture by name, the lowest level first.

        "together" is the mean over the levels of importance times distortion, the size of what eq. 6 adds up.
        """
        named = (("importance", self.importance), ("distortion", self.distortion))
        maps = {f"{name}, level {n}": level for name, levels in named for n, level in enumerate(levels, 1)}
        if len(self.importance) and len(self.importance) == len(self.distortion):
            maps["together"] = (self.importance * self.distortion).mean(dim=0)
        if self.difference is not None:
            maps["difference from the reference"] = self.difference
        return maps

    def _strongest(self) -> str:
        return ", ".join(f"{word} {value:+.3f}" for word, value in self.top(3)) if self.contributions.numel() else ""


def explain_levels(
    model: Bpclip,
    dist: list[Tensor],
    ref: list[Tensor] | None = None,
    *,
    steps: int = 64,
    picture: Tensor | None = None,
) -> BpclipExplanation:
    """Explain the score of one image.

    Args:
        model: The network, in evaluation mode.
        dist: Five levels of the image, N = 1.
        ref: Five levels of its reference, in mode "fr".
        steps: Steps of the integration.
        picture: The image, (3, H, W), to lay the maps over.
    """
    with torch.no_grad():
        encoding = model.encode(dist, ref)
        score = model.score(encoding.descriptors)
    height, width = encoding.grid
    descriptors = encoding.descriptors[0]
    baseline, contributions, words = score, descriptors.new_empty(0, 0), _words(0)
    if model.similarity is not None:
        even = descriptors.mean(dim=-1, keepdim=True).expand_as(descriptors)
        with torch.no_grad():
            baseline = model.score(even[None])
        contributions = integrated_gradients(model.score, descriptors, even, steps=steps)
        words = _words(len(model.similarity.anchors))
    return BpclipExplanation(
        score=score.item(),
        baseline_score=baseline.item(),
        importance=_maps([weight.mean(dim=-1) for weight in encoding.weights], height, width),
        distortion=_maps([info.square().mean(dim=-1).sqrt() for info in encoding.information], height, width),
        contributions=contributions,
        words=words,
        difference=None if ref is None else differences(dist, ref, height, width),
        picture=picture,
    )


def integrated_gradients(score: ScoreMlp, descriptors: Tensor, baseline: Tensor, *, steps: int) -> Tensor:
    """Attribute the difference score(descriptors) - score(baseline) to the descriptors.

    The gradient is averaged over the straight line from the baseline (midpoint rule) and multiplied by the difference.

    Args:
        score: The score MLP.
        descriptors: Similarities of one image, (n - 1, K).
        baseline: What they are compared with, (n - 1, K).
        steps: Number of points on the line.

    Returns:
        (n - 1, K); the sum is the difference of the scores, up to the error of the integration.
    """
    points = (torch.arange(steps, dtype=descriptors.dtype, device=descriptors.device) + 0.5) / steps
    with torch.enable_grad():
        line = torch.lerp(baseline, descriptors, points[:, None, None]).detach().requires_grad_(True)
        (gradients,) = torch.autograd.grad(score(line).sum(), line)
    return gradients.mean(dim=0) * (descriptors - baseline)


def _maps(levels: list[Tensor], height: int, width: int) -> Tensor:
    """Stack levels (1, L) to maps (levels, height, width)."""
    if not levels:
        return torch.empty(0, height, width)
    return torch.cat(levels).unflatten(1, (height, width))


def _words(count: int) -> tuple[str, ...]:
    adjectives = tuple(adjective.word for adjective in read_adjectives())
    return adjectives if len(adjectives) == count else tuple(str(index) for index in range(count))
