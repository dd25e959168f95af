"""BPCLIP, with and without a reference: what it declares of itself, without importing torch."""

from pathlib import Path

from iqametrics.bpclip.tables import ROWS, TABLES
from iqametrics.spec import Method, MetricSpec

_PAPER = (
    "BPCLIP: A Bottom-up Image Quality Assessment from Distortion to Semantics Based on CLIP (Song et al., ICME 2025)"
)
_PAPER_URL = "https://arxiv.org/abs/2506.17969"

_BIBTEX = """\
@inproceedings{song2025bpclip,
  title = {{BPCLIP}: A Bottom-up Image Quality Assessment from Distortion to Semantics Based on {CLIP}},
  author = {Song, Chenyue and Hui, Chen and Zhang, Wei and Zhu, Haiqi and Liu, Shaohui and Huang, Hong and Jiang, Feng},
  booktitle = {IEEE International Conference on Multimedia and Expo (ICME)},
  year = {2025},
  url = {https://arxiv.org/abs/2506.17969},
}"""

SPECS: tuple[MetricSpec, ...] = (
    MetricSpec(
        name="bpclip-fr",
        mode="fr",
        higher_is_better=True,
        score_range=(0.0, 1.0),
        range_is_bound=False,
        differentiable=True,
        paper=_PAPER,
        paper_url=_PAPER_URL,
        bibtex=_BIBTEX,
        factory="iqametrics.bpclip.metric:BpclipFrMetric",
    ),
    MetricSpec(
        name="bpclip-nr",
        mode="nr",
        higher_is_better=True,
        score_range=(0.0, 1.0),
        range_is_bound=False,
        differentiable=True,
        paper=_PAPER,
        paper_url=_PAPER_URL,
        bibtex=_BIBTEX,
        factory="iqametrics.bpclip.metric:BpclipNrMetric",
    ),
)

METHOD = Method(
    metrics=SPECS,
    objectives={
        "bpclip-fr": "iqametrics.bpclip.objective:BpclipObjective",
        "bpclip-nr": "iqametrics.bpclip.objective:BpclipObjective",
    },
    recipes=Path(__file__).parent / "recipes",
    tables=TABLES,
    rows=ROWS,
)
