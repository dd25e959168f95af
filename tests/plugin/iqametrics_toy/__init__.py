"""A toy method: what it declares of itself, without importing torch."""

from pathlib import Path

from iqametrics.spec import Method, MetricSpec, PaperTable, TableRow

HERE = Path(__file__).parent

SPEC = MetricSpec(
    name="toy-nr",
    mode="nr",
    higher_is_better=True,
    score_range=(0.0, 1.0),
    range_is_bound=False,
    differentiable=True,
    paper="An example, docs/extending.md",
    paper_url="https://example.org/toy",
    factory="iqametrics_toy.metric:ToyMetric",
)

METHOD = Method(
    metrics=(SPEC,),
    objectives={"toy-nr": "iqametrics_toy.objective:ToyObjective"},
    recipes=HERE / "recipes",
    tables=(
        PaperTable(id="toy-table1", title="A toy", paper="An example", file=HERE / "toy-table1.csv", protocol="8:2"),
    ),
    rows=(
        TableRow(table="toy-table1", row="Toy", metrics={"nr": "toy-nr"}),
        TableRow(table="toy-table1", row="Toy, one scale", metrics={"nr": "toy-nr"}, changes=("model.scales=1",)),
    ),
)
