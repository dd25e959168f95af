"""PFD-IQA: blind image quality by denoising the features of an image with a small diffusion model.

Source: Li et al., "Feature Denoising Diffusion Model for Blind Image Quality Assessment", AAAI 2025.
This file says what the metric is; `iqametrics.pfd_iqa.metric` computes it and is imported when first asked for.
"""

from iqametrics.spec import MetricSpec

SPECS = (
    MetricSpec(
        name="pfd-iqa",
        mode="nr",
        higher_is_better=True,
        score_range=(0.0, 1.0),
        range_is_bound=False,
        differentiable=True,
        paper="Li et al., Feature Denoising Diffusion Model for Blind Image Quality Assessment, AAAI 2025",
        paper_url="https://arxiv.org/abs/2401.11949",
        factory="iqametrics.pfd_iqa.metric:PfdIqaMetric",
    ),
)
