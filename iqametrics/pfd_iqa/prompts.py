"""The distortions, quality levels and prompts that PFD-IQA and its teacher compare an image with.

Source: Zhang et al., "Blind Image Quality Assessment via Vision-Language Correspondence" (LIQE), CVPR 2023, for the
two lists; the PFD-IQA paper, section 3.2, for their use.

    >>> distortion_prompts()[3]
    'a photo with blur artifacts.'
    >>> joint_prompts()[3 * 5 + 1]
    'a photo with blur artifacts, which is of poor quality'
"""

from iqametrics.datasets.image_labels import SCENES
from iqametrics.datasets.sample import LIQE_CLASSES

DISTORTIONS = LIQE_CLASSES
"""The set D of eleven distortions; their order is the order of the logits."""

QUALITIES = ("bad", "poor", "fair", "good", "perfect")
"""The set Q of five quality levels, worst first; they count as 1..5."""

DISTORTION_TEMPLATE = "a photo with {distortion} artifacts."
QUALITY_TEMPLATE = "a photo with {quality} quality."
JOINT_TEMPLATE = "a photo with {distortion} artifacts, which is of {quality} quality"

SCENE_TEMPLATE = "a photo of a {scene} with {distortion} artifacts, which is of {quality} quality"


def distortion_prompts() -> list[str]:
    """Return the 11 sentences T_d, in the order of `DISTORTIONS`."""
    return [DISTORTION_TEMPLATE.format(distortion=distortion) for distortion in DISTORTIONS]


def quality_prompts() -> list[str]:
    """Return the 5 sentences T_q, in the order of `QUALITIES`."""
    return [QUALITY_TEMPLATE.format(quality=quality) for quality in QUALITIES]


def joint_prompts(*, scenes: bool = False) -> list[str]:
    """Return the teacher's sentences: 55, or with LIQE's scenes 495.

    Scene s, distortion d and quality q are at index 55 s + 5 d + q.
    """
    templates = [JOINT_TEMPLATE]
    if scenes:
        templates = [SCENE_TEMPLATE.replace("{scene}", scene) for scene in SCENES]
    return [
        template.format(distortion=distortion, quality=quality)
        for template in templates
        for distortion in DISTORTIONS
        for quality in QUALITIES
    ]
