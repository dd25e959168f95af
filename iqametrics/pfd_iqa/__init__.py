"""PFD-IQA: blind image quality by denoising the features of an image with a small diffusion model.

Source: Li et al., "Feature Denoising Diffusion Model for Blind Image Quality Assessment", AAAI 2025.
This file says what the method declares of itself; `iqametrics.pfd_iqa.metric` computes it and is imported when it is
first asked for.
"""

from pathlib import Path

from iqametrics.pfd_iqa.tables import ROWS, TABLES
from iqametrics.spec import Method, MetricSpec

_BIBTEX = """\
@inproceedings{li2025pfdiqa,
  title = {Feature Denoising Diffusion Model for Blind Image Quality Assessment},
  author = {Li, Xudong and Zheng, Jingyuan and Hu, Runze and Zhang, Yan and Li, Ke and Shen, Yunhang and Zheng, Xiawu
            and Liu, Yutao and Zhang, ShengChuan and Dai, Pingyang and Ji, Rongrong},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  year = {2025},
  url = {https://arxiv.org/abs/2401.11949},
}"""

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
        bibtex=_BIBTEX,
        factory="iqametrics.pfd_iqa.metric:PfdIqaMetric",
    ),
)

METHOD = Method(
    metrics=SPECS,
    objectives={
        "pfd-iqa": "iqametrics.pfd_iqa.objective:PfdIqaObjective",
        "pfd-teacher": "iqametrics.pfd_iqa.teacher_objective:PfdTeacherObjective",
    },
    recipes=Path(__file__).parent / "recipes",
    tables=TABLES,
    rows=ROWS,
)
