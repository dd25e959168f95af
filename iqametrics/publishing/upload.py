"""From a training run to the Hub: a file that stands alone, a model card and a manifest entry, in one commit.

The Hub gets three files: `model.safetensors` (the checkpoint with all its tensors), `README.md` (the card) and
`config.json` (the checkpoint's metadata, and the recipe of the run where it is known); and one below `.eval_results/`
for each evaluation that is to stand on a leaderboard there.
"""

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iqametrics.common.digest import file_sha256
from iqametrics.errors import InputError, WeightsError
from iqametrics.metric import Metric
from iqametrics.publishing.card import LABELS, card, named_data
from iqametrics.publishing.eval_results import eval_results
from iqametrics.publishing.labels import label_kind
from iqametrics.publishing.privacy import check_names, without_paths
from iqametrics.registry import create_metric
from iqametrics.weights.checkpoint import load_checkpoint, save_checkpoint
from iqametrics.weights.hub import quiet
from iqametrics.weights.manifest import is_repo, is_revision
from iqametrics.weights.untrusted import read_sizes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MODEL_FILE, CARD_FILE, CONFIG_FILE = "model.safetensors", "README.md", "config.json"
_CHECKPOINT, _RECIPE, _RESULTS = "checkpoint.safetensors", "recipe.toml", "results.json"
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What was published, or would be after a dry run.

    Attributes:
        repo: Repository on the Hub.
        revision: The 40 digits of the commit; None for a dry run.
        url: Page of the commit; None for a dry run.
        card: Text of the model card.
        entry: Entry for `manifest.json`.
        evaluations: Files below `.eval_results/`, by their paths.
    """

    repo: str
    revision: str | None
    url: str | None
    card: str
    entry: dict[str, Any]
    evaluations: dict[str, str]


def publish_checkpoint(
    path: str | Path,
    repo: str,
    *,
    private: bool = False,
    dry_run: bool = False,
    licence: str | None = None,
    labels: str | None = None,
    tag: str | None = None,
    evaluated: Sequence[str] = (),
) -> Publication:
    """Check a checkpoint and upload it with its card, in one commit.

    Args:
        path: A checkpoint, or the folder of a training run, whose recipe is then published too.
        repo: "ORG/NAME"; created if it does not exist.
        private: Whether a new repository is private; a public one that exists is refused.
        dry_run: Whether to stop before anything is uploaded; needs neither network nor token.
        licence: Terms of the weights, in place of what the checkpoint says.
        labels: "human" or "made", see `card.LABELS`; None for what the run's folder shows.
        tag: Name of the checkpoint, in place of its own.
        evaluated: What was measured of it for leaderboards of the Hub, each "RECORD.json=ORG/DATASET:TASK"; see
            `eval_results`.

    Raises:
        WeightsError: If the checkpoint is missing, damaged, cannot score or states no licence; or the Hub refuses.
    """
    _check_arguments(repo, labels, tag)
    file, recipe, results = _find(Path(path))
    metadata, tensors = load_checkpoint(file)
    original = create_metric(metadata["metric"], weights=file, device="cpu")  # refuses what does not fit
    evaluations = dict(eval_results(text, file, str(original.fingerprint)) for text in evaluated)
    labels = labels or label_kind(metadata.get("training"), recipe)
    if results is not None and metadata.setdefault("results", results) != results:
        raise WeightsError(f"{path}: {_RESULTS} and the checkpoint hold different results; give the run's own files")
    changes = {key: value for key, value in (("licence", licence), ("tag", tag)) if value}
    metadata, recipe = without_paths({**metadata, **changes, "backbone": None}), without_paths(recipe)
    _check_record(metadata, path)
    check_names(metadata, recipe, path)
    with tempfile.TemporaryDirectory(prefix="iqametrics-publish-") as folder:
        whole = Path(folder) / MODEL_FILE
        save_checkpoint(whole, tensors, metadata)
        _check_scores(original, file, whole)
        digest = file_sha256(whole, error=WeightsError)
        text = card(metadata, sha256=digest, elements=sum(read_sizes(whole).values()), labels=labels, repo=repo)
        config = json.dumps(metadata | ({"recipe": recipe} if recipe else {}), indent=2)
        files: dict[str, Path | bytes] = {
            MODEL_FILE: whole,
            CARD_FILE: text.encode(),
            CONFIG_FILE: f"{config}\n".encode(),
            **{name: content.encode() for name, content in evaluations.items()},
        }
        revision, url = (None, None) if dry_run else _upload(repo, files, private=private)
        entry = _entry(metadata, repo, revision, digest, whole.stat().st_size)
    return Publication(repo=repo, revision=revision, url=url, card=text, entry=entry, evaluations=evaluations)


def _check_arguments(repo: str, labels: str | None, tag: str | None) -> None:
    if not is_repo(repo):
        raise WeightsError(f"{repo!r} is no repository of the Hub; write it as ORG/NAME")
    if labels is not None and labels not in LABELS:
        raise WeightsError(f"labels = {labels!r} is not known; choose one of {', '.join(LABELS)}")
    if tag is not None and not _TAG.fullmatch(tag):
        raise WeightsError(f"{tag!r} is no name for a checkpoint; use letters, digits, - and _")


def _find(path: Path) -> tuple[Path, dict[str, Any], dict[str, Any] | None]:
    """Find a checkpoint and, in the folder of a run, its recipe and results."""
    if not path.is_dir():
        return path, {}, None
    file = path / _CHECKPOINT
    if not file.is_file():
        raise WeightsError(f"{path}: holds no {_CHECKPOINT}; give the folder of a finished run")
    recipe, results = _read(path / _RECIPE, tomllib.loads), _read(path / _RESULTS, json.loads)
    return file, recipe or {}, None if results is None else results.get("results")


def _read(path: Path, parse: Callable[[str], Any]) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        value = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise WeightsError(f"{path}: cannot be read ({reason}); publish the checkpoint file alone") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: is not the file that the run wrote; publish the checkpoint file alone")
    return value


def _check_record(metadata: Mapping[str, Any], source: str | Path) -> None:
    """Refuse a record without a licence or a proper tag."""
    if not str(metadata.get("licence") or "").strip():
        raise WeightsError(
            f"{source}: states no licence; give --licence TEXT, the terms under which the weights may go"
        )
    if not _TAG.fullmatch(metadata["tag"]):
        raise WeightsError(f"{source}: tag {metadata['tag']!r} is no name for the manifest; give another by --tag")


def _check_scores(original: Metric, file: Path, whole: Path) -> None:
    """Score one image with the original and with the file to publish, twice each: all four must be the same number."""
    scores = []
    for metric in (original, create_metric(original.name, weights=whole, device="cpu")):
        reference, image = _test_pair()
        arguments = (image, reference) if metric.mode == "fr" else (image,)
        try:
            scores += [metric(*arguments), metric(*arguments)]
        except InputError as error:
            raise WeightsError(f"{file}: cannot score a test image ({error})") from error
    if not all(torch.equal(scores[0], score) for score in scores[1:]):
        values = ", ".join(f"{score.item():.9g}" for score in scores)
        raise WeightsError(f"{file}: does not score a test image the same each time ({values}); report this")


def _test_pair() -> tuple[Tensor, Tensor]:
    """Make a colourful pattern and a noisy version of it, (1, 3, 96, 128), the same on every machine."""
    rows, columns = torch.linspace(0, 1, 96)[:, None], torch.linspace(0, 1, 128)
    planes = [rows + columns, rows * columns * 2, (torch.sin(12 * rows) * torch.cos(9 * columns)) + 1]
    reference = (torch.stack(planes) / 2).clamp(0, 1)[None]
    noise = torch.rand(reference.shape, generator=torch.Generator().manual_seed(0))
    return reference, (reference + 0.2 * (noise - 0.5)).clamp(0, 1)


def _entry(metadata: Mapping[str, Any], repo: str, revision: str | None, digest: str, size: int) -> dict[str, Any]:
    return {
        "metric": metadata["metric"],
        "tag": metadata["tag"],
        "default": False,
        "source": "hub",
        "repo": repo,
        "revision": revision,
        "file": MODEL_FILE,
        "sha256": digest,
        "bytes": size,
        "licence": metadata["licence"],
        "training_data": named_data(metadata),
        "config": metadata["config"],
        "results": metadata.get("results", {}),
    }


def _upload(repo: str, files: Mapping[str, Path | bytes], *, private: bool) -> tuple[str, str]:
    """Upload the files in one commit, to a new repository if there is none; return the commit's 40 digits and page."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    if not huggingface_hub.get_token():
        raise WeightsError("no token for the Hub; set HF_TOKEN to one that may write, or run `hf auth login`")
    api = huggingface_hub.HfApi()
    operations = [
        huggingface_hub.CommitOperationAdd(name, str(file) if isinstance(file, Path) else file)
        for name, file in files.items()
    ]
    stays = ""
    try:
        with quiet(huggingface_hub):
            api.create_repo(repo, private=private or None, exist_ok=True)
            stays = "; the repository stays, without files if it was new"
            if private and not api.repo_info(repo).private:
                raise WeightsError(f"{repo}: exists and is public; make it private on its page, or leave out --private")
            commit = api.create_commit(repo, operations, commit_message="Publish with iqametrics")
    except (HfHubHTTPError, HTTPError, OSError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{repo}: {_failure(error)}{stays}") from error
    if not is_revision(str(commit.oid)):
        raise WeightsError(
            f"{repo}: the Hub gave {str(commit.oid)[:60]!r} as the commit; look at the repository's page"
        )
    return commit.oid, commit.commit_url


def _failure(error: Exception) -> str:
    """Say in one line why an upload failed and what to do."""
    causes = list(_causes(error))
    responses = [getattr(cause, "response", None) for cause in causes]
    status = next((response.status_code for response in responses if response is not None), None)
    remedies = {
        401: "the Hub does not accept the token; make one that may write and set HF_TOKEN",
        403: "the token may not write there; take a repository of your own, or a token with more rights",
        404: "the Hub knows no such repository or namespace, or not for this token; correct --repo",
        413: "the Hub finds a file too large; look at the limits of your account",
        429: "the Hub takes no more requests for now; wait a few minutes and run the same command again",
    }
    if status in remedies:
        return remedies[status]
    # The client wraps the reason in "Error while uploading"; the innermost error is the reason.
    reason = (str(causes[-1]).splitlines() or [""])[0][:200] or type(causes[-1]).__name__
    return f"the upload failed ({reason}); no commit was confirmed, run the same command again"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
