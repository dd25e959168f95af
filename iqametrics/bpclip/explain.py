"""What a BPCLIP score came from: where in the image, and by which similarities to the text anchors.

Sources: the maps, BPCLIP, Figure 4; the contributions, Sundararajan et al., "Axiomatic Attribution for Deep
Networks", ICML 2017 (integrated gradients), eq. 1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from iqametrics.bpclip.anchors import read_adjectives
from iqametrics.bpclip.model import Bpclip, BpclipEncoding, ScoreMlp
from iqametrics.images.explanation import HARM, Explanation, differences
from iqametrics.nn.levels import CELL

REPAIR = "gain if repaired"
"""Name of the map of `repairs`."""


@dataclass(frozen=True, repr=False)
class BpclipExplanation(Explanation):
    """Where, and by which similarities, the score of one image came about.

    `harm` and `repair` say where the score is lost, `difference` where two pictures differ; `importance` and
    `distortion` are facts about the network that need not be where damage is (docs/explain.md has how often each map is
    right). Maps lie on the token grid: one token is 32x32 pixels of the preprocessed image. The contributions are facts
    about the score MLP: they add up to `score - baseline_score`. They do not say what an adjective means to a person:
    training never grounds a text in its meaning, so "blurry" is the name of a direction.

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
        harm: By how much a picture that were everywhere like one position would score lower than this picture,
            (H_n, W_n), in units of the score: the score of the network's head for the position's own tokens in place of
            their mean. Below 0 where a position is better than the picture. None with a reference: there the head has
            learnt to read the mean alone, and single positions mislead.
        repair: By how much the score would rise if the block at a position were replaced by the reference's, (h, w),
            one value for each of at most 6x6 blocks. None where there is no reference, or only its features are known.
        picture: The image as the network saw it, (3, H, W) in [0, 1]; None where only its features are known.
        told: What is known of the image besides, see `Metric.told`.
    """

    score: float
    baseline_score: float
    importance: Tensor
    distortion: Tensor
    contributions: Tensor
    words: tuple[str, ...]
    difference: Tensor | None = None
    harm: Tensor | None = None
    repair: Tensor | None = None
    picture: Tensor | None = None
    told: Mapping[str, str] = field(default_factory=dict)

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
        """Return the score, what is known of the image besides, and what the score would be without anchors.

        The adjectives are in `top`: they are names of directions, and as words they are not true (docs/explain.md).
        """
        return {
            "score": f"{self.score:.4f}",
            **self.told,
            "score without a preferred anchor": f"{self.baseline_score:.4f}",
        }

    def maps(self) -> dict[str, Tensor]:
        """Return the maps (h, w) over the picture by name: where the score is lost, then the network's branches.

        Levels come lowest first. "together" is the mean over the levels of importance times distortion, the size of
        what eq. 6 adds up.
        """
        told = {HARM: self.harm, REPAIR: self.repair, "difference from the reference": self.difference}
        maps = {name: values for name, values in told.items() if values is not None}
        named = (("importance", self.importance), ("distortion", self.distortion))
        maps |= {f"{name}, level {n}": level for name, levels in named for n, level in enumerate(levels, 1)}
        if len(self.importance) and len(self.importance) == len(self.distortion):
            maps["together"] = (self.importance * self.distortion).mean(dim=0)
        return maps

    def figure(self) -> list[list[str]]:
        """Return the rows of the paper's Figure 4: each branch level by level, and what they say together."""
        named = list(self.maps())
        importance, distortion = (
            [name for name in named if name.startswith(to)] for to in ("importance", "distortion")
        )
        together = [name for name in named if name == "together"]
        others = [name for name in named if name not in (*importance, *distortion, *together)]
        return [row for row in (importance, [*together, *distortion], others) if row]

    def _strongest(self) -> str:
        return ", ".join(f"{word} {value:+.3f}" for word, value in self.top(3)) if self.contributions.numel() else ""


def explain_levels(
    model: Bpclip,
    dist: list[Tensor],
    ref: list[Tensor] | None = None,
    *,
    steps: int = 64,
    picture: Tensor | None = None,
    repair: Tensor | None = None,
) -> BpclipExplanation:
    """Explain the score of one image.

    Args:
        model: The network, in evaluation mode.
        dist: Five levels of the image, N = 1.
        ref: Five levels of its reference, in mode "fr".
        steps: Steps of the integration.
        picture: The image, (3, H, W), to lay the maps over.
        repair: What `repairs` gave.
    """
    with torch.no_grad():
        encoding = model.encode(dist, ref)
        plain = model.score(encoding.descriptors)
        score = model.score_levels(dist, ref)
        harm = score - local_scores(model, encoding) if ref is None else None
    height, width = encoding.grid
    descriptors = encoding.descriptors[0]
    baseline, contributions, words = score, descriptors.new_empty(0, 0), _words(0)
    if model.similarity is not None:
        even = descriptors.mean(dim=-1, keepdim=True).expand_as(descriptors)
        with torch.no_grad():
            # With a relative score both are moved by what the reference gives with itself.
            baseline = model.score(even[None]) + score - plain
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
        harm=harm,
        repair=repair,
        picture=picture,
    )


def local_scores(model: Bpclip, encoding: BpclipEncoding) -> Tensor:
    """Score pictures that are everywhere like one position of an image, for each of its positions.

    The head averages the tokens of each level over the positions (eq. 7); here it gets the tokens of one position.

    Args:
        model: The network, in evaluation mode.
        encoding: Of one image.

    Returns:
        (H_n, W_n), in units of the score.
    """
    descriptors = model.describe([level[0] for level in encoding.tokens])
    return model.score(descriptors).unflatten(0, encoding.grid)


@torch.no_grad()
def repairs(model: Bpclip, dist: Tensor, ref: Tensor, *, blocks: int = 6) -> Tensor:
    """Measure by how much the score rises when a block of the image is replaced by the reference's.

    Args:
        model: The network, in evaluation mode and of mode "fr".
        dist: The image, (1, 3, H, W) in [0, 1].
        ref: Its reference, of the same shape.
        blocks: Largest number of blocks along a side; a block is a multiple of 32 pixels wide.

    Returns:
        (h, w), one value for each block.
    """
    side = CELL * math.ceil(math.ceil(max(dist.shape[-2:]) / CELL) / blocks)
    levels = model.levels(model.trunk(ref))
    before = model.score_levels(model.levels(model.trunk(dist)), levels)
    rows = []
    for top in range(0, dist.shape[-2], side):
        row = []
        for left in range(0, dist.shape[-1], side):
            mended = dist.clone()
            part = (..., slice(top, top + side), slice(left, left + side))
            mended[part] = ref[part]
            row.append(model.score_levels(model.levels(model.trunk(mended)), levels) - before)
        rows.append(torch.cat(row))
    return torch.stack(rows)


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
