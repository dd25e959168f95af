"""KADID-10k, and synthetic sets in its layout, made by `iqametrics synthesize --layout kadid10k`."""

import csv
import io
import re
from collections.abc import Iterable, Mapping

from iqametrics.datasets.release import DatasetSpec, Release, number, read_csv, rescale
from iqametrics.datasets.sample import Sample
from iqametrics.errors import DataError

SCORES_FILE = "dmos.csv"
_COLUMNS = ("dist_img", "ref_img", "dmos", "var")
_RANGE = (1.0, 5.0)
_NAME = re.compile(r"I(\d{2,})_(\d\d)_(\d\d)\.png", re.IGNORECASE)


def read(release: Release, scores: str) -> list[Sample]:
    """Read the images that `dmos.csv` lists.

    Raises:
        DataError: If a file is missing or is not the release's.
    """
    from iqametrics.datasets.distortions import DISTORTIONS

    path = release.require(SCORES_FILE)
    distorted = release.first("images", "distorted_images")
    pristine = release.first("images", "reference_images")
    samples = []
    for line, row in read_csv(path, _COLUMNS):
        where = f"{path}, line {line}"
        found = _NAME.fullmatch(row["dist_img"])
        if found is None or int(found[2]) not in DISTORTIONS:
            raise DataError(f"{where}: {row['dist_img']!r} is not IRR_TT_LL.png; is this the original score file?")
        distortion = DISTORTIONS[int(found[2])]
        samples.append(
            Sample(
                image=release.path(f"{distorted}/{row['dist_img']}"),
                reference=release.path(f"{pristine}/{row['ref_img']}"),
                mos=rescale(number(row["dmos"], where), _RANGE, where),
                # Made labels are not means of opinions, so their column is empty.
                mos_std=number(row["var"], where) / 4 if row["var"] else None,
                distortion=distortion.name,
                level=int(found[3]),
                kind=distortion.id,
                liqe_class=distortion.liqe_class,
            )
        )
    return samples


def score_table(rows: Iterable[Mapping[str, object]]) -> str:
    """Write labels as the text of a `dmos.csv`, on 1..5 and without a spread.

    Args:
        rows: Mappings with `image` and `reference`, paths relative to a folder, and `mos` in [0, 1].
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        image, reference = (str(row[name]).rpartition("/")[2] for name in ("image", "reference"))
        writer.writerow([image, reference, round(1 + 4 * float(str(row["mos"])), 6), ""])
    return text.getvalue()


SPEC = DatasetSpec(
    name="kadid10k",
    title="KADID-10k",
    mode="fr",
    images=10_125,
    references=81,
    score_name="DMOS",
    score_range=_RANGE,
    spread='standard deviation of the opinions: the column "var" holds it, not the variance',
    paper="Lin, Hosu and Saupe, KADID-10k: a large-scale artificially distorted IQA database, QoMEX 2019",
    url="https://database.mmsp-kn.de/kadid-10k-database.html",
    layout=(
        "images/IRR.png and images/IRR_TT_LL.png, or reference_images/ and distorted_images/",
        "dmos.csv (dist_img,ref_img,dmos,var)",
    ),
    traps=(
        'the column "dmos" RISES with quality, in spite of its name',
        'the column "var" is a standard deviation: 0.249 at a mean of 4.93, where 30 whole opinions allow no more',
    ),
    labels="scenes by LIQE's authors, in the package; labels.tsv in the root takes their place",
    reader=read,
)
