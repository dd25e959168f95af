"""Store digests of the ten random splits, by both shares, of made group lists and of the real datasets.

Run by hand when a dataset is added:

    python benchmarks/make_split_digests.py [LABELS]

LABELS is a folder with the score files of the datasets, each dataset's original layout in a folder of its name
(LABELS/kadid10k/dmos.csv); no images are needed. The stored digests of a dataset that is not there stay. A
digest that would change is an error: published results depend on it. Writes tests/data/split_digests.json.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from iqametrics.datasets.catalogue import list_datasets, load_dataset
from iqametrics.datasets.protocol import EIGHT_TWO, SIX_TWO_TWO, Parts, group_keys, parts_digest, repeated_parts
from iqametrics.datasets.sample import Sample

DIGESTS = Path(__file__).resolve().parent.parent / "tests" / "data" / "split_digests.json"
SHARES = {"6:2:2": SIX_TWO_TWO, "8:2": EIGHT_TWO}


def made_sets() -> dict[str, list[Sample]]:
    """Return small sets without files, with the group structures of real datasets."""
    folder = Path("set")
    return {
        "by reference, equal sizes": [
            Sample(folder / f"i{r:02d}_{k}.bmp", folder / f"I{r:02d}.BMP", 0.5) for r in range(1, 26) for k in range(12)
        ],
        "by reference, unequal sizes": [
            Sample(folder / f"{r}.{k}.png", folder / f"{r}.png", 0.5) for r in range(30) for k in range(1 + r % 7)
        ],
        "by image": [Sample(folder / f"{n}.jpg", None, 0.5) for n in range(500)],
        "by group": [Sample(folder / f"{n}.jpg", None, 0.5, group=f"burst {n // 3}") for n in range(200)],
    }


def splits(samples: Sequence[Sample], repeats: int = 10) -> dict[str, list[Parts]]:
    """Split with the seeds 0, 1, ...; return the splits by shares."""
    return {name: repeated_parts(samples, repeats=repeats, shares=shares) for name, shares in SHARES.items()}


def digests(samples: Sequence[Sample], ten: dict[str, list[Parts]] | None = None) -> dict[str, list[str]]:
    """Return the digests of those splits by shares."""
    keys = group_keys(samples)
    return {name: [parts_digest(keys, parts) for parts in found] for name, found in (ten or splits(samples)).items()}


def real_set(labels: Path, name: str) -> list[Sample] | None:
    """Load a dataset from the folder of its name, or from the only folder in that; return None if it is missing."""
    folder = labels / name
    if not folder.is_dir():
        return None
    entries = list(folder.iterdir())
    return load_dataset(name, entries[0] if len(entries) == 1 and entries[0].is_dir() else folder, check_files=False)


def main() -> int:
    """Write the file; return 1 if a digest would change."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, nargs="?", help="folder of the score files")
    labels = parser.parse_args().labels
    frozen = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {"made": {}, "datasets": {}}
    found = {
        "made": {name: digests(samples) for name, samples in made_sets().items()},
        "datasets": {
            name: digests(samples) for name in list_datasets() if labels and (samples := real_set(labels, name))
        },
    }
    changed = [
        name
        for kind, entries in found.items()
        for name, entry in entries.items()
        if frozen[kind].get(name, entry) != entry
    ]
    if changed:
        print(f"the splits of {', '.join(changed)} are not the frozen ones; nothing was written", file=sys.stderr)
        return 1
    DIGESTS.parent.mkdir(exist_ok=True)
    merged = {kind: {**frozen[kind], **entries} for kind, entries in found.items()}
    DIGESTS.write_text(json.dumps(merged, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
