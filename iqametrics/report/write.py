"""Writes the page of a run into a file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from iqametrics.common.files import read_text, write_file
from iqametrics.errors import DataError
from iqametrics.gate.baseline import finite, parse_rows
from iqametrics.gate.pairing import pair_names
from iqametrics.report.data import Extras, report_data, spec_of
from iqametrics.report.maps import explained, worst
from iqametrics.report.page import interactive_page
from iqametrics.report.pictures import embedded
from iqametrics.report.records import Scores

if TYPE_CHECKING:
    from iqametrics.metric import Metric


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a page is to hold besides the scores.

    Attributes:
        root: Folder that the paths of the run are relative to.
        embed: Number of pictures, the worst by each metric, of which copies stand in the page; with their references.
        explain: Number of pictures, the worst by each metric, whose explanation maps stand in the page.
    """

    root: Path
    embed: int = 0
    explain: int = 0


def write_report(
    path: Path,
    run: Scores,
    other: Scores | None = None,
    *,
    options: Options,
    metrics: "Sequence[Metric]" = (),
    notes: Sequence[str] = (),
) -> int:
    """Write the page.

    Args:
        path: The file.
        run: The run.
        other: The run that it is set against.
        options: What the page is to hold.
        metrics: The metrics, to explain their scores.
        notes: Remarks on the run.

    Returns:
        The size of the file in bytes.

    Raises:
        DataError: If the runs have nothing in common, or the file cannot be written.
    """
    maps = explained(metrics, run.pictures, options.explain, options.root) if options.explain else {}
    copies = dict(embedded(_chosen(run, other, options.embed), options.root)) if options.embed else {}
    extras = Extras(pictures=copies, maps=maps, notes=notes)
    data = report_data(run, other, root=options.root, folder=path.parent, extras=extras)
    content = interactive_page(run.title, data).encode()
    write_file(path, content, error=DataError, remedy="choose another file")
    return len(content)


def with_opinions(run: Scores, path: Path) -> Scores:
    """Add opinion scores, from a CSV with the columns image,mos, to the pictures of the same names.

    Raises:
        DataError: If the file cannot be read, or has no opinion of any picture.
    """
    rows = parse_rows(read_text(path, error=DataError, errors="surrogateescape"), path)
    try:
        opinions = {str(row["image"]): finite(row["mos"]) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: has a row without image and mos; give a CSV with these two columns") from error
    partners = pair_names([picture.image for picture in run.pictures], opinions)
    if not partners:
        raise DataError(f"{path}: has no opinion of a picture of {run.title}; its names must be those of the pictures")
    pictures = tuple(
        replace(picture, mos=opinions[partners[picture.image]] if picture.image in partners else picture.mos)
        for picture in run.pictures
    )
    return replace(run, pictures=pictures)


def _chosen(run: Scores, other: Scores | None, count: int) -> list[str]:
    """List pictures to copy into the page: the worst by each metric, and what they are compared with."""
    chosen = {}
    for name in run.metrics:
        spec = spec_of(name)
        higher = spec is None or spec.higher_is_better
        for picture in worst(run.pictures, name, count, higher_is_better=higher):
            chosen[picture.image] = picture
    partners = {} if other is None else pair_names(chosen, [picture.image for picture in other.pictures])
    paths = [path for picture in chosen.values() for path in (picture.image, picture.reference) if path]
    return [*paths, *partners.values()]
