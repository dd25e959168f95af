"""What a method declares of itself: its metrics, what can be trained, its recipes and its paper's tables; no torch.

A method's package holds one `METHOD`, a `Method`. The packages in the tree, those that are installed beside this one
(entry points `iqametrics.metrics`) and `register_metric` all give the same record.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Mode = Literal["fr", "nr"]
View = Literal["fit", "native"]
VIEWS = ("fit", "native")
"""How a metric looks at an image: whole, or in tiles at full size."""
Shares = Literal["6:2:2", "8:2"]
Protocol = Literal["6:2:2", "8:2", "official", "cross"]


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """The constants of a metric, declared beside its definition.

    Attributes:
        name: Registered name, lower case, e.g. "bpclip-nr".
        mode: "fr" compares a distorted image with its reference, "nr" needs the distorted image only.
        higher_is_better: Direction of the score.
        score_range: Nominal range, ascending whatever the direction of the score.
        range_is_bound: Whether scores can never leave `score_range`.
        differentiable: Whether the score has a useful gradient with respect to the distorted image.
        paper: Title, venue and year.
        paper_url: Address of the paper.
        factory: "module:Class" of the Metric subclass, imported when the metric is first asked for.
        bibtex: BibTeX entry of the paper; "" has one made of `paper` and `paper_url`.
    """

    name: str
    mode: Mode
    higher_is_better: bool
    score_range: tuple[float, float]
    range_is_bound: bool
    differentiable: bool
    paper: str
    paper_url: str
    factory: str
    bibtex: str = ""

    @property
    def shares_state(self) -> bool:
        """Whether it cannot score several images at once in threads: pyiqa's metrics keep what they compute with."""
        return self.name.startswith("pyiqa/")


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table of a paper; its numbers are in a file.

    Attributes:
        id: Its name on the command line, e.g. "bpclip-table2".
        title: What it compares.
        paper: Title, venue and year.
        file: CSV of its numbers, with the columns row,train,dataset,statistic,value,std,note; comment lines at its top
            say what was corrected and what looks like a slip of the paper.
        protocol: Shares of the training, validation and test parts, the dataset's own split ("official"), or training
            on another dataset ("cross").
        shares: How a dataset with ("fr") and without ("nr") references is split, where its own split is not used.
        mode: Kind of its compared methods, since some names mean a method of either kind.
        is_cost: Whether it is about cost, which needs no training.
    """

    id: str
    title: str
    paper: str
    file: Path
    protocol: Protocol
    shares: Mapping[Mode, Shares] = field(default_factory=lambda: {"fr": "8:2", "nr": "8:2"})
    mode: Mode = "nr"
    is_cost: bool = False


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A row of a paper's table that a method of this package fills by training.

    Attributes:
        table: Id of the table, of the method's own paper or of another one.
        row: Name of the row as the paper prints it; a row that the paper does not have is added, without numbers.
        metrics: Names of what is trained on a dataset with ("fr") and on one without ("nr") references.
        changes: Changes of the recipe, `table.key=value` each, that make it the row's variant.
    """

    table: str
    row: str
    metrics: Mapping[Mode, str]
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Method:
    """All that a method declares of itself.

    Attributes:
        metrics: The constants of its metrics.
        objectives: "module:Class" of each `iqametrics.objective.Objective` by its name, which is a recipe's
            `metric.name` (most often the name of a metric).
        recipes: Folder of its recipes: SIZE/NAME.toml and SIZE/NAME/DATASET.toml, NAME being one of `objectives`, so
            that a recipe is called "lite/bpclip-nr" or "paper/bpclip-fr/kadid10k". None where it has none.
        tables: The tables of its paper.
        rows: The rows of these tables, and of other papers' tables, that it fills.
    """

    metrics: tuple[MetricSpec, ...] = ()
    objectives: Mapping[str, str] = field(default_factory=dict)
    recipes: Path | None = None
    tables: tuple[PaperTable, ...] = ()
    rows: tuple[TableRow, ...] = ()
