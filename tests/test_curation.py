"""The recipes of docs/curation.md, run as they stand there, against the tools themselves where these are installed."""

import importlib
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from places import ROOT

from iqametrics import create_metric

METRIC = "pfd-iqa.lite"
# Other people's code: its warnings are not ours.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def recipe(name):
    """The code of a recipe."""
    page = (ROOT / "docs" / "curation.md").read_text(encoding="utf-8")
    return re.search(rf"<!-- recipe: {name} -->\n```python\n(.*?)```", page, re.DOTALL)[1]


@pytest.fixture
def pictures(tmp_path):
    """Two good pictures and a damaged one, in the order of their names."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(generator.integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(folder / name)
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes()[:500])
    return sorted(folder.iterdir())


@pytest.fixture
def expected(pictures):
    metric = create_metric(METRIC)
    return [metric(path).item() for path in pictures[:2]]


def test_datasets(pictures, expected):
    datasets = pytest.importorskip("datasets")
    paths = [str(path) for path in pictures]
    dataset = datasets.Dataset.from_dict({"image": paths}, features=datasets.Features({"image": datasets.Image()}))
    scope = {"dataset": dataset}
    exec(recipe("datasets"), scope)  # the page's own code
    found = scope["dataset"].remove_columns("image")
    assert found["quality"][:2] == pytest.approx(expected, abs=1e-6)
    assert found["quality"][2] is None
    assert found["quality_error"][:2] == [None, None]
    assert found["quality_error"][2]


def test_fiftyone(pictures, expected):
    fo = pytest.importorskip("fiftyone")
    try:
        dataset = fo.Dataset()
    except Exception as error:  # whatever says that there is no database
        pytest.skip(f"FiftyOne has no database here: {error}")
    dataset.add_samples([fo.Sample(filepath=str(path)) for path in pictures])
    scope = {}
    exec(recipe("fiftyone"), scope)
    registered = []
    scope["register"](SimpleNamespace(register=registered.append))
    (kind,) = registered
    operator = kind()
    assert operator.config.name == "score_quality"
    from fiftyone.operators.executor import ExecutionContext, Executor

    request = {"dataset_name": dataset.name, "params": {"metric": METRIC}}
    context = ExecutionContext(request_params=request, executor=Executor(), operator_uri="@you/score_quality")
    assert operator.resolve_input(context) is not None
    assert operator.execute(context) == {"scored": 2, "failed": 1}
    dataset.reload()
    assert dataset.values("quality")[:2] == pytest.approx(expected, abs=1e-6)
    assert dataset.values("quality")[2] is None
    assert dataset.values("quality_error")[2]
    dataset.delete()


def test_nemo_curator(pictures, expected, tmp_path):
    pytest.importorskip("nemo_curator")
    module = tmp_path / "quality_stage.py"
    module.write_text(recipe("nemo_curator"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        patch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
        stage = importlib.import_module("quality_stage").QualityStage(metric=METRIC, least=min(expected))
        from nemo_curator.backends.ray_data import RayDataExecutor
        from nemo_curator.pipeline import Pipeline
        from nemo_curator.tasks import ImageBatch
        from nemo_curator.tasks.image import ImageObject

        first = ImageObject(image_data=np.asarray(Image.open(pictures[0])), image_id="a")
        rest = [ImageObject(image_path=str(path), image_id=path.stem) for path in pictures[1:]]
        task = ImageBatch(dataset_name="test", data=[first, *rest])
        (done,) = Pipeline(name="test", stages=[stage]).run(RayDataExecutor(), initial_tasks=[task])
    assert [image.image_id for image in done.data] == ["a", "b"]
    assert [image.metadata["quality"] for image in done.data] == pytest.approx(expected, abs=1e-6)
    assert json.dumps([image.metadata for image in done.data])
