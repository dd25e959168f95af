"""The toy's dataset: photographs in images/, and a line "NAME SCORE" for each in scores.txt, 0 to 100."""

from iqametrics.datasets.release import DatasetSpec, Release, number, read_lines, rescale
from iqametrics.datasets.sample import Sample

RANGE = (0.0, 100.0)


def read(release: Release, scores: str) -> list[Sample]:
    """Read the samples in the order of the score file."""
    path = release.require("scores.txt")
    samples = []
    for line, text in read_lines(path):
        where = f"{path}, line {line}"
        name, _, score = text.rpartition(" ")
        mos = rescale(number(score, where), RANGE, where)
        samples.append(Sample(image=release.path(f"images/{name}"), reference=None, mos=mos))
    return samples


SPEC = DatasetSpec(
    name="toy-set",
    title="Toy set",
    mode="nr",
    images=48,
    score_name="MOS",
    score_range=RANGE,
    paper="An example, docs/extending.md",
    url="https://example.org/toy",
    layout=("images/NAME.png", "scores.txt: NAME SCORE"),
    reader=read,
)
