"""How one job is done: trained and measured, or measured with a finished metric."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqametrics.benchmark.plan import Job, Target, cache_folder, image_passes, overrides
from iqametrics.common.files import write_file
from iqametrics.datasets.labelled import LabelledImages
from iqametrics.errors import DataError, TrainingError

if TYPE_CHECKING:
    from iqametrics.datasets.sample import Sample
    from iqametrics.metric import Metric

SCORES = "scores.csv"
SCORE_COLUMNS = ("dataset", "image", "group", "mos", "score")
"""Columns of a job's scores; `score` is turned so that higher is better."""

_TRAINING = "train"


class Executor:
    """Does jobs on this machine.

    Args:
        sources: Where the datasets are.
        device: "auto", "cpu", "cuda" or "mps".
        folder: Folder of the run, whose jobs share the cached features of frozen levels.
    """

    def __init__(self, sources: Mapping[str, LabelledImages], device: str, folder: Path) -> None:
        self.sources = sources
        self.device = device
        self.cache = cache_folder(folder)
        self._samples: dict[str, list[Sample]] = {}
        self._metric: tuple[str, Metric] | None = None

    def __call__(self, job: Job, folder: Path) -> dict[str, Any]:
        """Do a job.

        Returns:
            Figures by place, the rule by which the epoch was chosen, and where it was done.

        Raises:
            IqaError: If data, weights or an extra are missing, or the training fails.
        """
        for name in job.datasets:
            if name not in self.sources:
                raise DataError(f"no dataset {name!r} is configured; add [datasets.{name}] to the file of --data")
        # Before the training, which may take days: a dataset that cannot be read is reported at once.
        images = {name: len(self._load(name)) for name in job.datasets}
        rows: list[dict[str, Any]] = []
        body = self._train(job, folder, rows) if job.recipe else self._score(job, rows)
        write_file(folder / SCORES, _csv_text(rows), error=TrainingError, remedy="make room and use --resume")
        return {**body, "images": images, **_place(job)}

    def _train(self, job: Job, folder: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
        from iqametrics.registry import create_metric
        from iqametrics.training.folder import with_seed_as_begun
        from iqametrics.training.recipe import read_recipe
        from iqametrics.training.recipes import find_recipe
        from iqametrics.training.run import CHECKPOINT, train_recipe

        path, changes = find_recipe(job.recipe), overrides(job, self.sources[job.train], self.device, self.cache)
        earlier = read_recipe(path, [text for text in changes if not text.startswith("train.seed=")]).train.seed
        recipe = with_seed_as_begun(folder / _TRAINING, read_recipe(path, changes), earlier)
        run = train_recipe(recipe, folder / _TRAINING, resume=True)
        results = json.loads((run / "results.json").read_text(encoding="utf-8"))
        figures: dict[str, Any] = {}
        metric = create_metric(job.metric, weights=run / CHECKPOINT, device=self.device)
        for target in job.targets:
            if target.dataset == job.train:
                figures[job.place(target)] = results["results"][target.part]
                rows += self._predictions(job, run, target.part)
                continue
            figures[job.place(target)] = self._measure(metric, job, target, rows)
        made_with = {"fingerprint": str(metric.fingerprint)}
        return {"figures": figures, "selection": results["selection"], "passes": image_passes(job), **made_with}

    def _score(self, job: Job, rows: list[dict[str, Any]]) -> dict[str, Any]:
        from iqametrics.registry import create_metric

        # Jobs of one metric follow each other, and some take long to load.
        if self._metric is None or self._metric[0] != job.row:
            metric = create_metric(job.finished_metric, device=self.device)
            self._metric = (job.row, metric)
        metric = self._metric[1]
        figures = {job.place(target): self._measure(metric, job, target, rows) for target in job.targets}
        made_with = {"trained_on": _trained_on(job), "fingerprint": str(metric.fingerprint)}
        return {"figures": figures, "selection": "not trained", "passes": None, **made_with}

    def _measure(self, metric: "Metric", job: Job, target: Target, rows: list[dict[str, Any]]) -> dict[str, Any]:
        from iqametrics.datasets.protocol import select
        from iqametrics.evaluation.measure import measure

        source = self.sources[target.dataset]
        samples = select(self._load(target.dataset), target.part)
        sign = 1 if metric.higher_is_better else -1
        scores = [sign * score for score in score_samples(metric, samples, job.metric)]
        groups = source.interval_groups(samples)
        for sample, group, score in zip(samples, groups, scores, strict=True):
            row = {"dataset": target.dataset, "image": source.name_of(sample.image), "group": group}
            rows.append({**row, "mos": sample.mos, "score": score})
        return measure(scores, [sample.mos for sample in samples], groups=groups)

    def _predictions(self, job: Job, run: Path, part: str) -> list[dict[str, Any]]:
        """Read the trainer's predictions for one part.

        The test part must be the one that finished metrics score, and a variant must not have scored any of it.

        Raises:
            DataError: If it is another part.
        """
        from iqametrics.datasets.protocol import select

        with (run / "predictions.csv").open(encoding="utf-8", newline="") as file:
            found = [row for row in csv.DictReader(file) if row["part"] == part]
        protocol = "official" if job.split is None else f"random:{job.split}:test"
        tested = sorted(sample.image.name for sample in select(self._load(job.train), protocol))
        names = sorted(Path(row["image"]).name for row in found)
        if part == "test" and names != tested:
            raise DataError(f"{job.recipe}: was tested on other images than the protocol's {protocol}; see its [split]")
        if part != "test" and set(names) & set(tested):
            raise DataError(f"{job.recipe}: its {part} part has images of the protocol's {protocol}; see its [split]")
        return [{"dataset": job.train, **{name: row[name] for name in SCORE_COLUMNS[1:]}} for row in found]

    def _load(self, name: str) -> "list[Sample]":
        if name not in self._samples:
            option = f"mos_range = [1, 5] in [datasets.{name}]"
            self._samples[name] = self.sources[name].load(option)
        return self._samples[name]


def score_samples(metric: "Metric", samples: "Sequence[Sample]", name: str) -> list[float]:
    """Score all images with a metric; results on a part of them could not be compared.

    Raises:
        DataError: If an image has no reference that the metric needs, or cannot be scored.
    """
    from tqdm import tqdm

    from iqametrics.scoring import Item, score_items

    if metric.mode == "fr" and any(sample.reference is None for sample in samples):
        raise DataError(f"{name} compares with a reference, and images of this dataset have none; leave it out here")
    items = [Item(str(s.image), None if s.reference is None else str(s.reference)) for s in samples]
    # disable=None: no bar where stderr is not a terminal.
    found = list(tqdm(score_items([metric], items), total=len(items), desc=name, unit="image", disable=None))
    failed = [row for row in found if row.score is None]
    if failed:
        raise DataError(f"{name}: {len(failed)} of {len(found)} images cannot be scored, first: {failed[0].error}")
    return [row.score for row in found if row.score is not None]


def read_scores(folder: Path) -> list[dict[str, Any]]:
    """Read the scores that a job kept, with opinion and score as numbers; an empty list if it kept none.

    Raises:
        DataError: If the file is damaged.
    """
    path = folder / SCORES
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        try:
            return [{**row, "mos": float(row["mos"]), "score": float(row["score"])} for row in csv.DictReader(file)]
        except (KeyError, ValueError) as error:
            raise DataError(f"{path}: is damaged ({error}); delete the job's folder and do it again") from error


def _csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, SCORE_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _trained_on(job: Job) -> list[str]:
    """Return the names of the data that a finished metric's checkpoint says it was trained on."""
    from iqametrics.registry import metric_info

    training = metric_info(job.finished_metric).metadata.get("training")
    data = training.get("data") if isinstance(training, dict) else None
    return [str(name) for name in data] if isinstance(data, list) else []


def _place(job: Job) -> dict[str, Any]:
    """Return where a job is done: commit, hardware and versions, also of a package that the metric is from."""
    from importlib.metadata import version

    from iqametrics.training.environment import this_session

    session = this_session([], {})
    place = {name: session[name] for name in ("commit", "changed_since_commit", "python", "packages", "hardware")}
    package, slash, _ = job.metric.partition("/")
    return place | ({"packages": {**place["packages"], package: version(package)}} if slash else {})
