"""The fidelity losses that the teacher is trained with.

Source: Tsai et al., "FRank: a ranking method with fidelity loss", SIGIR 2007; Zhang et al., "Blind Image Quality
Assessment via Vision-Language Correspondence" (LIQE), CVPR 2023, equations 6 to 10.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_EPSILON = 1e-8  # the square root has no finite gradient at 0


def fidelity(target: Tensor, predicted: Tensor) -> Tensor:
    """Compute 1 - sqrt(p p_hat) - sqrt((1 - p) (1 - p_hat)) elementwise; it is 0 where p = p_hat."""
    both = (target * predicted + _EPSILON).sqrt()
    neither = ((1.0 - target) * (1.0 - predicted) + _EPSILON).sqrt()
    return 1.0 - both - neither


def pairwise_fidelity(quality: Tensor, mos: Tensor, source: Tensor) -> Tensor:
    """Compute the fidelity loss on which of two images is the better one, averaged over pairs of one dataset.

    By Thurstone's model with unit variances, x is predicted better than y with probability
    Phi((quality_x - quality_y) / sqrt(2)); the truth is 1 where its opinion score is higher, and 1/2 where they tie.

    Args:
        quality: Predicted quality, (N,), in standard deviations of an opinion.
        mos: Opinion scores, (N,); only their order within a dataset counts.
        source: Number of the dataset of each image, (N,).

    Returns:
        A scalar, the mean over the pairs; 0 if there are none.
    """
    # Made on the CPU: not every device has them.
    first, second = torch.triu_indices(len(mos), len(mos), offset=1, device="cpu").to(mos.device)
    same = source[first] == source[second]
    first, second = first[same], second[same]
    quality = _full_precision(quality)
    if not len(first):
        return quality.sum() * 0.0
    truth = 0.5 * (1.0 + torch.sign(mos[first] - mos[second])).to(quality.dtype)
    # Phi(d / sqrt(2)) with Phi(z) = (1 + erf(z / sqrt(2))) / 2.
    predicted = 0.5 * (1.0 + torch.erf((quality[first] - quality[second]) / math.sqrt(2.0) / math.sqrt(2.0)))
    return fidelity(truth, predicted).mean()


def distortion_fidelity(probabilities: Tensor, distortion: Tensor) -> Tensor:
    """Compute the fidelity loss on the type of distortion, 1 - sqrt(p_d of the true type), where it is known.

    Args:
        probabilities: p_d, (N, 11).
        distortion: Index of the true type, (N,), -1 where unknown.

    Returns:
        A scalar, the mean over the images of known type; 0 if there are none.
    """
    probabilities, known = _full_precision(probabilities), distortion >= 0
    if not known.any():
        return probabilities.sum() * 0.0
    true = probabilities[known, distortion[known]]
    return (1.0 - (true + _EPSILON).sqrt()).mean()


def scene_fidelity(probabilities: Tensor, scenes: Tensor) -> Tensor:
    """Compute the fidelity loss on the scenes, each of which an image may show or not, where they are known.

    Args:
        probabilities: p_s, (N, 9).
        scenes: (N, 9), 1 for each scene that an image shows, else 0; a row of zeros where they are unknown.

    Returns:
        A scalar, the mean over scenes and images of known scenes; 0 if there are none.
    """
    probabilities, known = _full_precision(probabilities), scenes.sum(dim=1) > 0
    if not known.any():
        return probabilities.sum() * 0.0
    return fidelity(scenes[known].to(probabilities.dtype), probabilities[known]).mean()


def dynamic_weights(history: Sequence[Mapping[str, float]], names: Sequence[str], *, temperature: float) -> list[float]:
    """Compute the weights of losses for the next epoch, larger for one that has fallen less: K softmax(r / T).

    r is the mean loss of the last epoch over that of the one before; the weights are 1 in the first two epochs.

    Source: Liu et al., "End-to-End Multi-Task Learning with Attention", CVPR 2019, equation 7.

    Args:
        history: One row an epoch, whose "train_NAME" is the mean of a loss.
        names: Names of the K losses.
        temperature: T; the larger, the more equal the weights.
    """
    if len(history) < 2:
        return [1.0] * len(names)
    last, before = ([row.get(f"train_{name}", math.nan) for name in names] for row in (history[-1], history[-2]))
    ratios = [new / old if old else math.nan for new, old in zip(last, before, strict=True)]
    if not all(map(math.isfinite, ratios)):
        return [1.0] * len(names)
    highest = max(ratios)
    powers = [math.exp((ratio - highest) / temperature) for ratio in ratios]
    return [len(names) * power / sum(powers) for power in powers]


def _full_precision(values: Tensor) -> Tensor:
    """Return half precision as float32: _EPSILON would be 0 in float16."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
