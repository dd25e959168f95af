"""What a BPCLIP score came from: where in the image, and by which similarities to the text anchors.

Sources: the maps, BPCLIP, Figure 4; the contributions, Sundararajan et al., "Axiomatic Attribution for Deep
Networks", ICML 2017 (integrated gradients), eq. 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from iqametrics.bpclip.anchors import read_adjectives
from iqametrics.bpclip.model import Bpclip, ScoreMlp


@dataclass(frozen=True)
class BpclipExplanation:
    """Where, and by which similarities, the score of one image came about.

    The maps are facts about the network, on its token grid: one token is 32x32 pixels of the sized image. The
    contributions are facts about the score MLP: they add up to `score - baseline_score`. Neither says what an
    adjective means to a person: training never grounds a text in its meaning, so "blurry" is the name of a direction.

    Attributes:
        score: the score.
        baseline_score: the score if no anchor were preferred, that is, if each level's similarities were all equal to
            their mean.
        importance: how much each place counts, (n - 1, H_n, W_n), in (0, 1): the weight branch of eq. 6, averaged over
            channels; the lowest level first. No level where a branch is left out.
        distortion: strength of the information branch of eq. 6 at each place, (n - 1, H_n, W_n), from 0 up: root mean
            square over channels. No level where that branch is left out.
        contributions: what each similarity moved the score by, (n - 1, K), in units of the score. No level in the
            ablation without text anchors.
        words: the K adjectives; numbers as text where the anchors are not those of `prompts.json`.
    """

    score: float
    baseline_score: float
    importance: Tensor
    distortion: Tensor
    contributions: Tensor
    words: tuple[str, ...]

    def top(self, count: int = 10) -> list[tuple[str, float]]:
        """Give the anchors that moved the score most, over all levels, with what each moved it by."""
        totals = self.contributions.sum(dim=0).tolist()
        ranked = sorted(zip(self.words, totals, strict=True), key=lambda pair: -abs(pair[1]))
        return ranked[:count]


def explain_levels(
    model: Bpclip, dist: list[Tensor], ref: list[Tensor] | None = None, *, steps: int = 64
) -> BpclipExplanation:
    """Explain the score of one image.

    Args:
        model: the network, in evaluation mode.
        dist: five levels of the image, N = 1.
        ref: five levels of its reference, in mode "fr".
        steps: steps of the integration.
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
    )


def integrated_gradients(score: ScoreMlp, descriptors: Tensor, baseline: Tensor, *, steps: int) -> Tensor:
    """Part the difference score(descriptors) - score(baseline) among the descriptors.

    The gradient is averaged over the straight line from the baseline (midpoint rule) and multiplied by the difference.

    Args:
        score: the score MLP.
        descriptors: similarities of one image, (n - 1, K).
        baseline: what they are compared with, (n - 1, K).
        steps: number of points on the line.

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
